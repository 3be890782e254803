"""A space made of a table's own columns, for results of networks that nothing here can build."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from math import fsum, log
from typing import TYPE_CHECKING, Any, ClassVar

from zenopt.core.costs import COST_KINDS, Costs
from zenopt.core.errors import SpecError, StructureError
from zenopt.core.text import quoted, quoted_list
from zenopt.spaces.columns.architecture import ColumnsArchitecture, read_settings
from zenopt.spaces.columns.rows import Listed, Settings, settings_of_row
from zenopt.spaces.registry import register_space
from zenopt.spaces.slots import SlotSpace

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

#: Numbers of more values than this are a range, not a choice.
WIDE = 64
#: Most choices of a parameter.
MOST_CHOICES = 1000
#: Rows that a move may lead to, per changed parameter; more where several are equally near.
NEAREST = 10
#: Words of a column that are counted as features.
COUNTED_WORDS = 16


@register_space("columns")
class ColumnsSpace(SlotSpace):
    """The rows of a table.

    Every column of ``parameters`` is a parameter of its name; where cells hold lists, their entries are ``NAME.1``,
    ``NAME.2``, ..., and one that a shorter list has not is None. Rows of equal settings are one architecture.

    Parameter values that no row has mean the row nearest to them, so that samplers that know nothing of tables find
    rows, too. Moves lead to the nearest rows.

    Args:
        table:
            A CSV file, gzipped if its name ends in ``.gz``. It is read when it is first needed.
        parameters:
            Columns that make an architecture.
        costs:
            Cost (``params``, ``macs``, ...) -> its column, or ``{column: mparams, factor: 1.0e+6}`` for one in other
            units. Costs that are not named are not known: a budget on one is an error.
        where:
            Conditions such as ``"space=pit"``; rows that differ are left out.
        initial:
            The architecture a search starts from; by default the most expensive row, the first where there are no
            costs.

    Raises:
        SpecError: If an option is malformed.
    """

    has_networks: ClassVar[bool] = False
    reads_files: ClassVar[bool] = True
    architecture_type: ClassVar[type] = ColumnsArchitecture
    shares_table: ClassVar[bool] = True
    examples: ClassVar[Mapping[str, Any]] = {"table": "results.csv", "parameters": ["width", "depth"]}

    def __init__(
        self,
        table: str = "",
        parameters: Sequence[str] = (),
        costs: Mapping[str, Any] | None = None,
        where: Sequence[str] = (),
        initial: str = "",
    ) -> None:
        if not table or not parameters:
            raise SpecError(
                "The space columns has no networks, only rows of a table that a study names: in space.options.table (a "
                "CSV file) and space.options.parameters (columns that make an architecture)."
            )
        self.table = str(table)
        self.parameters = _texts(parameters, "parameters")
        self.where = _texts(where, "where")
        self.costs = _cost_columns({} if costs is None else costs)
        self._initial = str(self.parse(initial)) if initial else ""

    def __repr__(self) -> str:
        own = (self.table, self.parameters, self.costs, self.where, self._initial)
        return f"{type(self).__name__}({', '.join(map(repr, own))})"

    # -- the table --------------------------------------------------------------------------------------------------

    @cached_property
    def listed(self) -> Listed:
        """The rows, read now."""
        return Listed.load(self.table, self.parameters, self.where, self.costs)

    @cached_property
    def initial(self) -> str:  # type: ignore[override]
        """The architecture a search starts from."""
        if self._initial:
            settings = self.parse(self._initial).settings
            if settings not in self.listed.costs:
                raise StructureError(f"{self.table} has no row {quoted(self._initial)} to start from.")
            return self._initial
        rows = list(self.listed.costs)
        return str(self._made(max(rows, key=self._size) if self.costs else rows[0]))

    def costs_of(self, architecture: ColumnsArchitecture) -> Costs:
        """Return what the table says of an architecture; NaN where it says nothing."""
        return Costs.recorded(self.listed.costs.get(architecture.settings, {}))

    def _size(self, settings: Settings) -> float:
        """Return the sum of the logarithms of all costs."""
        return fsum(log(cost) for cost in self.listed.costs[settings].values() if cost > 0)

    def _made(self, settings: Settings) -> ColumnsArchitecture:
        return ColumnsArchitecture(settings, self)

    # -- text -------------------------------------------------------------------------------------------------------

    @classmethod
    def recognises(cls, text: str) -> bool:
        """Return whether a text is ``name=value`` and nothing else."""
        return (
            all(part.find("=") > 0 and not set(part) & set("()[]{}") for part in text.split()) and "=" in text
        )

    def parse(self, text: str) -> ColumnsArchitecture:
        """Read ``dim=192 heads=3,4``; the table need not list it."""
        return self._made(read_settings(text, self.parameters))

    def text_of_row(self, row: Mapping[str, str]) -> str | None:
        """Return the text of a row that has all columns and meets the conditions."""
        if not all(name in row for name in self.parameters):
            return super().text_of_row(row)
        settings = settings_of_row(row, self.parameters, self.where)
        return None if settings is None else str(self._made(settings))

    # -- parameters -------------------------------------------------------------------------------------------------

    @cached_property
    def slots(self) -> dict[str, tuple[Any, ...]]:
        found: dict[str, tuple[Any, ...]] = {}
        for column, length in self.listed.lengths.items():
            for place in range(length):
                name = column if length == 1 else f"{column}.{place + 1}"
                if name in found:
                    raise SpecError(f"space.options.parameters: two columns make a parameter {quoted(name)}.")
                found[name] = self.listed.values(column, place)
                if len(found[name]) > MOST_CHOICES and not _is_range(found[name]):
                    raise SpecError(
                        f"space.options.parameters: {quoted(name)} has {len(found[name]):,} different values, too "
                        f"many for choices (at most {MOST_CHOICES:,})."
                    )
        return found

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        from optuna.distributions import FloatDistribution, IntDistribution

        found = dict(super().distributions)
        for name, values in self.slots.items():
            if _is_range(values):
                is_whole = all(type(value) is int for value in values)
                found[name] = (IntDistribution if is_whole else FloatDistribution)(values[0], values[-1])
        return found

    def from_values(self, values: Sequence[Any]) -> ColumnsArchitecture:
        """Return the row of these values, or the one nearest to them."""
        return self._made(self.listed.nearest(self._split(values), 1)[0])

    def values_of(self, architecture: ColumnsArchitecture) -> Sequence[Any]:
        found: list[Any] = []
        for name, values in architecture.settings:
            length = self.listed.lengths[name]
            if len(values) > length:
                raise StructureError(
                    f"Outside the space: {name} has {len(values)} values; at most {length} in a row."
                )
            found += [*values, *[None] * (length - len(values))]
        return found

    def _check(self, values: Sequence[Any]) -> None:
        for (name, allowed), value in zip(self.slots.items(), values, strict=True):
            if _is_range(allowed):
                if isinstance(value, str) or value is None or not allowed[0] <= value <= allowed[-1]:
                    raise StructureError(
                        f"Outside the space: {name} is {value}; allowed is {allowed[0]} to {allowed[-1]}."
                    )
            elif value not in allowed:
                shown = quoted_list([str(own) for own in allowed])
                raise StructureError(f"Outside the space: {name} is {value}; allowed are {shown}.")

    def _split(self, values: Sequence[Any]) -> Settings:
        """Return the settings of the slots' values: a list ends before its first None."""
        found, start = [], 0
        for name, length in self.listed.lengths.items():
            own = list(values[start : start + length])
            found.append((name, tuple(own[: own.index(None) if None in own else length])))
            start += length
        return tuple(found)

    # -- membership -------------------------------------------------------------------------------------------------

    def contains(self, architecture: Any) -> bool:
        """Return whether the table has the row."""
        return isinstance(architecture, ColumnsArchitecture) and architecture.settings in self.listed.costs

    def architectures(self) -> Iterator[Any]:
        """Return every row, in the order of the table."""
        return map(self._made, self.listed.costs)

    def draw(self, rng: random.Random) -> Any:
        """Return a row drawn uniformly."""
        return self._made(rng.choice(self.listed.order))

    def foreign_modules(self) -> dict[str, str]:
        return {}

    # -- moves ------------------------------------------------------------------------------------------------------

    def mutate(self, architecture: Any, rng: random.Random, *, blocks: int = 1) -> Any | None:
        """Return one of the nearest rows; ``None`` where there is no other."""
        near = self._near(architecture, NEAREST * blocks)
        return self._made(rng.choice(near)) if near else None

    def neighbours(self, architecture: Any) -> list[Any]:
        """Return the nearest rows."""
        return [self._made(own) for own in self._near(architecture, NEAREST)]

    def _near(self, architecture: ColumnsArchitecture, count: int) -> list[Settings]:
        found = self.listed.nearest(architecture.settings, count + 1)
        return [own for own in found if own != architecture.settings]

    def shrink(self, architecture: Any) -> Any | None:
        """Return the row whose costs together are the next smaller; ``None`` where there is none.

        From the most expensive row on, every row is seen.
        """
        order = self._by_size
        place = order.get(architecture.settings)
        if place is None or place + 1 == len(order):
            return None
        return self._made(list(order)[place + 1])

    @cached_property
    def _by_size(self) -> dict[Settings, int]:
        """Places of the rows, the most expensive first; empty where no cost is known."""
        if not self.costs:
            return {}
        return {
            own: place for place, own in enumerate(sorted(self.listed.costs, key=self._size, reverse=True))
        }

    # -- what predictors read ---------------------------------------------------------------------------------------

    def features_of(self, architecture: ColumnsArchitecture) -> dict[str, float]:
        """Return the numbers of an architecture: of a list its length and mean, of words how many of each."""
        found: dict[str, float] = {"values": float(sum(len(values) for _, values in architecture.settings))}
        for name, values in architecture.settings:
            numbers = [float(value) for value in values if not isinstance(value, str)]
            if self.listed.has_numbers[name]:
                found[name] = fsum(numbers) / len(numbers) if numbers else 0.0
            if self.listed.lengths[name] > 1:
                found[f"{name} length"] = float(len(values))
            words = self.listed.words[name]
            if len(words) <= COUNTED_WORDS:
                found.update({f"{name} {word}": float(values.count(word)) for word in words})
        return found


