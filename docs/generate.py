"""Writes the reference pages from the code: commands from click, fields of a study spec from its schema, the Python API
from the names that packages list in ``__all__``.

python docs/generate.py            # writes docs/reference/*.md
python docs/generate.py --check    # says which pages are out of date, exit code 1 if any is
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Union, get_args, get_origin

import click
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import zenopt
from zenopt.cli import COMMANDS, cli
from zenopt.core.costs import COST_KINDS
from zenopt.spaces import get_space
from zenopt.study.spec import StudySpec

FOLDER = Path(__file__).resolve().parent / "reference"
NOTE = "<!-- Written by docs/generate.py; do not edit. -->"
SPACES = ("superres", "mobile", "nasbench201")

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
    "sampler": "What proposes architectures.",
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
    "`log MACs`; `auto`: the family's, `none`: none.",
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


def commands() -> str:
    """Return the page of all commands."""
    parts = [
        NOTE,
        "# Commands",
        "Every command has `--help`. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted.",
    ]
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        parts += _command(command, f"zenopt {name}", 2)
    return "\n\n".join(parts) + "\n"


def _command(command: click.Command, path: str, level: int) -> Iterator[str]:
    context = click.Context(command, info_name=path)
    yield f"{'#' * level} {path}"
    yield from _prose(command.help or "")
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _command(inner, f"{path} {name}", level + 1)
        return
    usage = " ".join(piece for piece in command.collect_usage_pieces(context) if piece)
    yield f"```text\n{path} {usage}\n```"
    rows = [
        _option(parameter, context) for parameter in command.params if isinstance(parameter, click.Option)
    ]
    rows = [row for row in rows if row is not None]
    if rows:
        yield _table(("option", "default", "what"), rows)


def _prose(help_text: str) -> Iterator[str]:
    r"""Yield paragraphs; those after ``\b`` keep their lines."""
    for paragraph in inspect.cleandoc(help_text).split("\n\n"):
        if paragraph.startswith("\b"):
            yield "```bash\n" + inspect.cleandoc(paragraph.removeprefix("\b")).strip() + "\n```"
        elif paragraph.strip():
            yield " ".join(paragraph.split())


def _option(option: click.Option, context: click.Context) -> tuple[str, str, str] | None:
    record = option.get_help_record(context)
    if record is None:
        return None
    names, text = record
    # The default has a column of its own.
    text = re.sub(r"\s*\[[^][]*(\[[^][]*\][^][]*)*\]$", "", " ".join(text.split()))
    if isinstance(option.type, click.IntRange | click.FloatRange):
        names, text = names.replace(" RANGE", ""), f"{text} ({_bounds(option.type)})"
    default = option.show_default if isinstance(option.show_default, str) else _default(option)
    required = "required" if option.required else default
    return f"`{names}`", required, text


def _bounds(kind: click.IntRange | click.FloatRange) -> str:
    low = None if kind.min is None else f"{'more than' if kind.min_open else 'at least'} {kind.min:,}"
    high = None if kind.max is None else f"{'less than' if kind.max_open else 'at most'} {kind.max:,}"
    return ", ".join(part for part in (low, high) if part)


def _default(option: click.Option) -> str:
    value = option.default
    if (
        option.is_flag
        or value is None
        or callable(value)
        or option.multiple
        or "UNSET" in repr(value).upper()
    ):
        return ""
    return f"`{value}`"


def spec() -> str:
    """Return the page of a study spec's fields."""
    stale = set(FIELDS) - {path for path, _ in _fields(StudySpec)}
    if stale:
        raise SystemExit(f"docs/generate.py describes fields that do not exist: {', '.join(sorted(stale))}")
    parts = [
        NOTE,
        "# Study spec",
        "A study is a YAML file with these keys; the presets in `studies/` are examples. Any of them can be changed on "
        "the command line with `--set PATH=VALUE`, e.g. `--set budget.params=5e5`. A study keeps the spec it was made "
        "with; a run that joins it may change `sampler`, `seed`, `trials` and `timeout_s` only.",
    ]
    sections: dict[str, list[tuple[str, str, str, str]]] = {"": []}
    for path, field in _fields(StudySpec):
        section = path.rpartition(".")[0]
        if _model(field.annotation) is not None:
            sections[path] = []
            continue
        row = (f"`{path}`", _type(field), _shown(field), FIELDS[path])
        sections[section].append(row)
    for section, rows in sections.items():
        parts.append(f"## {section or 'The study itself'}")
        if section:
            parts.append(FIELDS[section])
        parts.append(_table(("key", "value", "default", "meaning"), rows))
    parts.append("## space.options")
    for name in SPACES:
        parts.append(f"### {name}")
        parts.append(_table(("option", "default", "meaning"), list(_space_options(name))))
    return "\n\n".join(parts) + "\n"


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        path = prefix + name
        if path not in FIELDS:
            raise SystemExit(f"docs/generate.py has no words for the field {path!r} of a study spec")
        yield path, field
        inner = _model(field.annotation)
        if inner is not None:
            yield from _fields(inner, f"{path}.")


