"""The primitive operations that super-blocks expand to, before a resolution is known.

A block type describes itself once, as a tuple of these nodes. Everything else is derived from that description: the
lowering (and with it every count, the closed-form score and latency prediction) and the torch module.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Union


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution with padding ``(kernel - 1) // 2`` and dilation 1."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int = 1
    groups: int = 1
    bias: bool = False


@dataclass(frozen=True, slots=True)
class Norm:
    """An affine batch normalisation."""

    channels: int


@dataclass(frozen=True, slots=True)
class Relu:
    """A plain ReLU."""

    channels: int


@dataclass(frozen=True, slots=True)
class SqueezeExcite:
    """A squeeze-and-excite gate; exists only in networks built or counted with ``use_se=True``.

    Global average pool, 1x1 conv to ``reduced`` channels, BN, ReLU, 1x1 conv back, BN, sigmoid, multiply. The
    convolutions have no bias because batch normalisation follows them (as in ZenNAS; unlike most published SE blocks).
    """

    channels: int

    @property
    def reduced(self) -> int:
        """Channels inside the gate: a quarter, at least 1, rounded half to even."""
        return max(1, round(self.channels * 0.25))


@dataclass(frozen=True, slots=True)
class Residual:
    """``body(x) + projection(x)``; an empty projection is the identity.

    Built without residual links (as Zen-NAS scores its candidates), only the body remains: the addition *and* the
    projection disappear.
    """

    body: tuple[Conv | Norm | Relu | SqueezeExcite, ...]
    projection: tuple[Conv | Norm, ...] = field(default=())


Node = Union[Conv, Norm, Relu, SqueezeExcite, Residual]


def conv_norm(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> tuple[Conv, Norm]:
    """Returns a bias-free convolution and the normalisation that follows it."""
    return Conv(in_channels, out_channels, kernel, stride, groups), Norm(out_channels)


def project(in_channels: int, out_channels: int, stride: int, *, always: bool) -> tuple[Conv | Norm, ...]:
    """Returns the shortcut of a residual: a 1x1 convolution **with bias** and BN, or nothing for the identity.

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
    """Rounds to the nearest multiple of 8, halves to even, at least 8 (the rounding of every ZenNAS width)."""
    return max(8, round(value / 8) * 8)
