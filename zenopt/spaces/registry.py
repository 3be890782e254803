"""Spaces by name: a decorator, entry points, and ``package.module:object``."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, TypeVar

from zenopt.core.errors import ExtensionError, UnknownNameError
from zenopt.core.extensions import MissingModuleError, import_named, load_object
from zenopt.core.text import QUOTED, quoted

ENTRY_POINT_GROUP = "zenopt.spaces"

_SPACES: dict[str, Any] = {}
_BUILT_IN = {
    "superres": "zenopt.spaces.chain.superres",
    "mobile": "zenopt.spaces.chain.mobile",
    "nasbench201": "zenopt.spaces.nasbench201.space",
}
#: What tells a space from any other class.
_CONTRACT = ("distributions", "suggest", "encode", "decode", "parse", "mutate")
_Factory = TypeVar("_Factory", bound=Callable[..., Any])


def register_space(name: str) -> Callable[[_Factory], _Factory]:
    """Register a space class (or a function that returns a space) under a name.

    The class is called with the fields of the study spec's ``space`` section, ``name`` excepted.

    Raises:
        ValueError: If the name is taken.
    """

    def register(factory: _Factory) -> _Factory:
        built_in = _BUILT_IN.get(name)
        if _SPACES.get(name, factory) is not factory or built_in not in (None, factory.__module__):
            raise ValueError(f"Space {name!r} is already registered.")
        _SPACES[name] = factory
        return factory

    return register


def list_spaces() -> list[str]:
    """Return the names of all known spaces, third-party ones included."""
    third_party = {point.name for point in entry_points(group=ENTRY_POINT_GROUP)}
    return sorted({*_SPACES, *_BUILT_IN, *third_party})


def get_space(name: str, *, stored: bool = False) -> Any:
    """Return the factory of a space.

    Args:
        name:
            A registered name, or ``package.module:object``.
        stored:
            Whether the name was read from a file or database; then no module is imported for it.

    Raises:
        UnknownNameError: If there is no such space, the message lists the known ones; or its module cannot be imported.
        MissingModuleError: If a stored name is of a module that was not imported in this run.
    """
    if ":" in name:
        return _load_space(name, stored)
    if name not in _SPACES and name in _BUILT_IN:
        import_module(_BUILT_IN[name])
    if name not in _SPACES:
        for point in entry_points(group=ENTRY_POINT_GROUP):
            if point.name == name:
                register_space(name)(point.load())
    if name not in _SPACES:
        close = get_close_matches(name[:QUOTED], list_spaces(), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UnknownNameError(
            f"Unknown space {quoted(name)}.{hint} Known spaces: {', '.join(list_spaces())}."
        )
    return _SPACES[name]


def _load_space(name: str, stored: bool) -> Any:
    try:
        if not stored:
            import_named(name)
        found, is_named = load_object(name)
    except MissingModuleError as error:
        raise MissingModuleError(f"Space {error}") from None
    except ExtensionError as error:
        raise UnknownNameError(f"Space {quoted(name)}: {error}") from None
    # A stored name could be that of any function of a loaded module.
    if not (is_named or any(found is own for own in _SPACES.values()) or _is_space(found)):
        raise UnknownNameError(f"Space {quoted(name)} is no class with {', '.join(_CONTRACT)}.")
    return found


def _is_space(found: Any) -> bool:
    return isinstance(found, type) and all(hasattr(found, method) for method in _CONTRACT)
