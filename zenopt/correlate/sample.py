"""Which architectures of a table are compared."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from zenopt.core.errors import DataError, StructureError
from zenopt.core.tables import Table


def draw_sample(table: Table, columns: Sequence[str], space: Any, count: int | None, seed: int) -> list[Any]:
    """Draw architectures that have a number in every column.

    Args:
        table:
            The table.
        columns:
            Its columns that will be compared with.
        space:
            Reads the table's texts.
        count:
            How many; ``None`` takes all.
        seed:
            Fixes the draw; a larger draw contains a smaller one.

    Raises:
        DataError: If there are fewer, or a text cannot be read.
    """
    complete = sorted(
        text for text in table.structures if all(text in table.column(name) for name in columns)
    )
    if len(complete) < max(2, count or 0):
        raise DataError(
            f"{table.name} has {len(complete)} architectures with numbers in {', '.join(columns)}; "
            f"{max(2, count or 0)} are needed."
        )
    random.Random(seed).shuffle(complete)
    parsed = []
    for text in complete[:count]:
        try:
            parsed.append(space.parse(text))
        except StructureError as error:
            raise DataError(f"{table.name}: {error}") from None
    for text, architecture in zip(complete, parsed, strict=False):
        if str(architecture) != text:
            raise DataError(f"{table.name}: {text!r} is not the canonical text {str(architecture)!r}.")
    return parsed
