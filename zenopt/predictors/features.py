"""Facts of an architecture's shape, as numbers that a regression can read. Pure Python.

A cell of NAS-Bench-201 is described by what lies on a path from its input to its output, any other architecture by its
layers: nothing is drawn, built or trained.
"""

from __future__ import annotations

import math
from typing import Any

from zenopt.core.lowering import lower
from zenopt.spaces.nasbench201.architecture import EDGES, OPERATIONS, CellArchitecture

#: Every path from the input (node 0) to the output (node 3), as indices into ``EDGES``.
_PATHS = tuple(
    tuple(EDGES.index(edge) for edge in path)
    for path in (((0, 3),), ((0, 1), (1, 3)), ((0, 2), (2, 3)), ((0, 1), (1, 2), (2, 3)))
)


def architecture_features(architecture: Any, resolution: int, num_classes: int) -> dict[str, float]:
    """Returns the features of an architecture; the same names for all of a family.

    Args:
        architecture:
            A NAS-Bench-201 cell, a chain of super-blocks, or anything that can be lowered to layers.
        resolution:
            Side of the square input image in pixels.
        num_classes:
            Outputs of the classifier.

    Raises:
        StructureError: If the architecture cannot be lowered.
    """
    if isinstance(architecture, CellArchitecture):
        return _cell_features(architecture.operations)
    layers = lower(architecture, resolution, num_classes=num_classes)
    convs = sum(layer.kind == "conv" and layer.role == "body" for layer in layers)
    return {
        "log params": math.log(sum(layer.params for layer in layers)),
        "log MACs": math.log(sum(layer.macs for layer in layers)),
        "log convolutions": math.log(max(1, convs)),
    }


def _cell_features(operations: tuple[str, ...]) -> dict[str, float]:
    open_paths = [path for path in _PATHS if all(operations[edge] != "none" for edge in path)]
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
