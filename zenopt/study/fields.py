"""The fields of a study spec in words: what each means, and what it may be."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from zenopt.core.changing import MayChange
from zenopt.core.costs import COST_KINDS

#: What the fields of a study spec mean, by dotted path. A field without an entry is an error.
FIELDS = {
    "name": "Name of the study, unless `--study-name` gives another.",
    "description": "One line for `zenopt studies`.",
    "space": "Which architectures exist.",
    "space.name": "`superres`, `mobile`, `nasbench201`, an installed space, or `module:object`.",
    "space.initial": "Structure string the search starts from; else the space's own.",
    "space.bounds": "`narrow` puts the values of `space.narrow` over `space.options`.",
    "space.narrow": "Bounds in which random points are often within the budget, for samplers that draw uniformly.",
    "space.options": "Options of the space, see below.",
    "resolution": "Side of the input image, pixels.",
    "num_classes": "Outputs of the classifier.",
    "use_se": "Count and build squeeze-excite gates.",
    "budget": "Limits; what is not named is not limited.",
    "budget.latency_ms": "Most milliseconds per image, predicted for `latency.device`.",
    "budget.counting": "Whose params and MACs are limited: the `true` ones, or `zennas`'s own.",
    "classes": "A list of tighter budgets, e.g. `[{convs: 10}, {convs: 20}]`. The proposals of `zen` take turns among "
    "them, each with an evolution of its own, and the second stage trains the best of each.",
    **{
        f"{section}.{name}": kind.limit
        for section in ("budget", "classes")
        for name, kind in COST_KINDS.items()
    },
    "latency": "Where latencies come from.",
    "latency.device": "A profile's name (`zenopt latency devices`) or file.",
    "latency.mode": "`predicted`; `table`: new blocks are measured here; `measured`: whole networks are. "
    "The last two need a profile calibrated on this device.",
    "latency.guards": "Limits that keep a search from exploiting its latency model; off unless given.",
    "latency.guards.counterpart": "A second profile to compare with; `auto`: the one the profile names.",
    "latency.guards.disagreement": "Largest relative difference of the two predictions.",
    "latency.guards.budget_under_both": "Whether the second prediction must keep the budget, too.",
    "latency.guards.outside_share": "Largest share of the time in convolutions outside the measured range.",
    "latency.guards.max_expansion": "Largest ratio of a block's width to its bottleneck.",
    "latency.guards.min_bottleneck": "Fewest bottleneck channels.",
    "latency.guards.max_stem_width": "Most channels of the stem.",
    "latency.margin": "Share of the latency budget that is searched to: a search exploits a predictor's errors.",
    "objective": "Where the value of an architecture comes from.",
    "objective.kind": "An evaluator: `proxy`, a column of a `table` of known results, `train`, `supernet`, or "
    "`module:Class`.",
    "objective.table": "CSV or CSV.gz file with a column `arch_str` or `structure`.",
    "objective.column": "The table's column; by default the last one of `columns_by_epoch`.",
    "objective.columns_by_epoch": "Columns of values after so many epochs, e.g. `{10: acc_10, 50: acc_50}`: "
    "`training.pruner` ends look-ups by them.",
    "objective.direction": "Which values of the table are better.",
    "objective.weights": "Folder of a trained supernet (`zenopt supernet train`).",
    "objective.images": "Held-back images that judge a path; all that are kept unless given.",
    "objective.settling": "Training images that give a path its statistics; all that are kept unless given.",
    "objective.amp": "Lower precision in which paths are judged: `bf16` or `fp16`.",
    "objective.target": "Accuracy in percent above which more counts no more, so that the cheaper of two wins; needs "
    "`balance` or further `objectives`.",
    "objective.balance": "Points of accuracy that a path loses for each cost in proportion to the budget, e.g. "
    "`{macs: 2, params: 2}`: 2 each at the limit, 1 at half of it.",
    "objective.options": "Options of an evaluator of your own, which its class lists with their defaults.",
    "objective.then": "`train`: a second stage trains the best of each class; `export-best` writes what trained best.",
    "objectives": "What is optimised: `score` first; costs after it make a study of several objectives.",
    "proxy": "The training-free score.",
    "proxy.name": "See `zenopt proxies`; a combination (`vote`, `az-nas`, `sum`); or `module:object`.",
    "proxy.batch_size": "Images of a score; else `proxy.batch_sizes` of the first worker's device.",
    "proxy.parts": "Proxies of a combination with their weights.",
    "proxy.reference": "Random architectures a combination ranks a candidate among.",
    "proxy.batch_sizes": "Score batch by kind of device.",
    "proxy.batch_sizes.cpu": "On a CPU.",
    "proxy.batch_sizes.cuda": "On an NVIDIA or AMD GPU.",
    "proxy.batch_sizes.mps": "On an Apple GPU.",
    "proxy.repeats": "Draws that are averaged into one score.",
    "proxy.gamma": "Size of the input change of the Zen-score.",
    "proxy.residual": "Score with shortcuts or without; else the proxy's own default.",
    "sampler": "What proposes architectures. Numbers that may change over the study are given as "
    "`{start: 0.1, every: 50, mul: 0.5}`.",
    "sampler.options": "Options of a sampler that is not zenopt's own, as its class takes them.",
    "sampler.name": "`zen` and `aging` are evolutions, `surrogate`, `reinforce` and `ppo` learn from the study's own "
    "trials, `local-search` and `annealing` walk, `rejection` is random within the budget, the others are Optuna's.",
    "sampler.population": "Trials that may become parents; by default 512, of `aging` 64.",
    "sampler.mutation": "Zen-NAS's published mutation, or the cheaper one of its fork.",
    "sampler.random_initial": "Random architectures before the evolution begins; by default none, of `aging` as many "
    "as the population (8 with `guide.moves`), of `annealing` 8, of `local-search` 1.",
    "sampler.screening": "Choose every proposal by the closed-form score; `auto` where the proxy is a Zen-score.",
    "sampler.screening_candidates": "Candidates compared by the closed form per proposal.",
    "sampler.explore": "Share of proposals that skip the screening.",
    "sampler.tournament": "Size of a tournament of aging evolution.",
    "sampler.guide": "A cheap score that decides what is worth an evaluation, for the two evolutions.",
    "sampler.guide.proxy": "A proxy,",
    "sampler.guide.table": "or a table of its scores",
    "sampler.guide.column": "and the column.",
    "sampler.guide.direction": "Which values of the table are better.",
    "sampler.guide.batch_size": "Images of a cheap score.",
    "sampler.guide.resolution": "Side of the image of a cheap score, pixels; else the study's.",
    "sampler.guide.warm_up": "Random architectures that are ranked before the evolution begins.",
    "sampler.guide.first": "How many of them are evaluated.",
    "sampler.guide.moves": "Children of a parent that are compared per proposal.",
    "sampler.surrogate": "What the search that learns begins with, and what it chooses from.",
    "sampler.surrogate.begin": "Trials before the predictor decides.",
    "sampler.surrogate.candidates": "Candidates of a space that is not listed; a listed one is compared as a whole.",
    "sampler.surrogate.ranking": "Input whose larger values are thought better before anything is trained, e.g. "
    "`log MACs` or `zen at equal convolutions`, several with `and`; `auto`: the family's, `none`: none.",
    "sampler.surrogate.inputs": "Groups of inputs that may be read, e.g. `[costs, paths]`; by default all. Evidence "
    "decides which of them are read.",
    "sampler.surrogate.warm_start": "Earlier results, `STORAGE#STUDY` or `TABLE.csv#COLUMN`; how far they are to be "
    "trusted is learned.",
    "sampler.annealing": "How the sampler `annealing` begins and cools.",
    "sampler.annealing.temperature": "At the beginning, in spreads of the random architectures' scores; 0 takes only "
    "what is better.",
    "sampler.annealing.cooling": "Factor of the temperature per step.",
    "sampler.controller": "How the samplers `reinforce` and `ppo` learn.",
    "sampler.controller.learning_rate": "Of Adam.",
    "sampler.controller.entropy": "Weight of the policy's entropy beside the reward; more explores longer.",
    "sampler.controller.baseline_decay": "Of the moving average that rewards are compared with.",
    "sampler.controller.hidden": "Width of the LSTM.",
    "sampler.controller.batch": "Trials of one update; by default 1 of `reinforce`, 4 of `ppo`.",
    "sampler.controller.epochs": "Steps per batch of `ppo`.",
    "sampler.controller.clip": "How much likelier or less likely an update of `ppo` may make a trial's decisions.",
    "training": "The second stage, where `objective.then` is `train`. A run may change it.",
    "training.data": "What it trains on, as `zenopt train --data` takes it; without it there is no second stage.",
    "training.recipe": "A recipe's name, or a file.",
    "training.epochs": "Epochs of every training.",
    "training.rates": "Learning rates to choose from, for each class; else the recipe's.",
    "training.per_class": "Networks of each class that are trained: its best scores.",
    "training.finalists": "How many of them are trained with every seed.",
    "training.seeds": "Training seeds of a finalist.",
    "training.again": "What is trained again: the `finalists`, with every seed; or as often, training after training, "
    "the network by which the winner's expected accuracy grows most (`gain`), as a predictor of all trainings sees it.",
    "training.held_back": "Share of the training images that accuracies are measured on; no test image is looked at.",
    "training.overrides": "Fields of the recipe, e.g. `[optimizer.lr=0.5]`.",
    "training.rate_by": "With several rates: chosen for each `class` of the study, or a `parameter` of every trial.",
    "training.pruner": "What ends trainings that fall behind; a name alone will do.",
    "training.pruner.name": "`none`, `median`, `percentile`, `halving`, `hyperband`, a class of `optuna.pruners`, or "
    "`module:Class`.",
    "training.pruner.options": "Its options, as its class takes them.",
    "trials": "Trials of a run, unless `--trials` or `--timeout` says otherwise.",
    "timeout_s": "Seconds after which no further trial begins.",
    "seed": "Of all proposals and scores.",
}


def fields_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every field of a section and of those in it, by dotted path.

    Raises:
        KeyError: If one has no words in :data:`FIELDS`.
    """
    for name, field in model.model_fields.items():
        path = prefix + name
        if path not in FIELDS:
            raise KeyError(f"zenopt/study/fields.py has no words for the field {path!r} of a study spec")
        yield path, field
        inner = section_of(field)
        if inner is not None:
            yield from fields_of(inner, f"{path}.")


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the section that a field holds, or a list of them; ``None`` where it holds values."""
    for candidate in (field.annotation, *get_args(field.annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def type_words(field: FieldInfo) -> str:
    """Return what a field may be: type, choices and range; that it may be missing is left out."""
    options = [item for item in _alternatives(field.annotation) if item is not type(None)]
    text = " or ".join(_type_name(item) for item in options)
    ranges = []
    for item in field.metadata:
        for kind, sign in ((Ge, "≥"), (Gt, ">"), (Le, "≤"), (Lt, "<")):
            if isinstance(item, kind):
                ranges.append(f"{sign} {_limit(getattr(item, kind.__name__.lower()))}")
    may_change = any(isinstance(item, MayChange) for item in field.metadata)
    return ", ".join([text, *ranges, *(["may change"] if may_change else [])])


def may_be_missing(field: FieldInfo) -> bool:
    """Return whether a field may be ``null``."""
    return type(None) in _alternatives(field.annotation)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    origin = get_origin(annotation)
    is_union = origin is Union or (origin is not None and origin.__name__ == "UnionType")
    return get_args(annotation) if is_union else (annotation,)


def _type_name(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if origin is tuple:
        return f"list of {_type_name(get_args(annotation)[0])}"
    if origin is dict:
        return "mapping"
    return {int: "integer", float: "number", str: "text", bool: "true or false"}.get(
        annotation, str(annotation)
    )


def _limit(value: float) -> str:
    return "2^63" if value == 2**63 else f"{value:,}"


def space_options(factory: Any) -> dict[str, Any]:
    """Return the options of a space with their defaults; the initial architecture is a field of its own."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(factory).parameters.items()
        if name != "initial" and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }


def option_words(factory: Any) -> dict[str, str]:
    """Return what the options of a space mean: the ``Args`` of its docstring and of those of its bases."""
    words: dict[str, str] = {}
    for base in reversed(getattr(factory, "__mro__", (factory,))):
        words.update(_arguments(getattr(base, "__dict__", {}).get("__doc__") or ""))
    return words


def _arguments(docstring: str) -> dict[str, str]:
    """Return the entries of a docstring's ``Args``."""
    found: dict[str, str] = {}
    inside, name = False, ""
    for line in inspect.cleandoc(docstring).splitlines():
        if line == "Args:":
            inside = True
        elif inside and line and not line.startswith(" "):
            break
        elif inside and re.fullmatch(r"    \w+:", line):
            name = line.strip().rstrip(":")
            found[name] = ""
        elif inside and name:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return {
        key: re.sub(r"``(.*?)``", r"`\1`", re.sub(r":\w+:`~?(.*?)`", r"`\1`", text))
        for key, text in found.items()
    }
