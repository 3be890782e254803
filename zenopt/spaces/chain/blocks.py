"""The super-blocks of the two published Zen-NAS spaces, each described once by its primitive nodes."""

from __future__ import annotations

from dataclasses import dataclass

from zenopt.core.primitives import Node, Relu, Residual, SqueezeExcite, conv_norm, project, round_to_8
from zenopt.spaces.chain.architecture import Block, ResidualBlock, register_block


@register_block("SuperConvK{kernel}BNRELU", kernel=(1, 3, 5, 7))
@dataclass(frozen=True)
class SuperConv(Block):
    """``depth`` times convolution, BN, ReLU; the first has the stride. Stems and heads are of this type."""

    kernel: int

    def expand(self) -> tuple[Node, ...]:
        nodes: list[Node] = []
        channels, stride = self.in_channels, self.stride
        for _ in range(self.depth):
            nodes += conv_norm(channels, self.out_channels, self.kernel, stride)
            nodes.append(Relu(self.out_channels))
            channels, stride = self.out_channels, 1
        return tuple(nodes)


@register_block("SuperResK{kernel}K{kernel}", kernel=(3, 5, 7))
@dataclass(frozen=True)
class SuperResKXKX(ResidualBlock):
    """``depth`` residuals of two k x k convolutions with the bottleneck width between them."""

    kernel: int

    def expand(self) -> tuple[Node, ...]:
        nodes: list[Node] = []
        channels, stride = self.in_channels, self.stride
        for unit in range(self.depth):
            body = (
                *conv_norm(channels, self.bottleneck, self.kernel, stride),
                Relu(self.bottleneck),
                SqueezeExcite(self.bottleneck),
                *conv_norm(self.bottleneck, self.out_channels, self.kernel),
            )
            nodes.append(Residual(body, project(channels, self.out_channels, stride, always=unit == 0)))
            nodes.append(Relu(self.out_channels))
            channels, stride = self.out_channels, 1
        return tuple(nodes)


@register_block("SuperResK1K{kernel}K1", kernel=(3, 5, 7))
@dataclass(frozen=True)
class SuperResK1KXK1(ResidualBlock):
    """``depth`` units of **two** bottleneck residuals each (1x1, k x k, 1x1), so six convolutions per unit.

    The stride sits on the k x k convolution, not on the first 1x1.
    """

    kernel: int

    def expand(self) -> tuple[Node, ...]:
        nodes: list[Node] = []
        channels, stride = self.in_channels, self.stride
        for residual in range(2 * self.depth):
            body = (
                *conv_norm(channels, self.bottleneck, 1),
                Relu(self.bottleneck),
                *conv_norm(self.bottleneck, self.bottleneck, self.kernel, stride),
                Relu(self.bottleneck),
                SqueezeExcite(self.bottleneck),
                *conv_norm(self.bottleneck, self.out_channels, 1),
            )
            nodes.append(Residual(body, project(channels, self.out_channels, stride, always=residual == 0)))
            nodes.append(Relu(self.out_channels))
            channels, stride = self.out_channels, 1
        return tuple(nodes)


@register_block("SuperResIDWE{expansion}K{kernel}", expansion=(1, 2, 4, 6), kernel=(3, 5, 7))
@dataclass(frozen=True)
class SuperResIDW(ResidualBlock):
    """``depth`` units of two inverted depthwise residuals; channels flow in -> bottleneck -> out within a unit.

    Here the bottleneck is the output width of the unit's first residual, not an inner width. Both residuals end in a
    ReLU after the addition (MobileNetV2's are linear there).
    """

    expansion: int
    kernel: int

    def expand(self) -> tuple[Node, ...]:
        nodes: list[Node] = []
        channels, stride = self.in_channels, self.stride
        for _ in range(self.depth):
            for out_channels in (self.bottleneck, self.out_channels):
                middle = round_to_8(out_channels * self.expansion)
                body = (
                    *conv_norm(channels, middle, 1),
                    Relu(middle),
                    *conv_norm(middle, middle, self.kernel, stride, groups=middle),
                    Relu(middle),
                    SqueezeExcite(middle),
                    *conv_norm(middle, out_channels, 1),
                )
                nodes.append(Residual(body, project(channels, out_channels, stride, always=not nodes)))
                nodes.append(Relu(out_channels))
                channels, stride = out_channels, 1
        return tuple(nodes)
