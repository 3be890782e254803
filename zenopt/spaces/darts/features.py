"""What a DARTS cell looks like to a regression: its operations, and the paths from its inputs to its nodes."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from zenopt.spaces.darts.genotype import INPUTS, NODES, OPERATIONS, Cell, node_terms

#: Spatial convolutions in a row, and pixels a map is seen further by, of each operation.
_DEPTH = {"sep3": 2, "sep5": 2, "dil3": 1, "dil5": 1}
_REACH = {"max3": 1, "avg3": 1, "sep3": 2, "sep5": 4, "dil3": 2, "dil5": 4}
_POOLS, _SEPARABLE, _DILATED = ("max3", "avg3"), ("sep3", "sep5"), ("dil3", "dil5")

Path = tuple[str, ...]


def cell_features(cell: Cell, name: str) -> dict[str, float]:
    """Return the features of a cell, each with ``name`` in front; nothing is drawn, built or trained.

    Every node leaves the cell, so paths are those from an input to any node. ``none`` is on no path.
    """
    early = [operation for operation, state in cell if state < INPUTS]
    late = [operation for operation, state in cell if state >= INPUTS]
    paths = _paths(cell)
    depths = [sum(_DEPTH.get(operation, 0) for operation in path) for path in paths]
    found = {
        "from inputs": float(len(early)),
        "from older input": _count(cell, 0, OPERATIONS),
        "skips from inputs": float(early.count("skip")),
        "skips from older input": _count(cell, 0, ("skip",)),
        "convolutions from inputs": float(sum(operation in _DEPTH for operation in early)),
        "deepest path": float(max(depths, default=0)),
        "depth of a path": _mean(depths),
        "depth of a node": _mean(_node_depths(cell, longest=True)),
        "shortest depth of a node": _mean(_node_depths(cell, longest=False)),
        "reach of a path": _mean([sum(_REACH.get(operation, 0) for operation in path) for path in paths]),
        "steps of a path": _mean([len(path) for path in paths]),
        "log paths": log(max(1, len(paths))),
        "paths without convolution": _mean([depth == 0 for depth in depths]),
        "paths of skips": float(sum(set(path) == {"skip"} for path in paths)),
    }
    for group, operations in (("poolings", _POOLS), ("separable", _SEPARABLE), ("dilated", _DILATED)):
        found[group] = float(sum(operation in operations for operation, _ in cell))
    for operation in OPERATIONS:
        found[f"{operation} from inputs"] = float(early.count(operation))
        found[f"{operation} from nodes"] = float(late.count(operation))
        if operation != "none":
            found[f"paths with {operation}"] = _mean([operation in path for path in paths])
    return {f"{name} {key}": value for key, value in found.items()}


def _paths(cell: Cell) -> list[Path]:
    """Return the operations along every path from an input to a node."""
    leading: list[list[Path]] = [[()], [()]]
    for node in NODES:
        terms = [term for term in node_terms(cell, node) if term[0] != "none"]
        leading.append([(*path, operation) for operation, state in terms for path in leading[state]])
    return [path for paths in leading[INPUTS:] for path in paths]


def _node_depths(cell: Cell, *, longest: bool) -> list[int]:
    """Return the convolutions on the longest or shortest path to each node; 0 where none leads there."""
    depths = [0] * INPUTS
    for node in NODES:
        ways = [
            depths[state] + _DEPTH.get(operation, 0)
            for operation, state in node_terms(cell, node)
            if operation != "none"
        ]
        depths.append((max if longest else min)(ways, default=0))
    return depths[INPUTS:]


def _count(cell: Cell, state: int, operations: Sequence[str]) -> float:
    return float(sum(own == state and operation in operations for operation, own in cell))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))