def _is_range(values: Sequence[Any]) -> bool:
    return len(values) > WIDE and all(isinstance(value, int | float) for value in values)


def _texts(given: Any, option: str) -> tuple[str, ...]:
    if (
        isinstance(given, str)
        or not isinstance(given, Sequence)
        or not all(isinstance(x, str) for x in given)
    ):
        raise SpecError(f"space.options.{option} must be a list of texts, got {quoted(given)}.")
    if len(set(given)) != len(given):
        raise SpecError(f"space.options.{option} names one twice.")
    return tuple(given)


def _cost_columns(given: Any) -> dict[str, tuple[str, float]]:
    """Return (column, factor) by cost."""
    if not isinstance(given, Mapping):
        raise SpecError(f"space.options.costs must be COST: COLUMN pairs, got {quoted(given)}.")
    found = {}
    for name, own in given.items():
        if name not in COST_KINDS:
            raise SpecError(f"space.options.costs.{name} is no cost; allowed: {', '.join(COST_KINDS)}.")
        section = {"column": own} if isinstance(own, str) else own
        if not isinstance(section, Mapping) or not {"column"} <= set(section) <= {"column", "factor"}:
            raise SpecError(
                f"space.options.costs.{name} must be a column or {{column: NAME, factor: NUMBER}}, got {quoted(own)}."
            )
        column, factor = section["column"], section.get("factor", 1.0)
        if not isinstance(column, str):
            raise SpecError(
                f"space.options.costs.{name}.column must be the name of a column, got {quoted(column)}."
            )
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < 1e300:
            raise SpecError(
                f"space.options.costs.{name}.factor must be a positive number such as 1.0e+6, got {quoted(factor)}."
            )
        found[name] = column, float(factor)
    return found
