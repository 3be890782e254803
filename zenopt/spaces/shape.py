"""The shape of a network of stages as numbers that a predictor of accuracy can read. Pure Python."""

from __future__ import annotations

from functools import lru_cache
from math import log, log2, sqrt
from typing import Any

from zenopt.core.description import Unit
from zenopt.core.lowering import Layer, lower_unit, unit_out_size, walk_units


def shape_profile(architecture: Any, resolution: int, levels: int) -> dict[str, float]:
    """Return depths, widths and kernels, at every map size and of the whole network.

    Level ``l`` are the maps of ``resolution / 2**l`` pixels. A level without layers has the width of the one before.

    Args:
        architecture:
            The network.
        resolution:
            Side of the square input image in pixels.
        levels:
            Map sizes that networks of the family may have.
    """
    layers: list[Layer] = []
    widths: dict[int, int] = {}
    for unit, sizes in walk_units(architecture, resolution):
        layers += _convs(unit, sizes)
        if unit.role == "body":
            widths[unit_out_size(unit, sizes)] = unit.out_channels
    main = [layer for layer in layers if layer.role == "body"]
    features: dict[str, float] = {}
    width, last = 1, 0
    for level in range(levels):
        side = resolution >> level
        here = [layer for layer in main if layer.out_size == side]
        if side in widths:
            width, last = widths[side], level
        spatial = [layer for layer in here if layer.kernel > 1]
        features[f"level {level} depth"] = sqrt(len(spatial))
        features[f"level {level} log width"] = log(width)
        features[f"level {level} log inner width"] = log(
            max((item.out_channels for item in spatial), default=1)
        )
        features[f"level {level} log MACs"] = log(1e5 + sum(layer.macs for layer in here))
        features[f"level {level} kernel"] = sum(item.kernel for item in spatial) / max(1, len(spatial))
    field = stride = 1
    for layer in main:
        field += (layer.kernel - 1) * stride
        stride *= layer.stride
    spatial = [layer for layer in main if layer.kernel > 1]
    features |= {
        "depth": sqrt(len(spatial)),
        "convolutions": sqrt(len(main)),
        "log receptive field": log(field),
        "log last side": log2(resolution) - last,
        "log last width": log(width),
        "kernel": sum(layer.kernel for layer in spatial) / max(1, len(spatial)),
        "gates": sum(layer.role == "se" for layer in layers) / 2,
        "log fan-in": sum(log(layer.in_channels // layer.groups * layer.kernel**2) for layer in main) / 10,
    }
    return features


@lru_cache(maxsize=65_536)
def _convs(unit: Unit, sizes: int | tuple[int, ...]) -> tuple[Layer, ...]:
    return tuple(layer for layer in lower_unit(unit, sizes) if layer.kind == "conv")
