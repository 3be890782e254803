"""Description -> layers: the one expansion that every count, score and prediction reads.

A :class:`Layer` is a primitive with its shapes at a resolution. Feature maps are square; sizes are sides in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from zenopt.core.description import Unit, describe
from zenopt.core.errors import StructureError
from zenopt.core.primitives import (
    Activation,
    Branches,
    Choice,
    Conv,
    GlobalPool,
    Graph,
    Identity,
    Node,
    Norm,
    Pool,
    Residual,
    Shift,
    Shuffle,
    Slice,
    SqueezeExcite,
    Zero,
)

Kind = Literal[
    "conv", "norm", "relu", "sigmoid", "activation", "add", "concat", "multiply", "linear",
    "pool", "avgpool", "maxpool", "shuffle", "slice", "shift",
]  # fmt: skip
Role = Literal["body", "projection", "se", "head"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One primitive operation with its shapes, for one image.

    Attributes:
        kind: The operation. ``pool`` is a global average pool, ``avgpool`` and ``maxpool`` are local ones;
            ``activation`` is any function but ``relu`` and ``sigmoid``.
        role: Where it stands: in a unit's body, on a shortcut, inside a squeeze-excite gate, or in the head.
        block: Index of its unit; pooling and classifier have the index after the last, or that of the head's unit.
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
    affine: bool = True

    @property
    def params(self) -> int:
        """Trainable numbers of the layer."""
        if self.kind in ("conv", "linear"):
            weights = self.in_channels // self.groups * self.out_channels * self.kernel**2
            return weights + (self.out_channels if self.bias else 0)
        return 2 * self.out_channels if self.kind == "norm" and self.affine else 0

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
    """Expand an architecture to its layers.

    Args:
        architecture:
            Anything with a :class:`~zenopt.core.description.Description`.
        resolution:
            Side of the square input image in pixels.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether squeeze-excite gates exist.
        residual:
            Whether residual links exist. Without them additions and projections disappear (as Zen-NAS scores).

    Raises:
        StructureError: If a number is not positive, or an option does not fit the family.
    """
    layers: list[Layer] = []
    for index, (unit, sizes) in enumerate(walk_units(architecture, resolution, use_se, residual)):
        own = lower_unit(unit, sizes, use_se, residual)
        layers += own if index == 0 else [_with_block(layer, index) for layer in own]
    size = layers[-1].out_size
    description = describe(architecture)
    layers += lower_head(architecture, size, num_classes, description.head_index)
    return tuple(layers)


def walk_units(
    architecture: Any, resolution: int, use_se: bool = False, residual: bool = True, floor_sizes: bool = False
) -> list[tuple[Unit, int | tuple[int, ...]]]:
    """Return the units of an architecture, each with the side of its input map (of its input maps).

    Raises:
        StructureError: If the resolution does not suit the family, or an option does not fit it.
    """
    check_positive(resolution=resolution)
    description = describe(architecture)
    if use_se or not residual:
        description.check_options(getattr(architecture, "family", "These"), use_se=use_se, residual=residual)
    if resolution % description.divisor:
        raise StructureError(
            f"{getattr(architecture, 'family', 'These')} networks halve their maps: resolution {resolution} is no "
            f"multiple of {description.divisor}."
        )
    found: list[tuple[Unit, int | tuple[int, ...]]] = []
    outputs: list[int] = []
    for unit in description.units:
        if unit.inputs == (-1,):
            sizes: int | tuple[int, ...] = outputs[-1] if outputs else resolution
        else:
            # Before the first unit there is the image; a cell that wants two predecessors gets the first one twice.
            sizes = tuple(outputs[max(0, len(outputs) + back)] for back in unit.inputs)
        found.append((unit, sizes))
        outputs.append(unit_out_size(unit, sizes, floor_sizes))
    return found


def out_size_of(architecture: Any, resolution: int) -> int:
    """Return the side of the last feature map."""
    unit, sizes = walk_units(architecture, resolution)[-1]
    return unit_out_size(unit, sizes)


def lower_head(architecture: Any, size: int, num_classes: int, block: int = 0) -> tuple[Layer, ...]:
    """Expand what follows the units: global pooling, the neck, the classifier."""
    check_positive(num_classes=num_classes)
    description = describe(architecture)
    width = description.units[-1].out_channels
    return head_layers(width, size, num_classes, description.neck, description.features, block)


@lru_cache(maxsize=4096)
def head_layers(
    width: int,
    size: int,
    num_classes: int,
    neck: tuple[Node, ...] = (),
    features: int = 0,
    block: int = 0,
) -> tuple[Layer, ...]:
    """Expand a head given by its numbers; ``features`` enter the classifier, by default ``width``."""
    lowering = _Lowering(True, True, False, block)
    lowering.layers.append(Layer("pool", "head", block, width, width, size, 1))
    lowering.walk(neck, 1, "head", width)
    lowering.layers.append(Layer("linear", "head", block, features or width, num_classes, 1, 1, bias=True))
    return tuple(lowering.layers)


@lru_cache(maxsize=65_536)
def _lowered(
    unit: Unit, in_size: int | tuple[int, ...], use_se: bool, residual: bool, floor_sizes: bool
) -> tuple[tuple[Layer, ...], int, bool]:
    """Return the layers of a unit, the side of its output, and whether no size was rounded."""
    if floor_sizes:
        # Rounding down differs only where a stride leaves a remainder; lowering all twice would double the time.
        found = _lowered(unit, in_size, use_se, residual, False)
        if found[2]:
            return found
    lowering = _Lowering(use_se, residual, floor_sizes)
    nodes = unit.expand()
    if isinstance(in_size, tuple):
        (graph,) = nodes
        if not isinstance(graph, Graph):
            raise StructureError(f"{type(unit).__name__} takes several inputs but is no graph.")
        out_size, _ = lowering.graph(graph, in_size, unit.input_channels, unit.role)
    else:
        out_size, _ = lowering.walk(nodes, in_size, unit.role, unit.in_channels)
    return tuple(lowering.layers), out_size, lowering.is_exact


def lower_unit(
    unit: Unit,
    in_size: int | tuple[int, ...],
    use_se: bool = False,
    residual: bool = True,
    floor_sizes: bool = False,
) -> tuple[Layer, ...]:
    """Expand one unit; cached, because a search sees the same ones again and again.

    ``floor_sizes`` divides sizes as ZenNAS's analytic counts do (``size // stride``) where a convolution really gives
    ``ceil(size / stride)``; the two differ for odd sizes only.
    """
    return _lowered(unit, in_size, use_se, residual, floor_sizes)[0]


def unit_out_size(unit: Unit, in_size: int | tuple[int, ...], floor_sizes: bool = False) -> int:
    """Return the side of the map that leaves a unit."""
    return _lowered(unit, in_size, False, True, floor_sizes)[1]


def check_positive(**values: int) -> None:
    """Raise a :class:`StructureError` naming the first value that is not a positive integer."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise StructureError(f"{name} must be a positive integer, got {value!r}.")


