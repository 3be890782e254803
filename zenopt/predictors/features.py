"""Facts of an architecture's shape, as numbers that a regression can read. Pure Python."""

from __future__ import annotations

import math
from typing import Any

from zenopt.core.costs import count


def architecture_features(architecture: Any, resolution: int, num_classes: int) -> dict[str, float]:
    """Return the features of an architecture; the same names for all of a family.

    What a family says of itself (a cell: what lies on a path from its input to its output), else the logarithms of its
    counts. Nothing is drawn, built or trained.

    Args:
        architecture:
            The architecture.
        resolution:
            Side of the square input image in pixels.
        num_classes:
            Outputs of the classifier.

    Raises:
        StructureError: If the architecture has no description.
    """
    own: dict[str, float] = architecture.shape_features()
    if own:
        return own
    costs = count(architecture, resolution, num_classes)
    return {
        "log params": math.log(costs.params),
        "log MACs": math.log(costs.macs),
        "log convolutions": math.log(max(1, costs.convs)),
    }
