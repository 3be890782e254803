"""In which order the numbers of an image lie in memory."""

from __future__ import annotations

import torch
from torch import nn

from zenopt.train.depthwise import DepthwiseConv, fits

# oneDNN computes with blocks of 16 channels where a CPU has AVX-512, else with smaller ones.
_BLOCK = 16


class StridedPointwise(nn.Conv2d):
    """A strided 1x1 convolution, computed as one without a stride on the pixels that count.

    The same numbers but for rounding. In channels-last layout, oneDNN's gradient of the weights of a strided 1x1
    convolution with few input channels writes past its memory, which crashes or corrupts a run
    (https://github.com/uxlfoundation/oneDNN/issues/6035).
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = self.stride
        return nn.functional.conv2d(x[..., ::rows, ::columns], self.weight, self.bias, groups=self.groups)


def put_channels_last(network: nn.Module, device: torch.device) -> nn.Module:
    """Return a network whose weights have the channels of a pixel side by side, which most devices compute faster.

    The network itself is changed; its state stays the same. On a CPU, :class:`StridedPointwise` takes the place of
    convolutions that would crash, and :class:`~zenopt.train.depthwise.DepthwiseConv` that of depthwise ones.
    """
    if device.type == "cpu":
        for module in network.modules():
            if _crashes(module):
                module.__class__ = StridedPointwise
            elif fits(module):
                module.__class__ = DepthwiseConv
    return network.to(memory_format=torch.channels_last)


def _crashes(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv2d
        and module.kernel_size == (1, 1)
        and module.stride != (1, 1)
        and module.padding in ((0, 0), "valid")
        and module.in_channels // module.groups < _BLOCK
    )
