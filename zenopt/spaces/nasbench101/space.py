"""The NAS-Bench-101 space: 423,624 cells.

Parameters are ``vertex{i}`` for the operations of vertices 1 to 5 and ``edge{i}{j}``, 0 or 1, for the edges from
vertex ``i`` to ``j``; vertex 0 is the input, 6 the output. Every choice spells a cell, for samplers do not know what a
cell may be: without a way from input to output the edge between the two is added, and of more than nine edges on such
ways the last ones go that no vertex needs.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from zenopt.core.errors import StructureError
from zenopt.spaces.base import check_factors
from zenopt.spaces.nasbench101.architecture import NUM_CLASSES, RESOLUTION, Nb101Architecture, Settings
from zenopt.spaces.nasbench101.cell import MAX_EDGES, MAX_VERTICES, Cell, Edges, pruned
from zenopt.spaces.registry import register_space
from zenopt.spaces.slots import SlotSpace

INNER = range(1, MAX_VERTICES - 1)
OUTPUT = MAX_VERTICES - 1
#: By the vertex they lead to.
EDGES = tuple((start, end) for end in range(1, MAX_VERTICES) for start in range(end))
#: From the cheapest to the most expensive.
BY_COST = ("max3", "conv1", "conv3")
#: Attempts at a mutation until another cell comes out.
_TRIES = 100


@register_space("nasbench101")
@dataclass(frozen=True)
class NasBench101Space(SlotSpace):
    """All cells, stacked in one way: 3 stacks of 3 cells behind a stem of 128 channels in the benchmark.

    Args:
        stacks:
            Number of stacks.
        cells:
            Cells in each stack.
        channels:
            Channels of the stem and of the first stack; every further stack has twice as many.
        initial:
            The network a search starts from; by default the cell of a ResNet: two 3x3 convolutions beside a shortcut.

    Raises:
        StructureError: If the stacking is impossible, or the initial network malformed or outside the space.
    """

    stacks: int = 3
    cells: int = 3
    channels: int = 128
    initial: str = ""

    default_resolution: ClassVar[int] = RESOLUTION
    default_num_classes: ClassVar[int] = NUM_CLASSES
    architecture_type: ClassVar[type] = Nb101Architecture
    no_supernet: ClassVar[str] = (
        "widths of vertices depend on the whole graph, and no few networks have all its layers"
    )

    def __post_init__(self) -> None:
        first = self.parse(self.initial or "conv3~0,conv3~1,out~0+2")
        self.encode(first)
        object.__setattr__(self, "initial", str(first))

    @cached_property
    def settings(self) -> Settings:
        """How cells are stacked."""
        return Settings(self.stacks, self.cells, self.channels)

    @classmethod
    def recognises(cls, text: str) -> bool:
        """Return whether a text begins as a canonical one or a ``ModelSpec`` does."""
        return text.lstrip().startswith(("nb101-", "ModelSpec(", "api.ModelSpec("))

    def parse(self, text: str) -> Nb101Architecture:
        """Read a canonical text, or a cell, which is then stacked as the space says."""
        return Nb101Architecture.parse(text, self.settings)

    def text_of_row(self, row: Mapping[str, str]) -> str | None:
        """Return the columns ``module_adjacency`` and ``module_operations`` as one text."""
        adjacency, operations = (
            row.get(f"module_{name}", "").strip() for name in ("adjacency", "operations")
        )
        if adjacency and operations:
            return f"ModelSpec(matrix={adjacency}, ops={operations})"
        return super().text_of_row(row)

    # -- parameters -------------------------------------------------------------------------------------------------

    @cached_property
    def slots(self) -> dict[str, tuple[Any, ...]]:
        return {
            **{f"vertex{vertex}": BY_COST for vertex in INNER},
            **{f"edge{start}{end}": (0, 1) for start, end in EDGES},
        }

    def from_values(self, values: Sequence[Any]) -> Nb101Architecture:
        operations, edges = _split(values)
        return Nb101Architecture(Cell(*repaired(operations, edges)), self.settings)

    def values_of(self, architecture: Nb101Architecture) -> Sequence[Any]:
        if architecture.settings != self.settings:
            raise StructureError(
                f"Outside the space: cells are stacked as {architecture.settings}; allowed is {self.settings}."
            )
        cell = architecture.cell
        # The output is the last vertex whatever there are; vertices that are left have no edges.
        operations = [*cell.operations, *[BY_COST[0]] * (len(INNER) - len(cell.operations))]
        own = {(start, OUTPUT if end == cell.output else end) for start, end in cell.edges}
        return [*operations, *(int(edge in own) for edge in EDGES)]

    # -- moves ------------------------------------------------------------------------------------------------------

    def draw(self, rng: random.Random) -> Nb101Architecture:
        """Return a cell of operations and edges drawn uniformly, and anew until they are one."""
        while True:
            values = [rng.choice(values) for values in self.slots.values()]
            found = self._valid(values)
            if found is not None:
                return found

    def mutate(
        self, architecture: Nb101Architecture, rng: random.Random, *, blocks: int = 1
    ) -> Nb101Architecture | None:
        """Change a vertex's operation, add or take away an edge, or put a vertex on one, ``blocks`` times."""
        for _ in range(_TRIES):
            child: Nb101Architecture | None = architecture
            for _ in range(blocks):
                child = child and self._changed(child, rng)
            if child is not None and child != architecture:
                return child
        return None

    def neighbours(self, architecture: Nb101Architecture) -> list[Nb101Architecture]:
        """Return the cells with another operation at a vertex, an edge more or less, or a vertex put on an edge."""
        values = list(self.values_of(architecture))
        found = dict.fromkeys(
            self._valid([*values[:index], value, *values[index + 1 :]])
            for index, allowed in enumerate(self.slots.values())
            for value in allowed
        )
        found.update(
            dict.fromkeys(
                self._with_vertex(architecture, edge, operation)
                for edge in architecture.cell.edges
                for operation in BY_COST
            )
        )
        return [child for child in found if child is not None and child != architecture]

    def _changed(self, architecture: Nb101Architecture, rng: random.Random) -> Nb101Architecture | None:
        """Return the cell after one random change; ``None`` where it is none."""
        values, edges = list(self.values_of(architecture)), architecture.cell.edges
        index = rng.randrange(len(values) + len(edges))
        if index >= len(values):
            # Edges to a vertex without any lead nowhere: cells would never grow.
            return self._with_vertex(architecture, edges[index - len(values)], rng.choice(BY_COST))
        allowed = list(self.slots.values())[index]
        values[index] = rng.choice([value for value in allowed if value != values[index]])
        return self._valid(values)

    def _with_vertex(
        self, architecture: Nb101Architecture, edge: tuple[int, int], operation: str
    ) -> Nb101Architecture | None:
        """Return the cell with a further vertex on an edge; ``None`` where there is no room for it."""
        cell, (start, end) = architecture.cell, edge
        if cell.output == OUTPUT or len(cell.edges) == MAX_EDGES:
            return None
        # The new vertex takes the number of the one that the edge leads to.
        later = [
            (first + (first >= end), second + (second >= end))
            for first, second in cell.edges
            if (first, second) != edge
        ]
        operations = (*cell.operations[: end - 1], operation, *cell.operations[end - 1 :])
        return Nb101Architecture(Cell(operations, (*later, (start, end), (end, end + 1))), self.settings)

    def shrink(self, architecture: Nb101Architecture) -> Nb101Architecture | None:
        """Return the cell with a cheaper operation at the last of the most expensive vertices."""
        operations = list(architecture.cell.operations)
        costs = [BY_COST.index(name) for name in operations]
        if not any(costs):
            return None
        place = len(costs) - 1 - costs[::-1].index(max(costs))
        operations[place] = BY_COST[costs[place] - 1]
        return Nb101Architecture(Cell(tuple(operations), architecture.cell.edges), self.settings)

    def scale(
        self, architecture: Nb101Architecture, *, width: float = 1.0, depth: float = 1.0
    ) -> Nb101Architecture:
        """Return the same cell stacked otherwise: ``width`` times the channels, ``depth`` times the cells, rounded.

        Raises:
            StructureError: If a factor is no positive number, or the result too large or too small.
        """
        check_factors(width=width, depth=depth)
        old = architecture.settings
        settings = Settings(old.stacks, round(old.cells * depth), round(old.channels * width))
        return Nb101Architecture(architecture.cell, settings)

    def _valid(self, values: Sequence[Any]) -> Nb101Architecture | None:
        """Return the cell of the slots' values as they are, or ``None`` where they are none."""
        operations, edges = pruned(*_split(values))
        if not 0 < len(edges) <= MAX_EDGES:
            return None
        return Nb101Architecture(Cell(operations, edges), self.settings)


def _split(values: Sequence[Any]) -> tuple[tuple[str, ...], Edges]:
    count = len(INNER)
    edges = tuple(edge for edge, is_there in zip(EDGES, values[count:], strict=True) if is_there)
    return tuple(values[:count]), edges


def repaired(operations: tuple[str, ...], edges: Edges) -> tuple[tuple[str, ...], Edges]:
    """Return operations and edges of a cell, those given where they are one."""
    found = pruned(operations, edges)
    if not found[1]:
        return pruned(operations, (*edges, (0, OUTPUT)))
    while len(found[1]) > MAX_EDGES:
        names, own = found
        candidates = [pruned(names, own[:place] + own[place + 1 :]) for place in range(len(own) - 1, -1, -1)]
        # The last of the edges that take the fewest others with them.
        found = max(candidates, key=lambda cell: len(cell[1]))
    return found
