"""Spaces by name: a decorator, entry points, and ``package.module:object``."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, TypeVar

from zenopt.core.errors import ExtensionError, UnknownNameError
from zenopt.core.extensions import import_extension
from zenopt.spaces.base import BaseSpace

ENTRY_POINT_GROUP = "zenopt.spaces"

_SPACES: dict[str, Any] = {}
_BUILT_IN = {
    "superres": "zenopt.spaces.chain.superres",
    "mobile": "zenopt.spaces.chain.mobile",
    "nasbench201": "zenopt.spaces.nasbench201.space",
}
#: Families that several spaces share -> the space that reads their texts.
_FAMILIES = {"chain": "superres"}
_Factory = TypeVar("_Factory", bound=Callable[..., Any])


def register_space(name: str) -> Callable[[_Factory], _Factory]:
    """Registers a space class (or a function that returns a space) under a name.

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
    """Returns the names of all known spaces, third-party ones included."""
    third_party = {point.name for point in entry_points(group=ENTRY_POINT_GROUP)}
    return sorted({*_SPACES, *_BUILT_IN, *third_party})


def get_space(name: str) -> Any:
    """Returns the factory of a space.

    Args:
        name:
            A registered name, or ``package.module:object``.

    Raises:
        UnknownNameError: If there is no such space; the message lists the known ones.
    """
    if ":" in name:
        return load_object(name, "space")
    if name not in _SPACES and name in _BUILT_IN:
        import_module(_BUILT_IN[name])
    if name not in _SPACES:
        for point in entry_points(group=ENTRY_POINT_GROUP):
            if point.name == name:
                register_space(name)(point.load())
    if name not in _SPACES:
        close = get_close_matches(name, list_spaces(), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UnknownNameError(f"Unknown space {name!r}.{hint} Known spaces: {', '.join(list_spaces())}.")
    return _SPACES[name]


def load_object(path: str, what: str) -> Any:
    """Imports ``package.module:object``.

    Raises:
        UnknownNameError: If the path is malformed, or the module cannot be imported or lacks the object.
    """
    module_name, _, attribute = path.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), *attribute.split("."))):
        raise UnknownNameError(f"Cannot load {what} {path!r}: expected package.module:object.")
    try:
        found: Any = import_extension(module_name)
    except ExtensionError as error:
        raise UnknownNameError(f"{what.capitalize()} {path!r}: {error}") from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UnknownNameError(
                f"Module {module_name!r} has no {attribute!r}, needed for {what} {path!r}."
            )
        found = getattr(found, part)
    return found


def space_of(family: str) -> str:
    """Return the name of a space that reads the texts of a family."""
    return _FAMILIES.get(family, family)


def parse_architecture(family: str, text: str) -> Any:
    """Read an architecture by the name of its family, as bundles and checkpoints store it.

    Args:
        family:
            ``"chain"`` for super-blocks, else the name of a space.
        text:
            Its canonical text.

    Raises:
        UnknownNameError: If there is no such family.
        StructureError: If the text is malformed.
    """
    return get_space(space_of(family))().parse(text)


def recognise(text: str) -> str | None:
    """Return the family whose architectures look like a text; ``None`` where none does."""
    for name in (*_BUILT_IN, *_SPACES):
        space = get_space(name)
        if isinstance(space, type) and issubclass(space, BaseSpace) and space.recognises(text):
            return next((family for family, own in _FAMILIES.items() if own == name), name)
    return None
