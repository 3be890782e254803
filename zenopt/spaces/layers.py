"""Groups of layers that several published families share: bias-free convolutions, BN with epsilon 1e-5."""

from __future__ import annotations

from zenopt.core.primitives import (
    Activation,
    Branches,
    Conv,
    Node,
    Norm,
    Relu,
    Residual,
    Shift,
    SqueezeExcite,
)

#: Epsilon of every BN.
EPS = 1e-5


def conv_norm(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> tuple[Node, ...]:
    """Return a convolution and its BN."""
    return Conv(in_channels, out_channels, kernel, stride, groups), Norm(out_channels, EPS)


def conv_norm_relu(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> tuple[Node, ...]:
    """Return a convolution, its BN and a ReLU."""
    return conv_norm_act(in_channels, out_channels, kernel, stride, groups)


def conv_norm_act(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1, function: str = "relu"
) -> tuple[Node, ...]:
    """Return a convolution, its BN and an activation."""
    return (*conv_norm(in_channels, out_channels, kernel, stride, groups), Activation(out_channels, function))


def relu_conv_norm(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, *, removable: bool = True
) -> tuple[Node, ...]:
    """Return a ReLU, a convolution and its BN, the operation of most cells."""
    return (
        Relu(in_channels),
        Conv(in_channels, out_channels, kernel, stride),
        Norm(out_channels, EPS, removable=removable),
    )


def inverted_residual(
    in_channels: int,
    inner_channels: int,
    out_channels: int,
    kernel: int,
    stride: int,
    gate: SqueezeExcite | None = None,
    function: str = "relu",
) -> tuple[Node, ...]:
    """Return an inverted bottleneck; it is added to its input where the shapes agree.

    The first convolution is left out where it would change no width.
    """
    is_widened = inner_channels != in_channels
    body = (
        *(conv_norm_act(in_channels, inner_channels, 1, function=function) if is_widened else ()),
        *conv_norm_act(inner_channels, inner_channels, kernel, stride, inner_channels, function),
        *((gate,) if gate is not None else ()),
        *conv_norm(inner_channels, out_channels, 1),
    )
    return (Residual(body),) if stride == 1 and in_channels == out_channels else body


def factorised_reduction(in_channels: int, out_channels: int) -> tuple[Node, ...]:
    """Return what halves a map: two 1x1 convolutions of half the width that see neighbouring pixels, side by side."""
    half = out_channels // 2
    straight = (Conv(in_channels, half, 1, 2),)
    shifted = (Shift(in_channels), Conv(in_channels, out_channels - half, 1, 2))
    return Activation(in_channels), Branches((straight, shifted), "concat"), Norm(out_channels, EPS)
