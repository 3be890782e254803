"""The search network of TransNAS-Bench-101's cells: all operations on the six edges of ten cells that choose alike.

It is stacked as the benchmark's networks are; normalisations of its cells have neither scale nor running statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from zenopt.core.description import Description
from zenopt.core.primitives import Choice, Edge, Node
from zenopt.spaces.nasbench201.cell import EDGES
from zenopt.spaces.opened import OpenNetwork, Weights, without_affine
from zenopt.spaces.transnas.architecture import (
    CELL_MODULES,
    OPERATIONS,
    WIDTH,
    MicroArchitecture,
    MicroCell,
    described,
)


class OpenMicroCell(MicroCell):
    """A cell with a choice on every edge; its ``operations`` are empty."""

    def expand(self) -> tuple[Node, ...]:
        return without_affine(super().expand(), tracks=False)

    def edges(self) -> Iterator[Edge]:
        for start, end in EDGES:
            alternatives = tuple((name, self.nodes(name, start)) for name in OPERATIONS)
            yield Edge(start, end, (Choice(f"edge{start}{end}", alternatives),))

    def __str__(self) -> str:
        return f"TransNASOpenCell({self.in_channels},{self.out_channels},{self.stride})"


@dataclass(frozen=True)
class OpenTransNas(OpenNetwork):
    """The search network.

    Args:
        width:
            Channels behind its stem.
        evaluated_width:
            Channels behind the stem of a derived network.
    """

    width: int = WIDTH
    evaluated_width: int = WIDTH

    family: ClassVar[str] = "transnas-micro"
    skip: ClassVar[str] = "skip_connect"

    @cached_property
    def description(self) -> Description:
        def make_cell(in_channels: int, out_channels: int, stride: int) -> OpenMicroCell:
            return OpenMicroCell("", in_channels, out_channels, stride)

        return described(self.family, self.width, CELL_MODULES, make_cell)

    @property
    def choices(self) -> dict[str, tuple[str, ...]]:
        return {f"edge{start}{end}": OPERATIONS for start, end in EDGES}

    def derive(self, weights: Weights) -> MicroArchitecture:
        """Return the cell with the operation of the largest weight on every edge, ``none`` included."""
        digits = (max(range(len(OPERATIONS)), key=weights[name].__getitem__) for name in self.choices)
        return MicroArchitecture("".join(map(str, digits)), self.evaluated_width)

    def only(self, choice: str | None = None, operation: str = "") -> MicroArchitecture:
        digits = (OPERATIONS.index(operation) if name == choice else 0 for name in self.choices)
        return MicroArchitecture("".join(map(str, digits)), self.evaluated_width)

    def operations_of(self, architecture: MicroArchitecture) -> tuple[tuple[str, ...], ...]:
        return (tuple(OPERATIONS[int(digit)] for digit in architecture.operations),)
