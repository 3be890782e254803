"""The primitive operations that networks are described by, before a resolution is known.

A family describes its networks once, as tuples of these nodes (see :mod:`zenopt.core.description`). Everything else is
derived from that description: the lowering (and with it every count, the closed-form score and latency prediction), the
torch module, the picture and the standalone file.

A tuple of nodes is a sequence. Four nodes hold others: :class:`Residual`, :class:`Branches`, :class:`Graph` and
:class:`Choice`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Literal, Union

#: Batch-norm epsilon of the super-block families: ZenNAS sets it on every BN of a finished network.
ZENNAS_EPS = 1e-3
#: What :class:`Activation` may compute.
FUNCTIONS = ("relu", "relu6", "hardswish", "silu", "gelu", "tanh", "sigmoid", "hardsigmoid")


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution with padding ``dilation * (kernel - 1) // 2``."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int = 1
    groups: int = 1
    bias: bool = False
    dilation: int = 1


@dataclass(frozen=True, slots=True)
class Norm:
    """A batch normalisation.

    Args:
        channels:
            Its channels.
        eps:
            Added to the variance.
        affine:
            Whether it has a scale and a shift.
        tracks:
            Whether it keeps running statistics for evaluation.
        removable:
            Whether proxies that score networks without normalisation take it away.
    """

    channels: int
    eps: float = ZENNAS_EPS
    affine: bool = True
    tracks: bool = True
    removable: bool = True


@dataclass(frozen=True, slots=True)
class Activation:
    """An element-wise function, one of :data:`FUNCTIONS`."""

    channels: int
    function: str = "relu"


#: ``Relu(channels)`` is the activation of most families.
Relu = partial(Activation, function="relu")


@dataclass(frozen=True, slots=True)
class SqueezeExcite:
    """A squeeze-and-excite gate: global average pool, 1x1 conv, activation, 1x1 conv, gate, multiply.

    The defaults are ZenNAS's: a quarter of the channels inside, and BN after each convolution instead of a bias (most
    published gates have a bias instead).

    Args:
        channels:
            Channels of the map it scales.
        inner:
            Channels inside the gate; by default a quarter, at least 1, rounded half to even.
        norm:
            Whether batch normalisation follows the convolutions.
        bias:
            Whether the convolutions have a bias.
        activation, gate:
            Functions after the first and the second convolution.
        optional:
            Whether it exists only in networks built or counted with ``use_se=True``.
    """

    channels: int
    inner: int | None = None
    norm: bool = True
    bias: bool = False
    activation: str = "relu"
    gate: str = "sigmoid"
    optional: bool = True

    @property
    def reduced(self) -> int:
        """Channels inside the gate."""
        return max(1, round(self.channels * 0.25)) if self.inner is None else self.inner

    def expand(self) -> tuple[Node, ...]:
        """Return what is computed on the pooled map."""
        nodes: list[Node] = []
        for wide, narrow, function in (
            (self.channels, self.reduced, self.activation),
            (self.reduced, self.channels, self.gate),
        ):
            nodes.append(Conv(wide, narrow, 1, bias=self.bias))
            if self.norm:
                nodes.append(Norm(narrow))
            nodes.append(Activation(narrow, function))
        return tuple(nodes)


@dataclass(frozen=True, slots=True)
class Pool:
    """A local pooling; padded taps do not count in averages.

    ``padding`` is ``(kernel - 1) // 2``, which gives maps of the input's size at stride 1, or 0 if not ``padded``.
    """

    channels: int
    kernel: int
    stride: int = 1
    kind: Literal["average", "max"] = "average"
    padded: bool = True

    @property
    def padding(self) -> int:
        """Rows and columns added on every side."""
        return (self.kernel - 1) // 2 if self.padded else 0


@dataclass(frozen=True, slots=True)
class GlobalPool:
    """The mean over all positions, as a map of one pixel."""

    channels: int


@dataclass(frozen=True, slots=True)
class Identity:
    """The input itself."""

    channels: int


@dataclass(frozen=True, slots=True)
class Zero:
    """Zeros of the output's shape: nothing is computed, and nothing is counted.

    ``out_channels`` are ``channels`` unless given.
    """

    channels: int
    stride: int = 1
    out_channels: int | None = None

    @property
    def width(self) -> int:
        """Channels that leave it."""
        return self.channels if self.out_channels is None else self.out_channels


@dataclass(frozen=True, slots=True)
class Shift:
    """The map moved by one pixel up and to the left, as the second half of a factorised reduction sees it."""

    channels: int


@dataclass(frozen=True, slots=True)
class Shuffle:
    """Channels regrouped: read as ``groups x channels / groups``, transposed, flattened."""

    channels: int
    groups: int = 2


@dataclass(frozen=True, slots=True)
class Slice:
    """Channels ``start`` to ``stop`` of the input."""

    channels: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Residual:
    """``body(x) + projection(x)``; an empty projection is the identity.

    Built without residual links (as Zen-NAS scores its candidates), only the body remains: the addition *and* the
    projection disappear. Drop-path drops the body.
    """

    body: tuple[Node, ...]
    projection: tuple[Node, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Branches:
    """Several paths from one input, summed or concatenated in their order.

    Args:
        paths:
            Nodes of each path; an empty one is the identity.
        join:
            What becomes of their outputs.
        names:
            Names of the paths, which are those of the torch modules; by default ``path0``, ``path1``, ...
        shortcut:
            Index of a path that is a shortcut: counted as such, and no part of the main path.
    """

    paths: tuple[tuple[Node, ...], ...]
    join: Literal["sum", "concat"]
    names: tuple[str, ...] = ()
    shortcut: int | None = None

    def named(self) -> tuple[tuple[str, tuple[Node, ...]], ...]:
        """Return the paths with their names."""
        names = self.names or tuple(f"path{index}" for index in range(len(self.paths)))
        return tuple(zip(names, self.paths, strict=True))


@dataclass(frozen=True, slots=True)
class Edge:
    """What lies between two places of a :class:`Graph`; ``drops`` says whether drop-path may take it away."""

    source: int
    target: int
    nodes: tuple[Node, ...]
    drops: bool = True


@dataclass(frozen=True, slots=True)
class Graph:
    """A cell: places joined by edges. Every place is the sum of the edges that lead to it.

    Args:
        inputs:
            How many places are inputs; they come first.
        edges:
            Sorted by target; sources come before their targets.
        outputs:
            Places that leave the cell, concatenated if there are several.
    """

    inputs: int
    edges: tuple[Edge, ...]
    outputs: tuple[int, ...]

    def places(self) -> range:
        """Return the places that are no inputs, in the order of execution."""
        return range(self.inputs, max(edge.target for edge in self.edges) + 1)

    def into(self, place: int) -> tuple[Edge, ...]:
        """Return the edges that lead to a place."""
        return tuple(edge for edge in self.edges if edge.target == place)


@dataclass(frozen=True, slots=True)
class Choice:
    """Alternatives of which an architecture names one; a supernet holds them all.

    Args:
        name:
            The parameter of the space that chooses.
        alternatives:
            Values of that parameter, each with its nodes.
    """

    name: str
    alternatives: tuple[tuple[str, tuple[Node, ...]], ...]

    def pick(self, value: str) -> tuple[Node, ...]:
        """Return the nodes of an alternative.

        Raises:
            KeyError: If there is no such alternative.
        """
        return dict(self.alternatives)[value]


Node = Union[
    Conv, Norm, Activation, SqueezeExcite, Pool, GlobalPool, Identity, Zero, Shift, Shuffle, Slice,
    Residual, Branches, Graph, Choice,
]  # fmt: skip


def conv_norm(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> tuple[Conv, Norm]:
    """Return a bias-free convolution and the normalisation that follows it."""
    return Conv(in_channels, out_channels, kernel, stride, groups), Norm(out_channels)


def project(in_channels: int, out_channels: int, stride: int, *, always: bool) -> tuple[Node, ...]:
    """Return the shortcut of a residual: a 1x1 convolution **with bias** and BN, or nothing for the identity.

    Args:
        in_channels:
            Channels that enter the residual.
        out_channels:
            Channels that leave it.
        stride:
            Stride of the residual's body.
        always:
            Project even where shapes agree. ZenNAS does so for the first residual of every super-block.
    """
    if always or stride > 1 or in_channels != out_channels:
        return Conv(in_channels, out_channels, 1, stride, bias=True), Norm(out_channels)
    return ()


def round_to_8(value: float) -> int:
    """Round to the nearest multiple of 8, halves to even, at least 8 (the rounding of every ZenNAS width)."""
    return max(8, round(value / 8) * 8)