def _model(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _type(field: FieldInfo) -> str:
    options = [item for item in _alternatives(field.annotation) if item is not type(None)]
    text = " or ".join(_type_name(item) for item in options)
    ranges = []
    for item in field.metadata:
        for kind, sign in ((Ge, "≥"), (Gt, ">"), (Le, "≤"), (Lt, "<")):
            if isinstance(item, kind):
                ranges.append(f"{sign} {_limit(getattr(item, kind.__name__.lower()))}")
    return ", ".join([text, *ranges])


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


def _shown(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined or default is None or default in ("", {}):
        return ""
    if isinstance(default, tuple):
        return f"`[{', '.join(map(str, default))}]`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _space_options(name: str) -> Iterator[tuple[str, str, str]]:
    """Options from the constructor; meanings from the docstrings of the class and its bases."""
    cls = get_space(name)
    words: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        words.update(_arguments(base.__dict__.get("__doc__") or ""))
    for option, parameter in inspect.signature(cls).parameters.items():
        if option == "initial":
            continue
        default = parameter.default
        if isinstance(default, tuple):
            default = f"[{', '.join(map(str, default))}]"
        yield f"`{option}`", "" if default is None else f"`{default}`", words[option]


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


def _table(header: tuple[str, ...], rows: list[Any]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def api_pages() -> dict[str, Callable[[], str]]:
    """Return a maker for the index of the Python API and one for the page of each package."""
    packages = _packages()
    # What two packages offer is described where it is offered first: the face of zenopt comes before its rooms.
    home: dict[int, tuple[str, str]] = {}
    for module in packages:
        for name in _offered(module):
            home.setdefault(id(getattr(module, name)), (module.__name__, name))
    pages: dict[str, Callable[[], str]] = {"api.md": partial(_api_index, packages, home)}
    for module in packages:
        pages[f"api/{module.__name__}.md"] = partial(_api_page, module, home)
    return pages


def _packages() -> list[ModuleType]:
    """Return zenopt and its packages that say what they offer."""
    names = sorted(
        found.name for found in pkgutil.iter_modules(zenopt.__path__) if not found.name.startswith("_")
    )
    modules = [importlib.import_module(f"zenopt.{name}") for name in names if name != "cli"]
    return [zenopt, *(module for module in modules if getattr(module, "__all__", None))]


def _offered(module: ModuleType) -> list[str]:
    return sorted((name for name in module.__all__ if not name.startswith("_")), key=str.lower)


def _api_index(packages: list[ModuleType], home: dict[int, tuple[str, str]]) -> str:
    """Return the index; what a thing is for is read from its docstring when the site is built."""
    lines = [
        NOTE,
        "# Python API",
        "",
        "What `zenopt` and its packages offer to programs. Names that are not listed here may change without notice.",
        "",
    ]
    for module in packages:
        lines += [f"## [{module.__name__}](api/{module.__name__}.md)", "", "```{eval-rst}"]
        lines += [f".. automodule:: {module.__name__}", "   :no-index:", ""]
        lines += [".. autosummary::", ""]
        for name in _offered(module):
            place, own = home[id(getattr(module, name))]
            lines.append(f"   {own}" if place == module.__name__ else f"   {place}.{own}")
        lines += ["```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _api_page(module: ModuleType, home: dict[int, tuple[str, str]]) -> str:
    lines = [NOTE, f"# {module.__name__}", ""]
    for name in _offered(module):
        found = getattr(module, name)
        place, own = home[id(found)]
        lines += [f"## {name}", ""]
        if (place, own) != (module.__name__, name):
            lines += [f"See [{place}.{own}]({place}.md#{own.lower()}).", ""]
            continue
        lines += ["```{eval-rst}", *_directive(f"{module.__name__}.{name}", found), "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _directive(path: str, found: Any) -> list[str]:
    if inspect.isclass(found) and issubclass(found, Exception):
        return [f".. autoexception:: {path}"]
    if inspect.isclass(found):
        return [f".. autoclass:: {path}", "   :members:", "   :show-inheritance:"]
    if inspect.isroutine(found):
        return [f".. autofunction:: {path}"]
    return [f".. autodata:: {path}", "   :no-value:"]


PAGES = {"commands.md": commands, "spec.md": spec, **api_pages()}


#: Pages of the folder that nobody generates.
BY_HAND = ("environment.md",)


def main() -> None:
    is_check = sys.argv[1:] == ["--check"]
    stale = []
    for name, make in PAGES.items():
        path, text = FOLDER / name, make()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not is_check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    known = {FOLDER / name for name in (*PAGES, *BY_HAND)}
    for path in sorted(set(FOLDER.rglob("*.md")) - known):
        stale.append(f"{path.relative_to(FOLDER)} (of nothing that is there)")
        if not is_check:
            path.unlink()
    if is_check and stale:
        raise SystemExit(f"Out of date: {', '.join(stale)}. Run: python docs/generate.py")
    print(f"Wrote {', '.join(stale)}." if stale else "All pages are up to date.")


if __name__ == "__main__":
    main()
