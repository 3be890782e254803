"""Tables of known results: one architecture per row, one data set (or any other number) per column.

A benchmark such as NAS-Bench-201 comes as such a table. The architecture stands in a column named ``arch_str`` or
``structure``; rows that repeat an architecture (another training seed) are averaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from zenopt.core.errors import DataError, ZenoptError
from zenopt.core.files import TABLE, number, open_csv, rows_of
from zenopt.core.text import quoted, quoted_list, shortened_path

STRUCTURE_COLUMNS = ("arch_str", "structure")
#: What the name of a column of accuracies contains; used where nobody says which columns are meant.
_ACCURACY_WORDS = ("test", "acc", "top1", "top-1", "top_1")


@dataclass(frozen=True)
class Table:
    """Numbers by architecture.

    Attributes:
        name: Where it came from, for messages.
        columns: Column -> architecture text -> number. A row without a number in a column is absent from that column.
        structures: Texts of all architectures, in the order of the file.
    """

    name: str
    columns: Mapping[str, Mapping[str, float]] = field(repr=False)
    structures: tuple[str, ...] = field(repr=False)

    def column(self, name: str) -> Mapping[str, float]:
        """Return the numbers of a column by architecture text.

        Raises:
            DataError: If there is no such column of numbers; the message lists those there are.
        """
        if name not in self.columns:
            raise DataError(
                f"{shortened_path(self.name)} has no column {quoted(name)} of numbers; "
                f"it has {quoted_list(self.columns)}."
            )
        return self.columns[name]

    def accuracy_columns(self) -> list[str]:
        """Return the columns whose names say accuracy; where none does, every column of numbers."""
        found = [name for name in self.columns if any(word in name.lower() for word in _ACCURACY_WORDS)]
        return found or list(self.columns)


def load_table(path: str | Path, where: Iterable[str] = ()) -> Table:
    """Read a CSV file, gzipped if its name ends in ``.gz``.

    Args:
        path:
            The file.
        where:
            Conditions such as ``"epochs=18"``; rows that differ are left out.

    Raises:
        DataError: If the file is missing, malformed or too large, no column holds architectures, or no row is left.
    """
    try:
        path = Path(path)
        return _load(path.resolve(), path.stat().st_mtime_ns, str(path), tuple(where))
    except (OSError, ValueError) as error:
        if isinstance(error, ZenoptError):
            raise
        raise TABLE.unreadable(path, error) from None


@lru_cache(maxsize=8)
def _load(path: Path, stamp: int, name: str, where: tuple[str, ...]) -> Table:
    """Read a file once per version of it: workers and samplers ask for it again and again."""
    with open_csv(path, TABLE, name) as reader:
        header = list(reader.fieldnames or [])
        key = next((column for column in STRUCTURE_COLUMNS if column in header), None)
        if key is None:
            raise TABLE.refusal(
                name,
                f"no column of architectures ({' or '.join(STRUCTURE_COLUMNS)}); it has {quoted_list(header)}",
            )
        conditions = [_condition(text, header) for text in where]
        found: dict[str, dict[str, list[float]]] = {column: {} for column in header if column != key}
        structures: dict[str, None] = {}
        for position, row in enumerate(rows_of(reader, name), start=2):
            if not all(_same(row[column], wanted) for column, wanted in conditions):
                continue
            text = row[key].strip()
            if not text:
                raise TABLE.refusal(name, f"{key} is empty", f"row {position}:")
            structures[text] = None
            for column, values in found.items():
                value = number(row[column])
                if value is not None:
                    values.setdefault(text, []).append(value)
    if not structures:
        raise TABLE.refusal(name, f"it has no rows{' that meet the conditions' if where else ''}")
    return Table(
        name=name,
        columns={
            column: {text: sum(several) / len(several) for text, several in values.items()}
            for column, values in found.items()
            if values
        },
        structures=tuple(structures),
    )


def _condition(text: str, header: list[str]) -> tuple[str, str]:
    column, equals, wanted = text.partition("=")
    if not equals or column not in header:
        raise DataError(f"Condition {quoted(text)}: expected COLUMN=VALUE with one of {quoted_list(header)}.")
    return column, wanted


def _same(text: str, wanted: str) -> bool:
    value = number(text)
    return text == wanted or (value is not None and value == number(wanted))
