"""What a NAS-Bench-201 cell looks like to a regression: operations and paths between its input and output."""

from __future__ import annotations

from zenopt.spaces.nasbench201.cell import EDGES, OPERATIONS

#: Every path from the input (node 0) to the output (node 3), as indices into ``EDGES``.
_PATHS = tuple(
    tuple(EDGES.index(edge) for edge in path)
    for path in (((0, 3),), ((0, 1), (1, 3)), ((0, 2), (2, 3)), ((0, 1), (1, 2), (2, 3)))
)


def cell_features(operations: tuple[str, ...]) -> dict[str, float]:
    """Return the features of a cell; nothing is drawn, built or trained."""
    open_paths = _open_paths(operations)
    live = {edge for path in open_paths for edge in path}
    paths = [[operations[edge] for edge in path] for path in open_paths]
    convs = [sum(name.startswith("nor_conv") for name in path) for path in paths]
    counts = {
        f"live {name}": float(sum(operations[edge] == name for edge in live))
        for name in OPERATIONS
        if name != "none"
    }
    return {
        **counts,
        "dead edges": float(len(EDGES) - len(live)),
        "paths": float(len(paths)),
        "is connected": float(bool(paths)),
        "most convolutions on a path": float(max(convs, default=0)),
        "fewest convolutions on a path": float(min(convs, default=0)),
        "most 3x3 convolutions on a path": float(
            max((path.count("nor_conv_3x3") for path in paths), default=0)
        ),
        "poolings on paths": float(sum(path.count("avg_pool_3x3") for path in paths)),
        "paths with pooling": float(sum("avg_pool_3x3" in path for path in paths)),
        "paths of skips": float(sum(set(path) == {"skip_connect"} for path in paths)),
        "paths without convolution": float(convs.count(0)),
    }


def end_features(operations: tuple[str, ...]) -> dict[str, float]:
    """Return how often each convolution reads a cell's input, and how often it makes its output."""
    found = {}
    live = {edge for path in _open_paths(operations) for edge in path}
    for name in ("nor_conv_1x1", "nor_conv_3x3"):
        own = [EDGES[edge] for edge in live if operations[edge] == name]
        found[f"{name} from the input"] = float(sum(start == 0 for start, _ in own))
        found[f"{name} to the output"] = float(sum(end == 3 for _, end in own))
    return found


def _open_paths(operations: tuple[str, ...]) -> list[tuple[int, ...]]:
    return [path for path in _PATHS if all(operations[edge] != "none" for edge in path)]
