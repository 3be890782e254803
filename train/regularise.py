"""What a recipe changes in a network before training: initial weights, BN momentum, dropout, drop-path, sync-BN."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from zenopt.core.changing import Changing
from zenopt.nn.modules import DropPath, ResidualModule
from zenopt.train.distributed import sync_batch_norm
from zenopt.train.errors import TrainError
from zenopt.train.recipe import Model

# ZenNAS's gain for its "custom" initialisation.
CUSTOM_GAIN = 3.26033

# Classes of squeeze-excite gates here, in timm and in torchvision begin like this.
_GATES = ("SqueezeExcit", "SEModule")


def _fans(weight: torch.Tensor) -> tuple[int, int]:
    """Return a weight's fan-in and fan-out, `channels of its group x kernel area`."""
    area = weight[0][0].numel() if weight.ndim > 2 else 1
    return weight.shape[1] * area, weight.shape[0] * area


def _custom(weight: torch.Tensor) -> float:
    return CUSTOM_GAIN * math.sqrt(2 / sum(_fans(weight)))


def _xavier(weight: torch.Tensor) -> float:
    # Zen-NAS keeps the classifier's own gain.
    return math.sqrt(2 * 2 / sum(_fans(weight))) if weight.ndim > 2 else _custom(weight)


def _fan_out(factor: float) -> Callable[[torch.Tensor], float]:
    # Zen-NAS calls the first dimension of a weight "in_channels"; it is the outputs.
    return lambda weight: factor / math.sqrt(_fans(weight)[1])


def _kaiming(weight: torch.Tensor) -> float:
    return math.sqrt(2 / _fans(weight)[1]) if weight.ndim > 2 else 0.01


def _oneshot(weight: torch.Tensor) -> float:
    return (
        0.01 if weight.ndim == 2 or weight.shape[1] == 3 else 1 / weight.shape[1]
    )  # classifier and stem; others


# The standard deviation of a convolution's or linear layer's weights, by `model.init`.
_DEVIATIONS: dict[str, Callable[[torch.Tensor], float]] = {
    "custom": _custom,
    "msra-prelu": _custom,
    "xavier": _xavier,
    "fan-out": _fan_out(1.0),
    "fan-out-0.1": _fan_out(0.1),
    "fan-out-0.001": _fan_out(0.001),
    "kaiming": _kaiming,
    "normal": lambda weight: 0.01,
    "oneshot": _oneshot,
}


def initialise(network: nn.Module, init: str, generator: torch.Generator | None = None) -> None:
    """Set initial weights as published systems do: normal ones, biases 0, BN 1 and 0.

    Args:
        network:
            Any network; set in place.
        init:
            `default` keeps what the layers drew, `shortcuts` too, but the last BN weight of every residual body is 0,
            so that each residual starts as its shortcut. `custom` is Zen-NAS's for its networks: Xavier-normal of gain
            3.26033, with the same zeros; `msra-prelu` is that without them. `xavier` has gain sqrt(2), `fan-out`
            deviation 1 / sqrt(fan-out) (Zen-NAS's "stupid"; its "01" and "zero" are a tenth and a thousandth of it),
            `kaiming` that of ResNets, `normal` 0.01, `oneshot` 1 / input channels, 0.01 in stem, gates and classifier,
            with BN biases of 1e-4.
        generator:
            Draws the weights.
    """
    if init == "default":
        return
    if init == "shortcuts":
        _begin_as_shortcuts(network)
        return
    deviation = _DEVIATIONS[init]
    gates = {
        inner
        for module in network.modules()
        if type(module).__name__.startswith(_GATES)
        for inner in module.modules()
    }
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            std = 0.01 if init == "oneshot" and module in gates else deviation(module.weight)
            nn.init.normal_(module.weight, std=std, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.ones_(module.weight)
            nn.init.constant_(module.bias, 1e-4 if init == "oneshot" else 0.0)
    if init == "custom":
        _begin_as_shortcuts(network)


def _begin_as_shortcuts(network: nn.Module) -> None:
    """Let the bodies of residuals add nothing: the weights of their last BN are 0."""
    # A supernet has the layers of residuals, not residuals.
    closing = list(getattr(network, "closing_norms", ()))
    for module in network.modules():
        if isinstance(module, ResidualModule):
            closing += [inner for inner in module.body if isinstance(inner, nn.BatchNorm2d)][-1:]
    for norm in closing:
        nn.init.zeros_(norm.weight)


def set_dropout(network: nn.Module, rate: float) -> None:
    """Drop inputs of the classifier (the last linear layer) at a rate, in training.

    A network's own dropout gets the rate; in others a hook drops, so that the names of weights stay what they are.

    Raises:
        TrainError: The network has no linear layer.
    """
    own = getattr(network, "dropout", None)
    if isinstance(own, nn.Dropout):
        own.p = rate
        return
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise TrainError("model.dropout needs a linear classifier; this network has none.")
    if not hasattr(layers[-1], "dropped"):
        layers[-1].register_forward_pre_hook(_drop)
    layers[-1].dropped = rate  # type: ignore[assignment]


def _drop(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    rate: float = module.dropped  # type: ignore[assignment]
    return (F.dropout(inputs[0], rate, training=module.training), *inputs[1:])


def set_drop_path(network: nn.Module, rate: float, share: float | None = None) -> None:
    """Set the probability with which residual bodies, and the edges of cells, are dropped.

    Args:
        rate:
            The highest probability.
        share:
            All get `rate * share`; with the share of the run that is over this is aw_nas' ramp. None: it rises with
            depth, from `rate / modules` to `rate`.
    """
    modules = [module for module in network.modules() if isinstance(module, DropPath)]
    for number, module in enumerate(modules, start=1):
        module.drop_path = rate * (share if share is not None else number / len(modules))


def check_rates(network: nn.Module, options: Model) -> None:
    """Find out whether a network can do what a recipe wants to change in it.

    Raises:
        TrainError: Its drop-path shall change, and it has none that can be set.
    """
    if isinstance(options.drop_path, Changing) and not any(
        isinstance(module, DropPath) for module in network.modules()
    ):
        raise TrainError(
            "model.drop_path cannot change over this training: the network has no drop-path that can be set "
            "(timm's and torchvision's are fixed); give one number, or leave it out."
        )


def set_rates(network: nn.Module, options: Model, share: float) -> None:
    """Set dropout and drop-path as a recipe has them in an epoch before which a share of the run is over."""
    if options.dropout is not None:
        set_dropout(network, options.dropout)
    set_drop_path(
        network, options.drop_path, {"depth": None, "epoch": share, "none": 1.0}[options.drop_path_ramp]
    )


def prepare(
    network: nn.Module, options: Model, generator: torch.Generator | None = None, *, sync_bn: bool = False
) -> nn.Module:
    """Apply a recipe's model section to a freshly built network, and return it.

    A network's own initial weights are kept with `init: default`.
    """
    initialise(network, options.init, generator)
    if options.bn_momentum is not None:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = options.bn_momentum
    set_rates(network, options, 0.0)
    return sync_batch_norm(network) if sync_bn else network
