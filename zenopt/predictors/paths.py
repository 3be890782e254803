"""The paths through a network's cells, as columns for a predictor: a graph encoding that knows no family.

BANANAS (White et al., AAAI 2021) encodes a cell by which of all possible paths from its input to its output it has, a
path being the operations along it. Here any cell that can be drawn is read (:mod:`zenopt.core.cells`), what computes
nothing is left out of paths, so that cells which compute the same read the same, and each path counts in three ways:
its operations in order, their kinds in order (convolution, pooling, skip), and its operations whatever their order.

Thousands of paths are possible. Each has a random row of :data:`COLUMNS` signs, a network the sum of its paths' rows:
products and distances of networks are those of the full encoding but for a small error (Achlioptas, "Database-friendly
random projections", JCSS 66, 2003). A row follows from the path alone, so it is the same in every study.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zenopt.core.cells import Sketch, Step, sketch_of
from zenopt.core.description import describe

#: Name of the group of inputs.
PATHS = "paths"
#: Columns that the paths of a network are spread over.
COLUMNS = 96
#: Paths of a cell after which longer ones are left out.
MOST = 2000

#: An operation on a path: in words, and its kind.
Operation = tuple[str, str]


def path_columns(architecture: Any) -> NDArray[np.float64] | None:
    """Return the columns of an architecture's cells; ``None`` if no part of it branches."""
    found = views_of(architecture)
    return None if found is None else sum(map(_signs, found), np.zeros(COLUMNS))


def views_of(architecture: Any) -> frozenset[str] | None:
    """Return what the paths of an architecture's cells are counted as; ``None`` if no part of it branches.

    Cells of different labels (normal and reduction cells, say) are told apart, their widths are not.
    """
    cells: set[tuple[str, Sketch]] = set()
    for unit in set(describe(architecture).units):
        sketch = sketch_of(unit)
        if sketch is not None:
            cells.add((unit.label, sketch))
    if not cells:
        return None
    return frozenset().union(*(_views(label, sketch) for label, sketch in cells))


@lru_cache(maxsize=4096)
def _views(label: str, sketch: Sketch) -> frozenset[str]:
    """Return what a cell's paths are counted as."""
    found: set[tuple[str, ...]] = set()
    for start, operations in _paths(sketch):
        words = [word for word, _ in operations]
        found.add(("path", start, *words))
        found.add(("kinds", start, *(kind for _, kind in operations)))
        found.add(("bag", start, *sorted(words)))
    return frozenset("\n".join((label, *view)) for view in found)


@lru_cache(maxsize=65536)
def _signs(view: str) -> NDArray[np.float64]:
    bits = np.frombuffer(hashlib.shake_256(view.encode()).digest(COLUMNS // 8), np.uint8)
    return np.unpackbits(bits).astype(np.float64) * 2 - 1


def _paths(sketch: Sketch) -> set[tuple[str, tuple[Operation, ...]]]:
    """Return the input at which each path to the output begins, and the operations along it."""
    last = len(sketch.places) - 1
    leading: dict[int, list[tuple[int, tuple[Operation, ...]]]] = {}
    for step in sketch.steps:
        joins = sketch.is_joined and step.target == last
        own = () if joins or step.label == "identity" else ((step.label, _kind(step)),)
        for source in step.sources:
            leading.setdefault(source, []).append((step.target, own))
    found = set()
    # All paths of one length at once: where there are too many, equal graphs lose the same ones.
    level: set[tuple[str, int, tuple[Operation, ...]]] = {
        (str(place), place, ()) for place in range(sketch.inputs)
    }
    while level and len(level) <= MOST:
        found |= {(start, path) for start, place, path in level if sketch.places[place] == "output"}
        level = {
            (start, target, (*path, *own))
            for start, place, path in level
            for target, own in leading.get(place, ())
        }
    return found


def _kind(step: Step) -> str:
    if step.label.startswith("skip"):
        return "skip"
    if step.kernel is not None:
        return "convolution"
    return "pooling" if "pool" in step.label else step.label
