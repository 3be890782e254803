"""Study files to begin with: every field that fits a space and an objective, with what it means and may be."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from zenopt.core.yamlfile import Overrides, Source, override
from zenopt.latency.profile import list_profiles
from zenopt.proxies.catalogue import COMBINATIONS
from zenopt.proxies.registry import proxy_names
from zenopt.spaces.registry import get_space, list_spaces
from zenopt.study.fields import (
    FIELDS,
    may_be_missing,
    option_words,
    section_of,
    space_options,
    type_words,
)
from zenopt.study.registries import EVALUATORS, PRUNERS, STOCK_SAMPLERS, list_samplers
from zenopt.study.spec import StudySpec
from zenopt.train.recipe import list_recipes

#: Characters of a line of comments.
WIDTH = 100
#: Trials of a run, since a run needs an end.
TRIALS = 100
#: What only its user knows, by evaluator; the values stand for it. Of a space it says itself what that is.
_YOURS: dict[str, dict[str, Any]] = {
    "table": {"objective.table": "results.csv", "objective.column": "accuracy"},
    "train": {"training.data": "imagefolder:images"},
    "supernet": {"objective.weights": "supernet"},
}
#: Fields of the objective that one evaluator reads.
_OF_EVALUATOR = {
    "table": ("table", "column", "columns_by_epoch", "direction"),
    "supernet": ("weights", "images", "settling", "amp", "target", "balance"),
}
#: Fields of the sampler's section that these samplers read, beside its name.
_OF_SAMPLER = {
    "zen": (
        "population",
        "mutation",
        "random_initial",
        "screening",
        "screening_candidates",
        "explore",
        "guide",
    ),
    "aging": ("population", "tournament", "random_initial", "guide"),
    "surrogate": ("mutation", "surrogate"),
    "annealing": ("mutation", "random_initial", "annealing"),
    "local-search": ("random_initial",),
    "reinforce": ("controller",),
    "ppo": ("controller",),
    "rejection": (),
}
#: What a section that is off by default begins with, where it has no default of its own.
_EXAMPLES = {"latency.device": "v100-fp16-b64", "sampler.guide.proxy": "params", "sampler.guide.moves": 4}


@dataclass(frozen=True)
class Template:
    """A study file to begin with.

    Attributes:
        text: Its content.
        spec: What it says.
        yours: Fields whose values only stand for what its user has, by dotted path.
    """

    text: str
    spec: StudySpec
    yours: dict[str, Any]


def make_template(
    space: str,
    objective: str = "proxy",
    sampler: str | None = None,
    overrides: Overrides = (),
    *,
    name: str | None = None,
) -> Template:
    """Return a study file with every field that fits.

    Args:
        space:
            A space's name.
        objective:
            An evaluator's name (``proxy``, ``table``, ``train``, ``supernet``, ``module:Class``), or a proxy's.
        sampler:
            A sampler's name; by default the spec's.
        overrides:
            Assignments such as ``"budget.params=5e5"``, or a mapping.
        name:
            Name of the study; by default made of space and objective.

    Raises:
        ZenoptError: If there is no such space, evaluator or sampler, or they do not fit each other.
    """
    is_proxy = objective not in EVALUATORS.names() and objective in (*COMBINATIONS, *proxy_names())
    kind = "proxy" if is_proxy else objective
    own = dict(EVALUATORS.get(kind).default_options)
    given = Source("", {})
    override(given, overrides)
    examples = getattr(get_space(space), "examples", {})
    wanted = {**{f"space.options.{name}": value for name, value in examples.items()}, **_YOURS.get(kind, {})}
    yours = {path: value for path, value in wanted.items() if _at(given.data, path) is None}
    if _at(given.data, "objective.table") is not None:
        # A study names its table once.
        yours.pop("space.options.table", None)
    content = {
        "name": name or f"{re.sub(r'[^A-Za-z0-9._-]+', '-', f'{space}-{objective}')}",
        "trials": TRIALS,
        "objective.kind": kind,
        **({"proxy.name": objective} if is_proxy else {}),
        **({"objective.options": own} if own else {}),
        **({"sampler.name": sampler} if sampler is not None else {}),
        **yours,
        **{".".join(map(str, path)): _at(given.data, ".".join(map(str, path))) for path in given.overridden},
    }
    spec = StudySpec.of_space(space, content)
    return Template("\n".join(_lines(spec, yours)) + "\n", spec, yours)


def _at(data: Mapping[str, Any], path: str) -> Any:
    found: Any = data
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _lines(spec: StudySpec, yours: Mapping[str, Any]) -> Iterator[str]:
    yield "# A study of zenopt: zenopt optimize --study THIS_FILE"
    yield from _comment(
        f"Every field that fits the space {spec.space.name}, objectives of kind {spec.objective.kind} and the sampler "
        f"{spec.sampler.name}, with its default; what is left as it is may be left out."
    )
    values = spec.model_dump(mode="json")
    factory = get_space(spec.space.name)
    options = {key: value for key, value in space_options(factory).items() if value is not Parameter.empty}
    # What the study says of its space comes before the space's own.
    values["space"]["options"] = {**options, **values["space"]["options"]}
    known = _known_names(spec)
    words = {f"space.options.{key}": text for key, text in option_words(factory).items()}
    yield from _section(StudySpec, values, "", spec, _Words(known, words, yours))


@dataclass(frozen=True)
class _Words:
    """What is said of fields beside :data:`FIELDS`: known names, options of the space, and what is the user's own."""

    known: Mapping[str, str]
    options: Mapping[str, str]
    yours: Mapping[str, Any]

    def of(self, path: str, field: FieldInfo | None) -> str:
        """Return the comment on a field."""
        text = FIELDS[path] if field is not None else self.options.get(path, "")
        if field is not None and section_of(field) is None:
            allowed = self.known.get(path) or type_words(field)
            if field.is_required():
                allowed += ", required"
            elif may_be_missing(field):
                allowed += ", or null"
            text = f"{text} ({allowed})"
        return f"YOURS TO FILL IN. {text}" if path in self.yours else text


