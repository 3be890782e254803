"""Diagrams of what branches: boxes in layers, arrows between them, placed so that little crosses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from zenopt.core.errors import ZenoptError

#: Times the boxes of a layer are sorted by the places of their neighbours, down and up.
_SWEEPS = 8


@dataclass(frozen=True)
class Box:
    """A box of a diagram.

    Attributes:
        key: Its name in the arrows.
        label: What is written in it.
        kind: ``"state"`` (a feature map) or ``"operation"``.
        kernel: Side of its kernel, which colours it; ``None`` where it has no weights.
        short: What is written where there is no room for the label.
    """

    key: str
    label: str
    kind: str = "operation"
    kernel: int | None = None
    short: str = ""


@dataclass(frozen=True)
class Diagram:
    """Boxes and arrows between them, without cycles; an arrow is a pair of box keys.

    Raises:
        ZenoptError: If an arrow names no box, or there is a cycle.
    """

    boxes: tuple[Box, ...]
    arrows: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        known = {box.key for box in self.boxes}
        unknown = sorted({key for arrow in self.arrows for key in arrow if key not in known})
        if unknown:
            raise ZenoptError(f"Arrows of a diagram name boxes that it does not have: {', '.join(unknown)}.")
        layers_of(self)


@dataclass(frozen=True)
class Layout:
    """Where the boxes of a diagram lie.

    Attributes:
        places: Layer of each box from the top and its place in it, from 0 to 1; an arrow that passes a layer has a
            place there too, under the key ``(start, end, layer)``.
        layers: Number of layers.
        columns: Most places in a layer; those of a layer lie at least a column apart.
    """

    places: dict[Any, tuple[int, float]]
    layers: int
    columns: int


def layers_of(diagram: Diagram) -> dict[str, int]:
    """Return the layer of each box: one below the lowest of those before it.

    Raises:
        ZenoptError: If there is a cycle.
    """
    before: dict[str, list[str]] = {box.key: [] for box in diagram.boxes}
    for start, end in diagram.arrows:
        before[end].append(start)
    found: dict[str, int] = {}
    while len(found) < len(before):
        ready = {
            key: 1 + max((found[start] for start in starts), default=-1)
            for key, starts in before.items()
            if key not in found and all(start in found for start in starts)
        }
        if not ready:
            raise ZenoptError("A diagram must not have a cycle.")
        found.update(ready)
    return found


def lay_out(diagram: Diagram) -> Layout:
    """Place the boxes in layers, each near the middle of its neighbours.

    Arrows that pass layers take a place in each, so that they are drawn around the boxes there (Sugiyama, Tagawa, Toda:
    "Methods for visual understanding of hierarchical system structures", 1981).
    """
    layer_of: dict[Any, int] = dict(layers_of(diagram))
    links: list[tuple[Any, Any]] = []
    for start, end in diagram.arrows:
        path: list[Any] = [start]
        for layer in range(layer_of[start] + 1, layer_of[end]):
            path.append((start, end, layer))
            layer_of[path[-1]] = layer
        links += list(zip(path, [*path[1:], end], strict=True))
    rows: list[list[Any]] = [[] for _ in range(max(layer_of.values(), default=-1) + 1)]
    for key, layer in layer_of.items():
        rows[layer].append(key)
    above = _neighbours(layer_of, [(end, start) for start, end in links])
    below = _neighbours(layer_of, links)
    best, fewest = [list(row) for row in rows], _crossings(rows, below)
    for sweep in range(_SWEEPS):
        is_down = sweep % 2 == 0
        order = range(1, len(rows)) if is_down else range(len(rows) - 2, -1, -1)
        for layer in order:
            near = rows[layer - 1] if is_down else rows[layer + 1]
            place = {key: index / max(1, len(near) - 1) for index, key in enumerate(near)}
            _sort(rows[layer], above if is_down else below, place)
        crossings = _crossings(rows, below)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    across = _straightened(best, above, below)
    places = {key: (layer, across[key]) for layer, row in enumerate(best) for key in row}
    return Layout(places, len(best), max(map(len, best), default=1))


def _straightened(
    rows: list[list[Any]], above: dict[Any, list[Any]], below: dict[Any, list[Any]]
) -> dict[Any, float]:
    """Return places from 0 to 1: each node near the mean of its neighbours, those of a layer apart."""
    apart = 1.0 / max(map(len, rows), default=1)
    found = {key: (index + 0.5) / len(row) for row in rows for index, key in enumerate(row)}
    for _ in range(_SWEEPS):
        for row in rows:
            wanted = []
            for key in row:
                near = [found[other] for other in (*above[key], *below[key])]
                wanted.append(sum(near) / len(near) if near else found[key])
            # From the left, then from the right: no two closer than one column, none outside.
            for index, key in enumerate(row):
                left = found[row[index - 1]] + apart if index else apart / 2
                found[key] = max(wanted[index], left)
            for index in range(len(row) - 1, -1, -1):
                right = found[row[index + 1]] - apart if index + 1 < len(row) else 1 - apart / 2
                found[row[index]] = min(found[row[index]], right)
    return found


def _neighbours(
    keys: Sequence[Any] | dict[Any, int], links: Sequence[tuple[Any, Any]]
) -> dict[Any, list[Any]]:
    found: dict[Any, list[Any]] = {key: [] for key in keys}
    for start, end in links:
        found[start].append(end)
    return found


def _sort(row: list[Any], neighbours: dict[Any, list[Any]], place: dict[Any, float]) -> None:
    """Sort a layer by the mean place of the neighbours; what has none keeps its place."""
    own = {key: index / max(1, len(row) - 1) for index, key in enumerate(row)}

    def middle(key: Any) -> float:
        near = [place[other] for other in neighbours[key] if other in place]
        return sum(near) / len(near) if near else own[key]

    row.sort(key=middle)


def _crossings(rows: list[list[Any]], below: dict[Any, list[Any]]) -> int:
    total = 0
    for upper, lower in pairwise(rows):
        place = {key: index for index, key in enumerate(lower)}
        ends = [(index, place[end]) for index, key in enumerate(upper) for end in below[key] if end in place]
        total += sum(
            (a[0] - b[0]) * (a[1] - b[1]) < 0 for position, a in enumerate(ends) for b in ends[:position]
        )
    return total
