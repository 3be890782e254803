"""The search network of DARTS: all operations on the fourteen edges of a normal and of a reduction cell.

Cells of one kind choose alike. Normalisations inside cells have no scale, and one follows every pooling.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from zenopt.core.description import Description
from zenopt.core.primitives import Choice, Edge, Graph, Node, Norm, Pool
from zenopt.spaces.darts.architecture import (
    CellUnit,
    DartsArchitecture,
    Settings,
    operation_nodes,
    preprocessing,
    stacked,
)
from zenopt.spaces.darts.genotype import NODES, OPERATIONS, Cell, Genotype, Term
from zenopt.spaces.layers import EPS
from zenopt.spaces.opened import OpenNetwork, Weights, without_affine

CELLS = ("normal", "reduce")
#: The published search network, and the network that evaluates what it finds.
SEARCH, EVALUATION = Settings(8, 16), Settings()
_EDGES = tuple((state, node) for node in NODES for state in range(node))


@dataclass(frozen=True)
class OpenCellUnit(CellUnit):
    """A cell with a choice on every edge."""

    operations: tuple[str, ...] = OPERATIONS

    def expand(self) -> tuple[Node, ...]:
        edges = list(preprocessing(self))
        for state, node in _EDGES:
            stride = 2 if self.reduces and state < NODES[0] else 1
            alternatives = tuple(
                (name, _searched(operation_nodes(name, self.channels, stride))) for name in self.operations
            )
            choice = Choice(_name(CELLS[self.reduces], state, node), alternatives)
            edges.append(Edge(state + 2, node + 2, (choice,)))
        graph = Graph(2, tuple(edges), tuple(node + 2 for node in NODES))
        return without_affine((graph,), tracks=True)

    def __str__(self) -> str:
        kind = f"{'R' * self.reduces}{'F' * self.was_reduced}"
        return f"DARTSOpenCell{kind}({','.join(self.operations)};{self.before},{self.in_channels},{self.channels})"


@dataclass(frozen=True)
class OpenDarts(OpenNetwork):
    """The search network.

    Args:
        operations:
            Operations that may be found.
        settings:
            How the cells of the search network are stacked.
        evaluated:
            How those of a derived architecture are.
    """

    operations: tuple[str, ...] = OPERATIONS
    settings: Settings = SEARCH
    evaluated: Settings = EVALUATION

    family: ClassVar[str] = "darts"
    skip: ClassVar[str] = "skip"
    recipe: ClassVar[str] = "darts-search"

    @cached_property
    def description(self) -> Description:
        def open_cell(
            before: int, in_channels: int, channels: int, reduces: bool, was_reduced: bool
        ) -> OpenCellUnit:
            return OpenCellUnit((), before, in_channels, channels, reduces, was_reduced, self.operations)

        units, names = stacked(self.settings, open_cell)
        return Description(units, names)

    @property
    def choices(self) -> dict[str, tuple[str, ...]]:
        return {_name(cell, state, node): self.operations for cell in CELLS for state, node in _EDGES}

    def derive(self, weights: Weights) -> DartsArchitecture:
        """Return the genotype whose nodes keep the two edges of the largest weight of an operation but ``none``."""
        cells = []
        for cell in CELLS:
            terms: list[Term] = []
            for node in NODES:
                best = []
                for state in range(node):
                    own = zip(weights[_name(cell, state, node)], self.operations, strict=True)
                    weight, operation = max(
                        pair for pair in own if pair[1] != "none" or len(self.operations) == 1
                    )
                    best.append((weight, -state, operation))
                terms += [(operation, -negative) for _, negative, operation in sorted(best)[-2:]]
            cells.append(tuple(terms))
        return DartsArchitecture(Genotype(*cells), self.evaluated)

    def only(self, choice: str | None = None, operation: str = "") -> DartsArchitecture:
        """Return the genotype with a single operation; on the node's other edge and on all others is ``none``."""
        cells = []
        for cell in CELLS:
            terms: list[Term] = []
            for node in NODES:
                chosen = next((state for state in range(node) if _name(cell, state, node) == choice), None)
                if chosen is None:
                    terms += [("none", 0), ("none", 1)]
                else:
                    terms += [(operation, chosen), ("none", 1 if chosen == 0 else 0)]
            cells.append(tuple(terms))
        return DartsArchitecture(Genotype(*cells), self.evaluated)

    def operations_of(self, architecture: DartsArchitecture) -> tuple[tuple[str, ...], ...]:
        def names(cell: Cell) -> tuple[str, ...]:
            return tuple(operation for operation, _ in cell)

        return names(architecture.genotype.normal), names(architecture.genotype.reduce)


def _name(cell: str, state: int, node: int) -> str:
    return f"{cell}_{state}to{node}"


def _searched(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Return an operation as the search network has it."""
    pool = nodes[0]
    return (pool, Norm(pool.channels, EPS)) if isinstance(pool, Pool) else nodes