def _section(
    model: type[BaseModel], values: Mapping[str, Any], prefix: str, spec: StudySpec, words: _Words
) -> Iterator[str]:
    """Yield the lines of a section; those of sections within it are indented."""
    for name, field in model.model_fields.items():
        path = prefix + name
        if not _fits(path, spec):
            continue
        if not prefix:
            yield ""
        yield from _comment(words.of(path, field))
        value, inner = values[name], section_of(field)
        if path == "space.options" and value:
            yield f"{name}:"
            for option, own in value.items():
                yield from _indented(_comment(words.of(f"{path}.{option}", None)))
                yield f"  {option}: {_flow(own)}"
        elif inner is None or isinstance(value, list | tuple):
            yield f"{name}: {_flow(value)}"
        elif value is None:
            # Off by default: without the marks it is a section to begin with.
            lines = [
                f"{name}:",
                *_indented(_section(inner, _defaults(inner, f"{path}."), f"{path}.", spec, words)),
            ]
            yield from (f"# {line}" for line in lines)
        else:
            yield f"{name}:"
            yield from _indented(_section(inner, value, f"{path}.", spec, words))


def _fits(path: str, spec: StudySpec) -> bool:
    """Return whether a field has a meaning for the study's space, evaluator and sampler."""
    section, _, rest = path.partition(".")
    name = rest.partition(".")[0]
    kind, sampler = spec.objective.kind, spec.sampler.name
    if section == "proxy":
        return kind == "proxy"
    if section == "latency" or path == "budget.latency_ms":
        return spec.has_networks
    if section == "objective" and name == "then":
        return kind != "train" and spec.has_networks
    if section == "objective" and name == "options":
        return bool(spec.evaluator().default_options)
    if section == "objective" and name:
        return all(name not in fields for owner, fields in _OF_EVALUATOR.items() if owner != kind)
    if section == "sampler" and name not in ("", "name"):
        if sampler in _OF_SAMPLER:
            return name in _OF_SAMPLER[sampler]
        if sampler in STOCK_SAMPLERS or ":" in sampler:
            return name == "options"
        # Of a sampler that is not known here, what no other one claims.
        return all(name not in fields for fields in _OF_SAMPLER.values())
    return True


def _defaults(model: type[BaseModel], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        path, default = prefix + name, field.get_default(call_default_factory=True)
        found[name] = _EXAMPLES.get(path, None if default is PydanticUndefined else default)
    return found


def _known_names(spec: StudySpec) -> dict[str, str]:
    """Return what may be written where a name is wanted."""
    pruners = ", ".join(PRUNERS.names())
    return {
        "space.name": f"{', '.join(list_spaces())}, or module:object",
        "objective.kind": f"{', '.join(EVALUATORS.names())}, or module:Class",
        "proxy.name": "one of `zenopt proxies`, a combination, or module:object",
        "sampler.name": f"{', '.join(list_samplers())}, a class of optuna.samplers, or module:object",
        "sampler.mutation": ", ".join(spec.build_space().moves),
        "training.recipe": f"{', '.join(list_recipes())}, or a .yaml file",
        "training.pruner.name": f"{pruners}, a class of optuna.pruners, or module:Class",
        "latency.device": f"{', '.join(list_profiles())}, or a .json file",
    }


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text.replace("`", ""), WIDTH, break_on_hyphens=False)]


def _indented(lines: Iterator[str] | list[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _flow(value: Any) -> str:
    """Return a value on one line."""
    plain = _plain(value)
    text: str = yaml.safe_dump(
        plain, default_flow_style=True, width=10**9, allow_unicode=True, sort_keys=False
    )
    return text.removesuffix("\n").removesuffix("\n...")


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {key: _plain(own) for key, own in value.items()}
    return [_plain(own) for own in value] if isinstance(value, tuple | list) else value
