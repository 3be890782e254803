"""What a recipe changes in a network before training: initial weights, BN momentum, drop-path, sync-BN."""

from __future__ import annotations

import torch
from torch import nn

from zenopt.nn.modules import ResidualModule
from zenopt.train.distributed import sync_batch_norm
from zenopt.train.recipe import Model

# ZenNAS's gain for its "custom" initialisation.
CUSTOM_GAIN = 3.26033


def initialise_custom(network: nn.Module, generator: torch.Generator | None = None) -> None:
    """Set the initial weights with which Zen-NAS trains.

    Convolutions and linear layers are Xavier-normal with gain 3.26033, biases 0, BN weights 1, and the last
    BN weight of every residual body 0, so that each residual starts as its shortcut.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_normal_(module.weight, gain=CUSTOM_GAIN, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, ResidualModule):
            norms = [inner for inner in module.body if isinstance(inner, nn.BatchNorm2d)]
            if norms:
                nn.init.zeros_(norms[-1].weight)


def set_drop_path(network: nn.Module, rate: float, share: float | None = None) -> None:
    """Set the probability with which residual bodies are dropped.

    Args:
        rate:
            The highest probability.
        share:
            How much of the run is over, in [0, 1]: every body then gets `rate * share` (aw_nas). None: it rises with
            depth, from `rate / residuals` to `rate`.
    """
    residuals = [module for module in network.modules() if isinstance(module, ResidualModule)]
    for number, module in enumerate(residuals, start=1):
        module.drop_path = rate * (share if share is not None else number / len(residuals))


def prepare(
    network: nn.Module, options: Model, generator: torch.Generator | None = None, *, sync_bn: bool = False
) -> nn.Module:
    """Apply a recipe's model section to a freshly built network, and return it.

    A network's own initial weights are kept with `init: default`.
    """
    if options.init == "custom":
        initialise_custom(network, generator)
    if options.bn_momentum is not None:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = options.bn_momentum
    if options.drop_path and options.drop_path_ramp == "depth":
        set_drop_path(network, options.drop_path)
    return sync_batch_norm(network) if sync_bn else network
