"""The rows of a table as points: what they are, what they cost, which of them are near."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import nan
from typing import Any

from zenopt.core.errors import SpecError
from zenopt.core.files import TABLE, number
from zenopt.core.tables import Row, load_rows, meets
from zenopt.core.text import quoted, quoted_list, shortened_path
from zenopt.spaces.columns.architecture import Value, values_of_cell

#: (name, values) for every column of parameters.
Settings = tuple[tuple[str, tuple[Value, ...]], ...]


def settings_of_row(row: Row, parameters: Sequence[str], where: Sequence[str]) -> Settings | None:
    """Return the settings of a row; ``None`` where it does not meet the conditions."""
    if not all(meets(row, condition) for condition in where):
        return None
    return tuple((name, values_of_cell(row[name])) for name in parameters)


@dataclass(frozen=True)
class Listed:
    """Rows of a table.

    Attributes:
        costs: Settings -> cost -> number, in the order of the table; means, where rows of equal settings differ.
        lengths: Column -> length of its longest list.
    """

    costs: Mapping[Settings, Mapping[str, float]]
    lengths: Mapping[str, int]

    @classmethod
    def load(
        cls,
        path: str,
        parameters: Sequence[str],
        where: Sequence[str],
        cost_columns: Mapping[str, tuple[str, float]],
    ) -> Listed:
        """Read a table.

        Raises:
            DataError: If the file cannot be read, or a cost is no number.
            SpecError: If it lacks a column, or a column of parameters has no values.
        """
        rows = load_rows(path)
        for option, names in (
            ("parameters", parameters),
            ("costs", [own for own, _ in cost_columns.values()]),
        ):
            for name in names:
                if name not in rows[0]:
                    raise SpecError(
                        f"space.options.{option}: {shortened_path(path)} has no column {quoted(name)}; it has "
                        f"{quoted_list(rows[0])}."
                    )
        found: dict[Settings, dict[str, list[float]]] = {}
        for position, row in enumerate(rows, start=2):
            settings = settings_of_row(row, parameters, where)
            if settings is None:
                continue
            known = found.setdefault(settings, {})
            for cost, (column, factor) in cost_columns.items():
                value = number(row[column])
                if value is None or value < 0:
                    problem = f"{column} must be a number that is not negative, got {quoted(row[column])}"
                    raise TABLE.refusal(path, problem, f"row {position}:")
                known.setdefault(cost, []).append(value * factor)
        if not found:
            raise TABLE.refusal(path, "it has no rows that meet the conditions")
        lengths = {own[0][0]: max(len(values) for _, values in own) for own in zip(*found, strict=True)}
        for name, length in lengths.items():
            if not length:
                raise SpecError(f"space.options.parameters: column {quoted(name)} is empty.")
        costs = {
            settings: {cost: _mean(cost, several) for cost, several in known.items()}
            for settings, known in found.items()
        }
        return cls(costs, lengths)

    @cached_property
    def order(self) -> list[Settings]:
        """Every row, in the order of the table."""
        return list(self.costs)

    @cached_property
    def words(self) -> dict[str, list[str]]:
        """Words of every column, sorted."""
        return {
            name: sorted({value for own in self.costs for value in own[place][1] if isinstance(value, str)})
            for place, name in enumerate(self.lengths)
        }

    @cached_property
    def has_numbers(self) -> dict[str, bool]:
        """Whether a column has numbers."""
        return {
            name: any(not isinstance(value, str) for own in self.costs for value in own[place][1])
            for place, name in enumerate(self.lengths)
        }

    def values(self, name: str, place: int) -> tuple[Value | None, ...]:
        """Return the values in a place of a column's lists: None where there is a shorter one, numbers, words."""
        column = list(self.lengths).index(name)
        found = {own[column][1][place] if place < len(own[column][1]) else None for own in self.costs}
        kinds: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
        for value in found:
            kinds[0 if value is None else 1 + isinstance(value, str)].append(value)
        return (*kinds[0], *sorted(kinds[1]), *sorted(kinds[2]))

    def nearest(self, settings: Settings, count: int) -> list[Settings]:
        """Return the nearest rows, equal ones among them, and those that are as near as the last.

        Words differ or not; numbers differ by their share of the range of their column, so that a number at the other
        end is as far as another word. An entry that only one of two lists has is a whole difference.
        """
        if count == 1 and settings in self.costs:
            return [settings]
        import numpy as np

        distances = self._distances(settings)
        count = min(count, len(distances))
        farthest = np.partition(distances, count - 1)[count - 1]
        # One place after the other is summed, so equal distances may differ in their last digits.
        near = np.flatnonzero(distances <= farthest + 1e-9)
        near = near[np.argsort(distances[near], kind="stable")]
        return [self.order[int(index)] for index in near]

    def _distances(self, settings: Settings) -> Any:
        import numpy as np

        own = self._point(settings)
        numbers, words = self._points
        apart = np.abs(numbers - np.array([value if type(value) in (int, float) else nan for value in own]))
        apart = apart / self._ranges
        # NaN: at most one of the two is a number.
        differs = words != np.array([_code(value) for value in own], dtype=object)
        return np.where(np.isnan(apart), differs, np.minimum(apart, 1.0)).astype(float).sum(axis=1)

    def _point(self, settings: Settings) -> list[Value | None]:
        return [
            values[place] if place < len(values) else None
            for name, values in settings
            for place in range(self.lengths[name])
        ]

    @cached_property
    def _points(self) -> tuple[Any, Any]:
        """The rows as numbers (NaN for what is none) and as codes that say whether they are alike."""
        import numpy as np

        points = [self._point(own) for own in self.costs]
        numbers = [[value if type(value) in (int, float) else nan for value in point] for point in points]
        words = [[_code(value) for value in point] for point in points]
        return np.array(numbers, dtype=float), np.array(words, dtype=object)

    @cached_property
    def _ranges(self) -> Any:
        import numpy as np

        numbers, _ = self._points
        found = np.ones(numbers.shape[1])
        for place, column in enumerate(numbers.T):
            finite = column[np.isfinite(column)]
            if finite.size and finite.max() > finite.min():
                found[place] = finite.max() - finite.min()
        return found


def _mean(cost: str, values: Sequence[float]) -> float:
    """Return the mean; what is counted is whole, whatever its unit in the table."""
    found = sum(values) / len(values)
    return found if cost == "depth_to_width" else round(found)


def _code(value: Value | None) -> str:
    """Return a text that is equal for equal words, for all numbers, and for all that is missing."""
    return f"word {value}" if isinstance(value, str) else "none" if value is None else "number"
