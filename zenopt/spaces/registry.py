"""Spaces by name, and architectures by the name of their family."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from zenopt.core.errors import StructureError, UnknownNameError
from zenopt.core.registry import Registry
from zenopt.core.text import one_line, quoted
from zenopt.spaces.base import BaseSpace

_Factory = TypeVar("_Factory", bound=Callable[..., Any])


def _as_space(found: Any, name: str, is_named: bool) -> Any:
    # A stored name could be that of any function of a loaded module; a person may name a function that makes a space.
    if is_named or any(found is own for own in SPACES.registered()) or _is_space(found):
        return found
    raise UnknownNameError(f"Space {quoted(name)} is no class that derives from zenopt.spaces.BaseSpace.")


def _is_space(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, BaseSpace)


SPACES: Registry[Any] = Registry(
    "space",
    "zenopt.spaces",
    {
        "superres": "zenopt.spaces.chain.superres",
        "mobile": "zenopt.spaces.chain.mobile",
        "nasbench201": "zenopt.spaces.nasbench201.space",
        "nasbench-macro": "zenopt.spaces.nasbenchmacro.space",
        "mnasnet": "zenopt.spaces.mnasnet.space",
        "transnas-macro": "zenopt.spaces.transnas.macro",
        "transnas-micro": "zenopt.spaces.transnas.micro",
        "nats-sizes": "zenopt.spaces.natssizes.space",
        "darts": "zenopt.spaces.darts.space",
        "columns": "zenopt.spaces.columns.space",
        "shuffle": "zenopt.spaces.shuffle.space",
        "ofa-mobilenetv3": "zenopt.spaces.ofa.space",
    },
    convert=_as_space,
)
#: Families that several spaces share -> the space that reads their texts.
_FAMILIES = {"chain": "superres"}


def register_space(name: str) -> Callable[[_Factory], _Factory]:
    """Register a space class (or a function that returns a space) under a name.

    The class is called with the fields of the study spec's ``space`` section, ``name`` excepted.

    Raises:
        ValueError: If the name is taken.
    """
    return SPACES.register(name)


def list_spaces() -> list[str]:
    """Return the names of all known spaces, third-party ones included."""
    return SPACES.names()


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
    return SPACES.get(name, stored=stored)


def space_of(family: str) -> str:
    """Return the name of a space that reads the texts of a family."""
    return _FAMILIES.get(family, family)


def parse_architecture(family: str, text: str) -> Any:
    """Return the architecture that a stored text spells.

    Args:
        family:
            ``"chain"`` for super-blocks, else the stored name of a space; nothing is imported for it.
        text:
            The text.

    Raises:
        StructureError: If the text is malformed, or the space cannot be made without options.
        MissingModuleError, UnknownNameError: If there is no such space, or it is not loaded.
    """
    return _default_space(family, space_of(family)).parse(text)


def _default_space(family: str, name: str) -> Any:
    factory = get_space(name, stored=True)
    try:
        return _made(factory)
    except TypeError as error:
        raise StructureError(
            f"The space {quoted(family)} cannot be made without options: {one_line(str(error), 120)}."
        ) from None


@lru_cache(maxsize=64)
def _made(factory: Callable[[], Any]) -> Any:
    return factory()


def recognise(text: str) -> str | None:
    """Return the family whose architectures look like a text; ``None`` where none does."""
    for name in list_spaces():
        space = get_space(name)
        if _is_space(space) and space.recognises(text):
            return next((family for family, own in _FAMILIES.items() if own == name), name)
    return None
