"""In which order the numbers of an image lie in memory."""

from __future__ import annotations

import torch
from torch import nn

from zenopt.train.recipe import Recipe

# oneDNN computes with blocks of 16 channels where a CPU has AVX-512, else with smaller ones.
_BLOCK = 16


def puts_channels_last(network: nn.Module, recipe: Recipe, device: torch.device) -> bool:
    """Return whether a network is trained with the channels of a pixel side by side.

    That is as the recipe says, except on a CPU for networks with a strided 1x1 convolution of few channels: oneDNN's
    gradient of its weights writes past its memory in this layout (https://github.com/uxlfoundation/oneDNN/issues/6035),
    which crashes or corrupts the run.
    """
    if not recipe.precision.channels_last:
        return False
    return device.type != "cpu" or not any(
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and module.stride != (1, 1)
        and module.in_channels // module.groups < _BLOCK
        for module in network.modules()
    )
