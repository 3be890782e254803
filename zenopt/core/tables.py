"""Tables of known results: one architecture per row, one data set (or any other number) per column.

A benchmark such as NAS-Bench-201 comes as such a table. The architecture stands in a column named ``arch_str`` or
``structure``, unless a space reads its family's own tables otherwise; rows that repeat an architecture (another
training seed, another text of the same network) are averaged.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from zenopt.core.errors import DataError, StructureError

STRUCTURE_COLUMNS = ("arch_str", "structure")
Row = Mapping[str, str]
#: Returns the canonical text of a row's architecture; ``None`` where the row has none. Hashable.
RowText = Callable[[Row], "str | None"]
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
        """Returns the numbers of a column by architecture text.

        Raises:
            DataError: If there is no such column of numbers; the message lists those there are.
        """
        if name not in self.columns:
            raise DataError(
                f"{self.name} has no column {name!r} of numbers; it has {', '.join(self.columns) or 'none'}."
            )
        return self.columns[name]

    def accuracy_columns(self) -> list[str]:
        """Returns the columns whose names say accuracy; where none does, every column of numbers."""
        found = [name for name in self.columns if any(word in name.lower() for word in _ACCURACY_WORDS)]
        return found or list(self.columns)


def text_of_row(row: Row) -> str | None:
    """Return what stands in a row's column of architectures, :data:`STRUCTURE_COLUMNS`."""
    return next((row[column].strip() for column in STRUCTURE_COLUMNS if column in row), None)


def load_table(path: str | Path, where: Iterable[str] = (), text_of: RowText = text_of_row) -> Table:
    """Read a CSV file, gzipped if its name ends in ``.gz``.

    Args:
        path:
            The file.
        where:
            Conditions such as ``"epochs=18"``; rows that differ are left out.
        text_of:
            Reads the architecture of a row; rows without one are left out.

    Raises:
        DataError: If the file is missing or malformed, no row holds an architecture, or no row is left.
    """
    path = Path(path)
    return _load(path.resolve(), _stamp(path), str(path), tuple(where), text_of)


def load_rows(path: str | Path) -> tuple[Row, ...]:
    """Return the rows of a CSV file as texts by column.

    Raises:
        DataError: If the file is missing or malformed.
    """
    path = Path(path)
    return _rows(path.resolve(), _stamp(path), str(path))


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise DataError(f"Table {path} cannot be read: {error.strerror}.") from None


@lru_cache(maxsize=2)
def _rows(path: Path, stamp: int, name: str) -> tuple[Row, ...]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            header = reader.fieldnames or []
            rows = list(reader)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"Table {name} cannot be read: {error}.") from None
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise DataError(f"Table {name}, row {number}: expected {len(header)} fields.")
    if not rows:
        raise DataError(f"Table {name} has no rows.")
    return tuple(rows)


@lru_cache(maxsize=8)
def _load(path: Path, stamp: int, name: str, where: tuple[str, ...], text_of: RowText) -> Table:
    """Read a file once per version of it: workers and samplers ask for it again and again."""
    every = _rows(path, stamp, name)
    header = list(every[0])
    rows = list(enumerate(every, start=2))
    for condition in where:
        column, equals, wanted = condition.partition("=")
        if not equals or column not in header:
            raise DataError(
                f"Condition {condition!r}: expected COLUMN=VALUE with one of {', '.join(header)}."
            )
        rows = [(number, row) for number, row in rows if _same(row[column], wanted)]
    if not rows:
        raise DataError(f"Table {name} has no rows that meet the conditions.")
    found: dict[str, dict[str, list[float]]] = {
        column: {} for column in header if column not in STRUCTURE_COLUMNS
    }
    structures: dict[str, None] = {}
    for number, row in rows:
        try:
            text = text_of(row)
        except StructureError as error:
            raise DataError(f"Table {name}, row {number}: {error}") from None
        if text is None:
            continue
        if not text:
            raise DataError(f"Table {name}, row {number}: the architecture is missing.")
        structures[text] = None
        for column, values in found.items():
            value = _number(row[column])
            if value is not None:
                values.setdefault(text, []).append(value)
    if not structures:
        raise DataError(
            f"Table {name} has no column of architectures ({' or '.join(STRUCTURE_COLUMNS)}, or those of the space's "
            f"own tables); it has {', '.join(header)}."
        )
    return Table(
        name=name,
        columns={
            column: {text: sum(several) / len(several) for text, several in values.items()}
            for column, values in found.items()
            if values
        },
        structures=tuple(structures),
    )


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _same(text: str, wanted: str) -> bool:
    number = _number(text)
    return text == wanted or (number is not None and number == _number(wanted))
