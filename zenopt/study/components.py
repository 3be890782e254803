"""What a study can be made of, by kind: what has a name, and who gave it."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zenopt.core.errors import UnknownNameError, ZenoptError
from zenopt.core.registry import Origin, Registry, origin_of_module, origin_of_point
from zenopt.core.text import one_line, quoted
from zenopt.executors import EXECUTORS
from zenopt.latency.models import MODELS
from zenopt.latency.profile import DeviceProfile, list_profiles, load_profile
from zenopt.latency.terms import TERMS
from zenopt.proxies.registry import PROXIES, summary_of
from zenopt.spaces.chain.architecture import ENTRY_POINT_GROUP, block_modules, block_types, block_variant
from zenopt.spaces.registry import SPACES, get_space
from zenopt.study.registries import EVALUATORS, PRUNERS, SAMPLERS, STOCK_SAMPLERS, list_samplers
from zenopt.study.spec import StudySpec, list_presets
from zenopt.train.recipe import list_recipes, load_recipe

#: Longest description.
_WORDS = 160


@dataclass(frozen=True)
class Component:
    """Something that a study, a training or a command can name.

    Attributes:
        kind: One of :data:`KINDS`.
        name: Its name.
        origin: Where it comes from.
        description: One line; empty where nothing says it without loading what takes seconds.
    """

    kind: str
    name: str
    origin: Origin
    description: str = ""

    def to_json(self) -> dict[str, str]:
        """Return it as plain data."""
        return {
            "kind": self.kind,
            "name": self.name,
            "from": self.origin.how,
            "package": self.origin.package,
            "module": self.origin.module,
            "description": self.description,
        }


def list_components(kinds: str | Sequence[str] = ()) -> list[Component]:
    """Return what is registered: built in, by installed packages, and by modules imported in this run.

    Args:
        kinds:
            One of :data:`KINDS`, or several; all of them by default.

    Raises:
        UnknownNameError: If there is no such kind; the message lists them.

    Example:
        .. code-block:: python

            for found in zenopt.list_components("sampler"):
                print(found.name, found.origin)
    """
    wanted = (kinds,) if isinstance(kinds, str) else tuple(kinds) or KINDS
    for kind in wanted:
        if kind not in _LISTS:
            raise UnknownNameError(
                f"There are no components of kind {quoted(kind)}; kinds are {', '.join(KINDS)}."
            )
    return [found for kind in wanted for found in _LISTS[kind]()]


def _registered(kind: str, registry: Registry[Any]) -> Iterator[Component]:
    """Yield what a registry knows. Where the code that registers a thing has no docstring, its module's may serve."""
    modules = [registry.origin(name).module for name in registry.names()]
    for name in registry.names():
        origin = registry.origin(name)
        module = _parsed(origin.module)
        words = _words_of(name, module) if module is not None else ""
        if not words and modules.count(origin.module) == 1:
            words = _module_words(origin.module)
        yield Component(kind, name, origin, words)


def _families() -> Iterator[Component]:
    spaces: dict[str, list[str]] = {}
    origins: dict[str, Origin] = {}
    for name in SPACES.names():
        try:
            family = _family_of(get_space(name)) or name
        except ZenoptError as error:
            yield Component("family", name, SPACES.origin(name), _failed(error))
            continue
        spaces.setdefault(family, []).append(name)
        origins.setdefault(family, SPACES.origin(name))
    for family in sorted(spaces):
        origin = origins[family]
        package = origin.module.rpartition(".")[0]
        words = (_module_words(package) if origin.how == "built in" else "") or _module_words(origin.module)
        # Families of one folder share its words; the spaces of a family tell more of it.
        names = spaces[family]
        yield Component(
            "family", family, origin, f"{words} (spaces {', '.join(names)})" if names != [family] else words
        )


def _family_of(factory: Any) -> str | None:
    own = getattr(getattr(factory, "architecture_type", None), "family", None)
    if own is not None or not getattr(factory, "has_networks", True):
        return None if own is None else str(own)
    try:
        space = factory()
    except TypeError:
        # A space that cannot be made without options; its name stands for its family.
        return None
    return str(space.parse(space.initial).family)