def _with_block(layer: Layer, index: int) -> Layer:
    # dataclasses.replace costs four times as much, and this runs for every layer of every candidate.
    return Layer(
        layer.kind, layer.role, index, layer.in_channels, layer.out_channels, layer.in_size, layer.out_size,
        layer.kernel, layer.stride, layer.groups, layer.bias, layer.affine,
    )  # fmt: skip


class _Lowering:
    """Walks nodes and appends their layers; one object per unit."""

    def __init__(self, use_se: bool, residual: bool, floor_sizes: bool, block: int = 0) -> None:
        self._use_se = use_se
        self._residual = residual
        self._floor_sizes = floor_sizes
        self._block = block
        self.layers: list[Layer] = []
        self.is_exact = True

    def walk(self, nodes: Iterable[Node], size: int, role: Role, channels: int) -> tuple[int, int]:
        """Append the layers of a sequence for an input of a side and width; return those of the output."""
        for node in nodes:
            if isinstance(node, Conv):
                out_size = self._strided(size, node.stride)
                self.layers.append(
                    Layer(
                        "conv", role, self._block, node.in_channels, node.out_channels, size, out_size,
                        node.kernel, node.stride, node.groups, node.bias,
                    )
                )  # fmt: skip
                size, channels = out_size, node.out_channels
            elif isinstance(node, Norm):
                self._add("norm", role, node.channels, size, affine=node.affine)
            elif isinstance(node, Activation):
                kind: Kind = node.function if node.function in ("relu", "sigmoid") else "activation"  # type: ignore[assignment]
                self._add(kind, role, node.channels, size)
            elif isinstance(node, SqueezeExcite):
                if self._use_se or not node.optional:
                    self._squeeze_excite(node, size)
            elif isinstance(node, Residual):
                size, channels = self._walk_residual(node, size, role, channels)
            elif isinstance(node, Pool):
                size = self._pool(node, size, role)
            elif isinstance(node, GlobalPool):
                self.layers.append(Layer("pool", role, self._block, channels, channels, size, 1))
                size = 1
            elif isinstance(node, Zero):
                size, channels = self._strided(size, node.stride), node.width
            elif isinstance(node, Slice):
                channels = node.stop - node.start
                self._add("slice", role, channels, size)
            elif isinstance(node, Shuffle | Shift):
                self._add("shuffle" if isinstance(node, Shuffle) else "shift", role, channels, size)
            elif isinstance(node, Branches):
                size, channels = self._branches(node, size, role, channels)
            elif isinstance(node, Graph):
                size, channels = self.graph(node, (size,) * node.inputs, (channels,) * node.inputs, role)
            elif isinstance(node, Choice):
                raise StructureError(f"The choice {node.name} is open; an architecture must pick one.")
            elif not isinstance(node, Identity):
                raise StructureError(f"Cannot lower a node of type {type(node).__name__}.")
        return size, channels

    def graph(
        self, node: Graph, sizes: tuple[int, ...], widths: tuple[int, ...], role: Role
    ) -> tuple[int, int]:
        """Append the layers of a cell; the zeros of an edge without operation are not computed, nor added."""
        maps = dict(enumerate(zip(sizes, widths, strict=True)))
        for place in node.places():
            terms = 0
            for edge in node.into(place):
                maps[place] = self.walk(edge.nodes, *_with_role(maps[edge.source], role))
                terms += not (len(edge.nodes) == 1 and isinstance(edge.nodes[0], Zero))
            for _ in range(terms - 1):
                self._add("add", role, maps[place][1], maps[place][0])
        size, channels = maps[node.outputs[-1]]
        if len(node.outputs) > 1:
            channels = sum(maps[place][1] for place in node.outputs)
            self._add("concat", role, channels, size)
        return size, channels

    def _add(self, kind: Kind, role: Role, channels: int, size: int, affine: bool = True) -> None:
        self.layers.append(Layer(kind, role, self._block, channels, channels, size, size, affine=affine))

    def _strided(self, size: int, stride: int) -> int:
        self.is_exact &= size % stride == 0
        return size // stride if self._floor_sizes else (size - 1) // stride + 1

    def _pool(self, node: Pool, size: int, role: Role) -> int:
        out_size = (size + 2 * node.padding - node.kernel) // node.stride + 1
        kind: Kind = "avgpool" if node.kind == "average" else "maxpool"
        self.layers.append(
            Layer(
                kind,
                role,
                self._block,
                node.channels,
                node.channels,
                size,
                out_size,
                node.kernel,
                node.stride,
            )
        )
        return out_size

    def _walk_residual(self, node: Residual, size: int, role: Role, channels: int) -> tuple[int, int]:
        if not node.body:
            raise StructureError("A residual needs at least one layer in its body.")
        out_size, out_channels = self.walk(node.body, size, role, channels)
        if self._residual:
            self.walk(node.projection, size, "projection" if role == "body" else role, channels)
            self._add("add", role, out_channels, out_size)
        return out_size, out_channels

    def _branches(self, node: Branches, size: int, role: Role, channels: int) -> tuple[int, int]:
        found: list[tuple[int, int]] = []
        # The main path comes first, whatever its place in the sum.
        order = sorted(range(len(node.paths)), key=lambda index: index == node.shortcut)
        for index in order:
            own: Role = "projection" if index == node.shortcut and role == "body" else role
            found.append(self.walk(node.paths[index], size, own, channels))
        out_size = found[0][0]
        if node.join == "concat":
            out_channels = sum(width for _, width in found)
            self._add("concat", role, out_channels, out_size)
            return out_size, out_channels
        for _ in range(len(found) - 1):
            self._add("add", role, found[0][1], out_size)
        return found[0]

    def _squeeze_excite(self, gate: SqueezeExcite, size: int) -> None:
        channels = gate.channels
        self.layers.append(Layer("pool", "se", self._block, channels, channels, size, 1))
        self.walk(gate.expand(), 1, "se", channels)
        self._add("multiply", "se", channels, size)


def _with_role(known: tuple[int, int], role: Role) -> tuple[int, Role, int]:
    return known[0], role, known[1]
