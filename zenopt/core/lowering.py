"""Architecture -> layers: the one expansion that every count, score and prediction reads.

A :class:`Layer` is a primitive with its shapes at a resolution. Feature maps are square; sizes are sides in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from zenopt.core.errors import StructureError
from zenopt.core.primitives import Conv, Node, Norm, Relu, Residual, SqueezeExcite
from zenopt.spaces.chain.architecture import Architecture, Block

Kind = Literal["conv", "norm", "relu", "add", "pool", "sigmoid", "multiply", "linear", "avgpool"]
Role = Literal["body", "projection", "se", "head"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One primitive operation with its shapes, for one image.

    Attributes:
        kind: The operation. ``pool`` is a global average pool, ``avgpool`` a local one.
        role: Where it stands: in a block's body, on a shortcut, inside a squeeze-excite gate, or in the head.
        block: Index of its super-block; the head has the index after the last.
        in_size, out_size: Side of the square input and output map, in pixels.
    """

    kind: Kind
    role: Role
    block: int
    in_channels: int
    out_channels: int
    in_size: int
    out_size: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    bias: bool = False

    @property
    def params(self) -> int:
        """Trainable numbers of the layer."""
        if self.kind in ("conv", "linear"):
            weights = self.in_channels // self.groups * self.out_channels * self.kernel**2
            return weights + (self.out_channels if self.bias else 0)
        return 2 * self.out_channels if self.kind == "norm" else 0

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and linear layers, padding taps counted; 0 for the rest (as torch counts)."""
        if self.kind in ("conv", "linear"):
            return self.in_channels // self.groups * self.out_channels * self.kernel**2 * self.out_size**2
        return 0

    @property
    def out_elements(self) -> int:
        """Numbers in the output map."""
        return self.out_channels * self.out_size**2


def lower(
    architecture: Any,
    resolution: int,
    *,
    num_classes: int = 1000,
    use_se: bool = False,
    residual: bool = True,
) -> tuple[Layer, ...]:
    """Expands an architecture to its layers.

    Args:
        architecture:
            A chain of super-blocks, or one of another family, whose own ``lower`` method is then called.
        resolution:
            Side of the square input image in pixels.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether squeeze-excite gates exist.
        residual:
            Whether residual links exist. Without them additions and projections disappear (as Zen-NAS scores).

    Raises:
        StructureError: If a number is not positive, or the family cannot be lowered.
    """
    check_positive(resolution=resolution, num_classes=num_classes)
    if not isinstance(architecture, Architecture):
        own = getattr(architecture, "lower", None)
        if own is None:
            raise StructureError(f"{type(architecture).__name__} cannot be lowered to layers.")
        return tuple(own(resolution, num_classes=num_classes, use_se=use_se, residual=residual))
    layers: list[Layer] = []
    size = resolution
    for index, block in enumerate(architecture.blocks):
        for layer in lower_block(block, size, use_se, residual):
            layers.append(_with_block(layer, index) if index else layer)
        size = block_out_size(block, size)
    head, width = len(architecture.blocks), architecture.out_channels
    layers.append(Layer("pool", "head", head, width, width, size, 1))
    layers.append(Layer("linear", "head", head, width, num_classes, 1, 1, bias=True))
    return tuple(layers)


@lru_cache(maxsize=65_536)
def lower_block(
    block: Block, in_size: int, use_se: bool = False, residual: bool = True, floor_sizes: bool = False
) -> tuple[Layer, ...]:
    """Expands one super-block; cached, because a search sees the same blocks again and again.

    ``floor_sizes`` divides sizes as ZenNAS's analytic counts do (``size // stride``) where a convolution really gives
    ``ceil(size / stride)``; the two differ for odd sizes only.
    """
    lowering = _Lowering(use_se, residual, floor_sizes)
    lowering.walk(block.expand(), in_size)
    return tuple(lowering.layers)


@lru_cache(maxsize=65_536)
def block_out_size(block: Block, in_size: int, floor_sizes: bool = False) -> int:
    """Returns the side of the map that leaves a super-block."""
    return lower_block(block, in_size, False, False, floor_sizes)[-1].out_size


def check_positive(**values: int) -> None:
    """Raises a :class:`StructureError` naming the first value that is not a positive integer."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise StructureError(f"{name} must be a positive integer, got {value!r}.")


def _with_block(layer: Layer, index: int) -> Layer:
    # dataclasses.replace costs four times as much, and this runs for every layer of every candidate.
    return Layer(
        layer.kind, layer.role, index, layer.in_channels, layer.out_channels, layer.in_size, layer.out_size,
        layer.kernel, layer.stride, layer.groups, layer.bias,
    )  # fmt: skip


class _Lowering:
    """Walks nodes and appends their layers; one object per block."""

    def __init__(self, use_se: bool, residual: bool, floor_sizes: bool) -> None:
        self._use_se = use_se
        self._residual = residual
        self._floor_sizes = floor_sizes
        self.layers: list[Layer] = []

    def walk(self, nodes: Iterable[Node], size: int, role: Role = "body") -> int:
        """Appends the layers of ``nodes`` for an input of side ``size``; returns the side of the output."""
        for node in nodes:
            if isinstance(node, Conv):
                out_size = size // node.stride if self._floor_sizes else (size - 1) // node.stride + 1
                self.layers.append(
                    Layer(
                        "conv", role, 0, node.in_channels, node.out_channels, size, out_size,
                        node.kernel, node.stride, node.groups, node.bias,
                    )
                )  # fmt: skip
                size = out_size
            elif isinstance(node, Norm):
                self.layers.append(Layer("norm", role, 0, node.channels, node.channels, size, size))
            elif isinstance(node, Relu):
                self.layers.append(Layer("relu", role, 0, node.channels, node.channels, size, size))
            elif isinstance(node, SqueezeExcite):
                if self._use_se:
                    self._squeeze_excite(node, size)
            elif isinstance(node, Residual):
                size = self._walk_residual(node, size)
            else:
                raise StructureError(f"Cannot lower a node of type {type(node).__name__}.")
        return size

    def _walk_residual(self, node: Residual, size: int) -> int:
        if not node.body:
            raise StructureError("A residual needs at least one layer in its body.")
        out_size = self.walk(node.body, size)
        if self._residual:
            channels = self.layers[-1].out_channels
            self.walk(node.projection, size, "projection")
            self.layers.append(Layer("add", "body", 0, channels, channels, out_size, out_size))
        return out_size

    def _squeeze_excite(self, gate: SqueezeExcite, size: int) -> None:
        channels, reduced = gate.channels, gate.reduced
        self.layers += (
            Layer("pool", "se", 0, channels, channels, size, 1),
            Layer("conv", "se", 0, channels, reduced, 1, 1),
            Layer("norm", "se", 0, reduced, reduced, 1, 1),
            Layer("relu", "se", 0, reduced, reduced, 1, 1),
            Layer("conv", "se", 0, reduced, channels, 1, 1),
            Layer("norm", "se", 0, channels, channels, 1, 1),
            Layer("sigmoid", "se", 0, channels, channels, 1, 1),
            Layer("multiply", "se", 0, channels, channels, size, size),
        )
