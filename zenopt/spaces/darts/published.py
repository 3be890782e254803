"""Counts of DARTS networks as two published tables have them, in millions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from zenopt.core.lowering import Layer, lower
from zenopt.spaces.base import BaseArchitecture

RESOLUTION, NUM_CLASSES = 32, 10
#: What NASLib's table counts of stem, preprocessing and head besides convolutions and ReLUs.
_NASLIB_REST = 1_095_168


def once_counts(architecture: BaseArchitecture) -> dict[str, float]:
    """Return ``flop`` and ``params`` of OnceNAS-Bench.

    The former are MACs, 4 per output of a BN, outputs of average poolings, and inputs and outputs of the last one.
    """
    layers = lower(architecture, RESOLUTION, num_classes=NUM_CLASSES)
    operations = sum(layer.macs for layer in layers)
    operations += sum(4 * layer.out_elements for layer in layers if layer.kind == "norm")
    operations += sum(layer.out_elements for layer in layers if layer.kind == "avgpool")
    operations += sum(_in_elements(layer) + layer.out_elements for layer in layers if layer.kind == "pool")
    return {"flop": operations / 1e6, "params": sum(layer.params for layer in layers) / 1e6}


def naslib_counts(architecture: BaseArchitecture) -> dict[str, float]:
    """Return ``flops`` and ``params`` of NASLib's table of 725 networks, which has six digits of them.

    The former are MACs of convolutions, outputs of BNs in operations, inputs of ReLUs, 10 per output of a pooling, and
    a constant. The latter leave out the weights of BNs in operations.
    """
    layers = lower(architecture, RESOLUTION, num_classes=NUM_CLASSES)
    inside = [layer for layer in _of_operations(layers) if layer.kind == "norm"]
    operations = _NASLIB_REST + sum(layer.macs for layer in layers if layer.kind == "conv")
    operations += sum(layer.out_elements for layer in inside)
    operations += sum(_in_elements(layer) for layer in layers if layer.kind == "relu")
    operations += sum(10 * layer.out_elements for layer in layers if layer.kind in ("avgpool", "maxpool"))
    params = sum(layer.params for layer in layers) - sum(layer.params for layer in inside)
    return {"flops": operations / 1e6, "params": params / 1e6}


def _in_elements(layer: Layer) -> int:
    return layer.in_channels * layer.in_size**2


def _of_operations(layers: tuple[Layer, ...]) -> Iterator[Layer]:
    """Yield the layers of cells that are behind their two preprocessings, each of which ends with a BN."""
    for block, own in groupby(layers, key=lambda layer: layer.block):
        norms = 0
        for layer in own:
            if block and layer.role == "body" and norms >= 2:
                yield layer
            norms += layer.kind == "norm"
