"""What a latency model sees of a network: operations with their arithmetic and their traffic.

Two roads lead here: the layers of an architecture (:func:`unit_operations`, pure Python, cached), and the hooks on a
plain torch module (:mod:`zenopt.latency.trace`). Models below this line do not care which one was taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from zenopt.core.description import Unit
from zenopt.core.lowering import Layer, head_layers, lower_unit
from zenopt.core.primitives import Node

OperationKind = Literal["conv", "linear", "norm", "activation", "add", "multiply", "pool", "matmul", "other"]

_KINDS: dict[str, OperationKind] = {
    "conv": "conv",
    "linear": "linear",
    "norm": "norm",
    "relu": "activation",
    "sigmoid": "activation",
    "activation": "activation",
    "add": "add",
    "multiply": "multiply",
    "pool": "pool",
    "avgpool": "pool",
    "maxpool": "pool",
    "concat": "other",
    "shuffle": "other",
    "slice": "other",
    "shift": "other",
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation for one image.

    Attributes:
        kind: What it does. Global and local pooling are both ``pool``.
        block: Index of the super-block it belongs to.
        role: Where it stands, as in :class:`zenopt.core.lowering.Layer`.
        in_channels, out_channels, kernel, stride, groups: As in torch's ``Conv2d``; ``kernel`` is the side of a square
            of the same area, so it need not be whole.
        in_size, out_size: Side of a square map of the same area, in pixels.
        macs: Multiply-adds.
        read, written: Numbers read from and written to feature maps (weights not counted).
        weights: Numbers in the weights.
    """

    kind: OperationKind
    block: int
    role: str
    in_channels: int
    out_channels: int
    kernel: float
    stride: int
    groups: int
    in_size: float
    out_size: float
    macs: float
    read: float
    written: float
    weights: float

    @property
    def is_depthwise(self) -> bool:
        """Whether it is a convolution with one input channel per group (and more than one group)."""
        return self.kind == "conv" and self.groups > 1 and self.groups == self.in_channels


def layer_operation(layer: Layer) -> Operation:
    """Return the operation of a layer; additions and gates read two maps."""
    in_elements = layer.in_channels * layer.in_size**2
    out_elements = layer.out_elements
    read = in_elements
    if layer.kind == "add":
        read = 2 * in_elements
    elif layer.kind == "multiply":
        read = in_elements + layer.in_channels
    return Operation(
        _KINDS[layer.kind], layer.block, layer.role, layer.in_channels, layer.out_channels, layer.kernel,
        layer.stride, layer.groups, layer.in_size, layer.out_size, layer.macs, read, out_elements, layer.params,
    )  # fmt: skip


@lru_cache(maxsize=65_536)
def unit_operations(
    unit: Unit, in_size: int | tuple[int, ...], use_se: bool = False
) -> tuple[Operation, ...]:
    """Return the operations of a unit with its residual links, as a trained network has them."""
    return tuple(map(layer_operation, lower_unit(unit, in_size, use_se, True)))


@lru_cache(maxsize=65_536)
def head_operations(
    width: int, size: int, num_classes: int, neck: tuple[Node, ...] = (), features: int = 0
) -> tuple[Operation, ...]:
    """Return the operations of global average pooling, the neck and the classifier."""
    return tuple(map(layer_operation, head_layers(width, size, num_classes, neck, features)))
