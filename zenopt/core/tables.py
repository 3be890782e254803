"""Tables of known results: one architecture per row, one data set (or any other number) per column.

A benchmark such as NAS-Bench-201 comes as such a table. The architecture stands in a column named ``arch_str`` or
``structure``, unless a space reads its family's own tables otherwise; rows that repeat an architecture (another
training seed, another text of the same network) are averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from zenopt.core.errors import DataError, StructureError
from zenopt.core.files import TABLE, number, open_csv, rows_of
from zenopt.core.text import quoted, quoted_list, shortened_path

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
        return list(filter(says_accuracy, self.columns)) or list(self.columns)


def says_accuracy(column: str) -> bool:
    """Return whether the name of a column says that it holds accuracies."""
    return any(word in column.lower() for word in _ACCURACY_WORDS)


def text_of_row(row: Row) -> str | None:
    """Return what stands in a row's column of architectures, :data:`STRUCTURE_COLUMNS`."""
    return next((row[column].strip() for column in STRUCTURE_COLUMNS if column in row), None)


def meets(row: Row, condition: str) -> bool:
    """Return whether a row meets a condition such as ``"epochs=18"``.

    Raises:
        DataError: If the row has no such column, or that is no condition.
    """
    column, wanted = _condition(condition, list(row))
    return _same(row[column], wanted)


def load_rows(path: str | Path) -> tuple[Row, ...]:
    """Return the rows of a CSV file, gzipped if its name ends in ``.gz``, as texts by column.

    Raises:
        DataError: If the file is missing, malformed or too large.
    """
    return _rows(*_version(path))


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
        DataError: If the file is missing, malformed or too large, no row holds an architecture, or no row is left.
    """
    return _load(*_version(path), tuple(where), text_of)


def _version(path: str | Path) -> tuple[Path, int, str]:
    """Return a file, its version and what messages call it."""
    try:
        path = Path(path)
        return path.resolve(), path.stat().st_mtime_ns, str(path)
    except (OSError, ValueError) as error:
        raise TABLE.unreadable(path, error) from None


@lru_cache(maxsize=2)
def _rows(path: Path, stamp: int, name: str) -> tuple[Row, ...]:
    with open_csv(path, TABLE, name) as reader:
        rows = tuple(rows_of(reader, name))
    if not rows:
        raise TABLE.refusal(name, "it has no rows")
    return rows


@lru_cache(maxsize=8)
def _load(path: Path, stamp: int, name: str, where: tuple[str, ...], text_of: RowText) -> Table:
    """Read a file once per version of it: workers and samplers ask for it again and again."""
    rows = _rows(path, stamp, name)
    header = list(rows[0])
    conditions = [_condition(text, header) for text in where]
    found: dict[str, dict[str, list[float]]] = {
        column: {} for column in header if column not in STRUCTURE_COLUMNS
    }
    structures: dict[str, None] = {}
    kept = 0
    for position, row in enumerate(rows, start=2):
        if not all(_same(row[column], wanted) for column, wanted in conditions):
            continue
        kept += 1
        try:
            text = text_of(row)
        except StructureError as error:
            raise TABLE.refusal(name, str(error), f"row {position}:") from None
        if text is None:
            continue
        if not text:
            raise TABLE.refusal(name, "the architecture is missing", f"row {position}:")
        structures[text] = None
        for column, values in found.items():
            value = number(row[column])
            if value is not None:
                values.setdefault(text, []).append(value)
    if not kept:
        raise TABLE.refusal(name, "it has no rows that meet the conditions")
    if not structures:
        columns = f"{' or '.join(STRUCTURE_COLUMNS)}, or those of the space's own tables"
        raise TABLE.refusal(name, f"no column of architectures ({columns}); it has {quoted_list(header)}")
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
