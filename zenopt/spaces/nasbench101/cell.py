"""Cells of NAS-Bench-101: graphs without cycles, up to isomorphism.

Vertex 0 is the cell's input, the last one its output, each of those between computes an operation on the sum of what
leads to it. What is not on a path from input to output is no part of the cell. Of all orders of the vertices the
canonical one is that of the release's list of graphs: the least number whose bits ``start + end (end - 1) / 2`` stand
for the edges, then the first operations in the order of :data:`OPERATIONS`. It matters, for what is left when channels
are shared out goes to the first vertices.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

from zenopt.core.errors import StructureError

#: Names of the release -> ours, in the release's order.
SHORT_NAMES = {"conv3x3-bn-relu": "conv3", "conv1x1-bn-relu": "conv1", "maxpool3x3": "max3"}
OPERATIONS = tuple(SHORT_NAMES.values())
MAX_VERTICES, MAX_EDGES = 7, 9

Edges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Cell:
    """A cell; whatever order its vertices are given in, they get the canonical one.

    Args:
        operations:
            One for each vertex between input and output, from :data:`OPERATIONS`.
        edges:
            Pairs of vertices, each from an earlier one to a later one.

    Raises:
        StructureError: If an operation or a vertex is unknown, nothing leads from input to output, or there are more
            than :data:`MAX_VERTICES` or :data:`MAX_EDGES` on such paths.
    """

    operations: tuple[str, ...]
    edges: Edges

    def __post_init__(self) -> None:
        last = len(self.operations) + 1
        for operation in self.operations:
            if operation not in OPERATIONS:
                raise StructureError(
                    f"Unknown NAS-Bench-101 operation {operation[:30]!r}; allowed: {', '.join(SHORT_NAMES)}."
                )
        for start, end in self.edges:
            if not 0 <= start < end <= last:
                raise StructureError(
                    f"Edges of this NAS-Bench-101 cell lead from a vertex to a later one, 0 to {last}; got {start} to "
                    f"{end}."
                )
        operations, edges = pruned(self.operations, self.edges)
        if not edges:
            raise StructureError("Nothing leads from the input of the NAS-Bench-101 cell to its output.")
        for what, found, most in (
            ("vertices", len(operations) + 2, MAX_VERTICES),
            ("edges", len(edges), MAX_EDGES),
        ):
            if found > most:
                raise StructureError(f"A NAS-Bench-101 cell has at most {most} {what}, got {found}.")
        operations, edges = _canonical(operations, edges)
        object.__setattr__(self, "operations", operations)
        object.__setattr__(self, "edges", edges)

    @property
    def output(self) -> int:
        """The last vertex."""
        return len(self.operations) + 1

    def into(self, vertex: int) -> tuple[int, ...]:
        """Return the vertices that lead to one."""
        return tuple(start for start, end in self.edges if end == vertex)

    def matrix(self) -> list[list[int]]:
        """Return the adjacency matrix, rows from, columns to."""
        known, size = set(self.edges), self.output + 1
        return [[int((start, end) in known) for end in range(size)] for start in range(size)]

    def fingerprint(self) -> str:
        """Return the key of the cell in the benchmark: equal for isomorphic cells, and for no others in the space.

        It is the MD5 of the vertices' hashes, each first of its degrees and operation, then repeatedly of its
        neighbours' and its own.
        """
        size = self.output + 1
        before: list[list[int]] = [[] for _ in range(size)]
        after: list[list[int]] = [[] for _ in range(size)]
        for start, end in self.edges:
            before[end].append(start)
            after[start].append(end)
        labels = [-1, *map(OPERATIONS.index, self.operations), -2]
        hashes = [_md5(str((len(after[own]), len(before[own]), labels[own]))) for own in range(size)]
        for _ in range(size):
            hashes = [_md5(_around(hashes, before[own], after[own], own)) for own in range(size)]
        return _md5(str(sorted(hashes)))


def pruned(operations: tuple[str, ...], edges: Iterable[tuple[int, int]]) -> tuple[tuple[str, ...], Edges]:
    """Return operations and edges on paths from input to output, numbered anew; none where there is no path."""
    last, kept = len(operations) + 1, sorted(set(edges))
    reached = {0}
    for vertex in range(1, last + 1):
        if any(start in reached for start, end in kept if end == vertex):
            reached.add(vertex)
    needed = {last}
    for vertex in range(last - 1, -1, -1):
        if any(end in needed for start, end in kept if start == vertex):
            needed.add(vertex)
    own = sorted(reached & needed)
    if last not in own:
        return (), ()
    number = {vertex: index for index, vertex in enumerate(own)}
    return (
        tuple(operations[vertex - 1] for vertex in own[1:-1]),
        tuple((number[start], number[end]) for start, end in kept if start in number and end in number),
    )


def _around(hashes: list[str], before: list[int], after: list[int], own: int) -> str:
    parts = [sorted(hashes[vertex] for vertex in vertices) for vertices in (before, after)]
    return "|".join((*map("".join, parts), hashes[own]))


@lru_cache(maxsize=65_536)
def _canonical(operations: tuple[str, ...], edges: Edges) -> tuple[tuple[str, ...], Edges]:
    last = len(operations) + 1
    best: tuple[int, tuple[int, ...], Edges] | None = None
    for order in permutations(range(1, last)):
        # Vertex v gets the number order[v - 1].
        number = (0, *order, last)
        moved = [(number[start], number[end]) for start, end in edges]
        if any(start >= end for start, end in moved):
            continue
        bits = sum(1 << start + end * (end - 1) // 2 for start, end in moved)
        labels = [0] * len(operations)
        for place, operation in zip(order, operations, strict=True):
            labels[place - 1] = OPERATIONS.index(operation)
        found = bits, tuple(labels), tuple(sorted(moved, key=lambda edge: (edge[1], edge[0])))
        best = found if best is None else min(best, found)
    assert best is not None, "the given order is one"
    return tuple(OPERATIONS[label] for label in best[1]), best[2]


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
