"""The search network of NAS-Bench-201: all operations on the six edges of all cells, chosen alike in every cell.

Normalisations of cells have neither scale nor running statistics; stem, reductions and head are those of the benchmark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from zenopt.core.description import Description, Unit
from zenopt.core.primitives import Node
from zenopt.spaces.nasbench201.architecture import CellArchitecture, check_skeleton, open_cell, stacked
from zenopt.spaces.nasbench201.cell import CELLS_PER_STAGE, CHANNELS, EDGES, OPERATIONS
from zenopt.spaces.opened import OpenNetwork, Weights, without_affine


@dataclass(frozen=True)
class OpenCell(Unit):
    """The cell with a choice on every edge."""

    channels: int
    operations: tuple[str, ...]

    @property
    def in_channels(self) -> int:  # type: ignore[override]
        return self.channels

    @property
    def out_channels(self) -> int:  # type: ignore[override]
        return self.channels

    def expand(self) -> tuple[Node, ...]:
        return without_affine((open_cell(self.channels, self.operations),), tracks=False)

    def __str__(self) -> str:
        return f"NB201OpenCell({','.join(self.operations)};{self.channels})"


@dataclass(frozen=True)
class OpenNasBench201(OpenNetwork):
    """The search network.

    Args:
        operations:
            Operations that may be found.
        channels:
            Of the first stage; each further one has twice as many.
        cells:
            Cells of a stage.
        found:
            Both numbers of the networks that are derived.

    Raises:
        StructureError: If a number is out of range.
    """

    operations: tuple[str, ...] = OPERATIONS
    channels: int = CHANNELS[0]
    cells: int = CELLS_PER_STAGE
    found: tuple[int, int] = (CHANNELS[0], CELLS_PER_STAGE)

    family: ClassVar[str] = "nasbench201"
    skip: ClassVar[str] = "skip_connect"

    def __post_init__(self) -> None:
        check_skeleton(self.channels, self.cells, "The search network of NAS-Bench-201")

    @cached_property
    def description(self) -> Description:
        return stacked(lambda width: OpenCell(width, self.operations), self.channels, self.cells)

    @property
    def choices(self) -> dict[str, tuple[str, ...]]:
        return {f"edge{start}{end}": self.operations for start, end in EDGES}

    def derive(self, weights: Weights) -> CellArchitecture:
        """Return the cell with the operation of the largest weight on every edge, ``none`` included."""
        return CellArchitecture(tuple(self._largest(weights[name]) for name in self.choices), *self.found)

    def _largest(self, weights: Sequence[float]) -> str:
        return self.operations[max(range(len(self.operations)), key=weights.__getitem__)]

    def only(self, choice: str | None = None, operation: str = "") -> CellArchitecture:
        return CellArchitecture(
            tuple(operation if name == choice else "none" for name in self.choices), *self.found
        )

    def operations_of(self, architecture: CellArchitecture) -> tuple[tuple[str, ...], ...]:
        return (architecture.operations,)
