"""Architectures that are settings without a network: one or more values under each of some names.

The text is ``dim=192 depth=12 mlp_ratio=3.5,4,3.5``: names in the order of the space's columns, lists separated by
commas, nothing after the sign where there is no value. Numbers are written as Python writes them, whole ones without a
point; in names and words everything but letters, digits and ``_.-~/:+`` is percent-encoded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol
from urllib.parse import quote, unquote

from zenopt.core.costs import Costs
from zenopt.core.description import Description
from zenopt.core.errors import StructureError
from zenopt.core.text import quoted, shortened
from zenopt.spaces.base import BaseArchitecture

Value = int | float | str
#: Characters of names and words that need no encoding, beside letters, digits and ``_.-~``.
_PLAIN = "/:+"
# "00012" and digits that no float keeps are words.
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?", re.ASCII)


class Rows(Protocol):
    """What an architecture asks its space about itself."""

    @property
    def costs(self) -> Mapping[str, Any]:
        """The costs that the table gives."""
        ...

    def costs_of(self, architecture: ColumnsArchitecture) -> Costs:
        """Return the costs of an architecture."""
        ...

    def features_of(self, architecture: ColumnsArchitecture) -> dict[str, float]:
        """Return what predictors read of an architecture."""
        ...


@dataclass(frozen=True)
class ColumnsArchitecture(BaseArchitecture):
    """A row's settings.

    Args:
        settings:
            (name, values) in the order of the space's columns.
        space:
            The space that says what it costs and what is alike; its text can only be read by that space.
    """

    settings: tuple[tuple[str, tuple[Value, ...]], ...]
    space: Rows = field(compare=False, repr=False)

    family: ClassVar[str] = "columns"

    @property
    def description(self) -> Description:
        raise StructureError(
            f"{shortened(str(self))} is a row of a table: it has no network to build, train or take apart."
        )

    @property
    def recorded_costs(self) -> Costs:
        """The costs that the table gives; NaN where it gives none."""
        return self.space.costs_of(self)

    @property
    def ranking(self) -> str:  # type: ignore[override]
        """Multiply-adds or params, where the table gives them; else nothing says which rows are better."""
        names = {"macs": "log MACs", "params": "log params"}
        return next((name for cost, name in names.items() if cost in self.space.costs), "")

    def __str__(self) -> str:
        return " ".join(
            f"{quote(name, _PLAIN)}={','.join(map(_text, values))}" for name, values in self.settings
        )

    def shape_features(self) -> dict[str, float]:
        return self.space.features_of(self)


def read_settings(text: str, names: Sequence[str]) -> tuple[tuple[str, tuple[Value, ...]], ...]:
    """Read the text of an architecture.

    Args:
        text:
            The text; more space between the parts than one blank is allowed, and any order.
        names:
            Names it must have, in the order that is returned.

    Raises:
        StructureError: If it is malformed, or has other names.
    """
    found: dict[str, tuple[Value, ...]] = {}
    for part in text.split():
        name, equals, values = part.partition("=")
        name = unquote(name)
        if not equals or name not in names or name in found:
            raise StructureError(f"{quoted(part)}: expected NAME=VALUE, once for each of {', '.join(names)}.")
        found[name] = tuple(as_value(unquote(item)) for item in values.split(",") if item)
    missing = [name for name in names if name not in found]
    if missing:
        raise StructureError(f"{quoted(text)}: {', '.join(missing)} is missing.")
    return tuple((name, found[name]) for name in names)


def values_of_cell(cell: str) -> tuple[Value, ...]:
    """Return the values in a cell of a table.

    A list is in brackets, or has commas: ``[3.5, 4]``, ``3.5,4``. Lists in a list are read one after the other. An
    empty cell has no value.
    """
    cell = cell.strip()
    if cell[:1] in ("[", "(") and cell[-1:] in ("]", ")"):
        parts = re.split(r"[\s,;\[\]()]+", cell)
    else:
        parts = cell.split(",")
    stripped = (part.strip().strip("'\"") for part in parts)
    return tuple(as_value(part) for part in stripped if part)


def as_value(text: str) -> Value:
    """Return the number that a text spells, an int where it is whole, else the text itself."""
    if _NUMBER.fullmatch(text) is None:
        return text
    number = float(text)
    return int(number) if number.is_integer() and abs(number) < 1e15 else number


def _text(value: Value) -> str:
    return quote(value, _PLAIN) if isinstance(value, str) else repr(value)