def _blocks() -> Iterator[Component]:
    points = {point.value.partition(":")[0]: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    foreign = block_modules(block_types())
    for name in block_types():
        module = foreign.get(name) or block_variant(name).cls.__module__
        point = next((own for start, own in points.items() if f"{module}.".startswith(f"{start}.")), None)
        origin = origin_of_point(point) if point is not None else origin_of_module(module)
        yield Component("block", name, origin, _first_line(block_variant(name).cls.__doc__))


def _proxies() -> Iterator[Component]:
    for name in PROXIES.names():
        try:
            words = summary_of(name).description
        except ZenoptError as error:
            # A package that cannot be loaded is no reason not to list the others.
            words = _failed(error)
        yield Component("proxy", name, PROXIES.origin(name), one_line(words, _WORDS))


def _samplers() -> Iterator[Component]:
    own = {found.name: found for found in _registered("sampler", SAMPLERS)}
    for name in list_samplers():
        if name in own:
            yield own[name]
        else:
            yield Component(
                "sampler",
                name,
                Origin("built in", "optuna", "optuna.samplers"),
                f"Optuna's {STOCK_SAMPLERS[name]}",
            )
    origin = Origin("built in", "zenopt", "zenopt.study.registries")
    yield Component("sampler", "queue", origin, "Runs what was enqueued, and proposes nothing")


def _files(kind: str, names: Sequence[str], module: str, words: Callable[[str], str]) -> Iterator[Component]:
    for name in names:
        yield Component(kind, name, Origin("built in", "zenopt", module), one_line(words(name), _WORDS))


@cache
def _parsed(module: str) -> ast.Module | None:
    """Return a module's code, read from its file: importing it may take seconds."""
    try:
        spec = find_spec(module)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            return None
        return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    except (ImportError, ValueError, OSError, SyntaxError):
        # What cannot be found or read has no words; naming it in a study says what is wrong with it.
        return None


def _module_words(module: str) -> str:
    """Return the first line of a module's docstring."""
    code = _parsed(module)
    return "" if code is None else _first_line(ast.get_docstring(code))


def _words_of(name: str, code: ast.Module) -> str:
    """Return the first line of the docstring of what a decorator registers under a name."""
    for node in code.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            for decorator in node.decorator_list:
                given = decorator.args[:1] if isinstance(decorator, ast.Call) else []
                if any(isinstance(item, ast.Constant) and item.value == name for item in given):
                    return _first_line(ast.get_docstring(node))
    return ""


def _first_line(text: str | None) -> str:
    line = next(iter((text or "").strip().splitlines()), "")
    return one_line(re.sub(r"``|:\w+:`~?|`", "", line).removesuffix("."), _WORDS)


def _in_words(profile: DeviceProfile) -> str:
    runtime = f", {profile.runtime}" if profile.runtime else ""
    return f"{profile.device}{runtime}, {profile.dtype}, batch {profile.batch}"


def _failed(error: ZenoptError) -> str:
    return one_line(f"cannot be loaded: {error}", _WORDS)


#: Kind -> what lists it.
_LISTS: dict[str, Callable[[], Iterator[Component]]] = {
    "family": _families,
    "space": lambda: _registered("space", SPACES),
    "block": _blocks,
    "evaluator": lambda: _registered("evaluator", EVALUATORS),
    "proxy": _proxies,
    "sampler": _samplers,
    "pruner": lambda: _registered("pruner", PRUNERS),
    "executor": lambda: _registered("executor", EXECUTORS),
    "preset": lambda: _files(
        "preset", list_presets(), "zenopt.studies", lambda name: StudySpec.load(name).description
    ),
    "recipe": lambda: _files(
        "recipe", list_recipes(), "zenopt.train", lambda name: load_recipe(name).description
    ),
    "device": lambda: _files(
        "device", list_profiles(), "zenopt.latency", lambda name: _in_words(load_profile(name))
    ),
    "latency-model": lambda: _registered("latency-model", MODELS),
    "latency-term": lambda: _registered("latency-term", TERMS),
}
#: Kinds of components.
KINDS = tuple(_LISTS)
