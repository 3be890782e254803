"""Spaces some of whose parameters may not take all of their values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from zenopt.core.errors import SpecError
from zenopt.core.text import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class OpenSpace:
    """A space some of whose parameters may not take all of their values."""

    space: Any
    distributions: Mapping[str, BaseDistribution]

    def names_in_use(self, values: Mapping[str, Any]) -> Iterator[str]:
        """Yield the names of the parameters in use, as the space does."""
        names: Iterator[str] = self.space.names_in_use(values)
        return names

    def decode(self, params: Mapping[str, Any]) -> Any:
        """Return the architecture of parameter values, as the space does."""
        return self.space.decode(params)


def parameters_named(space: Any, pattern: str, who: str) -> list[str]:
    """Return the parameters of a space that a pattern names.

    Args:
        space:
            The space.
        pattern:
            A name, or a pattern of names as of files.
        who:
            Names them, for the message.

    Raises:
        SpecError: If there is none.
    """
    known = list(space.distributions)
    found = [name for name in known if fnmatchcase(name, pattern)]
    if not found:
        raise SpecError(
            f"{who} names {quoted(pattern)}, which is no parameter of this space; it has {', '.join(known[:4])}, ..."
        )
    return found
