"""Feature maps of any network by down-sampling ratio, without touching its code."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from zenopt.train.errors import TrainError


def reduce_images(images: torch.Tensor, resolution: int) -> torch.Tensor:
    """Return images at the network's resolution, bilinear from another crop, as the published nets evaluate."""
    if images.shape[-1] == resolution:
        return images
    return F.interpolate(images, size=(resolution, resolution), mode="bilinear", align_corners=False)


def keep_output(module: nn.Module, maps: dict[int, torch.Tensor], key: int) -> None:
    """Keep a module's output of every forward pass, with gradients, in ``maps[key]``."""

    # A function of its own, not a method: copies of the module then copy nothing else.
    def keep(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        maps[key] = output

    module.register_forward_hook(keep)


class FeatureTap:
    """Keeps the deepest feature map of each wanted down-sampling ratio of every forward pass.

    A trial run finds, for each ratio, the module that made the last map of that size; a hook on it keeps the map.

    Args:
        network:
            Any image network.
        ratios:
            Input side / map side, e.g. ``(16, 32)``.
        resolution:
            The input side, pixels.

    Attributes:
        maps: The maps of the last forward pass by ratio, with gradients.
        channels: Their channels by ratio.

    Raises:
        TrainError: The network has no map of a wanted ratio.
    """

    def __init__(self, network: nn.Module, ratios: Iterable[int], resolution: int) -> None:
        self.maps: dict[int, torch.Tensor] = {}
        self.channels: dict[int, int] = {}
        found: dict[int, nn.Module] = {}
        available: set[int] = set()
        wanted = tuple(ratios)

        def look(module: nn.Module, _inputs: object, output: object) -> None:
            if not isinstance(output, torch.Tensor) or output.ndim != 4 or output.shape[-1] < 2:
                return
            ratio = round(resolution / output.shape[-1])
            available.add(ratio)
            if ratio in wanted:
                found[ratio] = module
                self.channels[ratio] = output.shape[1]

        was_training = network.training
        network.eval()
        hooks = [module.register_forward_hook(look) for module in network.modules()]
        try:
            example = next(network.parameters())
            with torch.no_grad():
                network(torch.zeros(1, 3, resolution, resolution, device=example.device, dtype=example.dtype))
        finally:
            for hook in hooks:
                hook.remove()
            network.train(was_training)
        for ratio in wanted:
            if ratio not in found:
                raise TrainError(
                    f"The network has no feature map at down-sampling ratio {ratio} (input {resolution} px); "
                    f"it has {', '.join(map(str, sorted(available)))}."
                )

        for ratio, module in found.items():
            keep_output(module, self.maps, ratio)
