"""The measured Zen-score of Zen-NAS (Lin et al., "Zen-NAS: A Zero-Shot NAS for High-Performance Image Recognition").

With weights from N(0, 1), inputs x from N(0, 1) and x' = x + gamma z::

    score = ln( mean over images of sum |f(x) - f(x')| ) + sum over BNs of 1/2 ln( mean over channels of r )

f is the network up to the last feature map, without residual links; every BN normalises by the statistics of its batch.
``r = 0.81 + 0.09 v(x) + 0.1 v(x')``, v the unbiased batch variance of the BN's input: the released code reads the
running variance, which starts at 1 and has seen two batches at momentum 0.1, where the paper has v itself.

Differences from the released code: each repeat starts from fresh running statistics (there they drift from repeat to
repeat), and a score that is not finite is an error (there -9999, or nothing).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from zenopt.core.description import describe
from zenopt.core.errors import ProxyError
from zenopt.core.lowering import lower
from zenopt.proxies.probe import Probe
from zenopt.proxies.randomness import fresh_network, initialise, make_generator
from zenopt.proxies.registry import ScoreSettings, register_proxy
from zenopt.proxies.zen_executor import MOMENTUM, draw_weights, is_plain_chain, zen_of_chain

_POOLS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AvgPool2d, nn.MaxPool2d)


def zen_on_architecture(architecture: Any, settings: ScoreSettings) -> float:
    """Return the Zen-score of an architecture from fresh weights and inputs.

    Plain chains run layer by layer without modules (:mod:`zenopt.proxies.zen_executor`), anything else as a network.
    """
    generator = make_generator(settings.seed, settings.repeat, torch.device(settings.device))
    shape = (settings.batch_size, 3, settings.resolution, settings.resolution)
    if describe(architecture).has_links and not settings.residual and not settings.use_se:
        layers = lower(architecture, settings.resolution, num_classes=settings.num_classes, residual=False)
        if is_plain_chain(layers):
            weights = draw_weights(layers, generator)
            x, changed = draw_inputs(shape, generator, settings.gamma)
            return zen_of_chain(layers, weights, x, changed)
    network = fresh_network(
        architecture,
        generator,
        num_classes=settings.num_classes,
        use_se=settings.use_se,
        residual=settings.residual,
        scheme="gaussian",
    )
    return zen_of_network(network, shape, generator, settings.gamma)


@register_proxy(
    "zen",
    cost_class="forward",
    description="Measured Zen-score: log change of the features under a small input change, plus BN terms",
    on_architecture=zen_on_architecture,
    residual=False,
)
def zen(probe: Probe) -> float:
    """Score any network with a batch of the inputs' shape; weights and inputs are redrawn."""
    network = probe.private_network()
    initialise(network, "gaussian", probe.generator)
    return zen_of_network(network, tuple(probe.inputs.shape), probe.generator, probe.gamma)


@torch.inference_mode()
def zen_of_network(
    network: nn.Module, shape: tuple[int, ...], generator: torch.Generator, gamma: float
) -> float:
    """Score a network whose weights have been drawn; its BN statistics are overwritten.

    Args:
        network:
            Any network with feature maps.
        shape:
            ``(batch, channels, height, width)`` of the inputs.
        generator:
            Source of the inputs, on the network's device.
        gamma:
            Size of the input perturbation.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.track_running_stats = True
        norm.momentum = MOMENTUM
        norm.running_mean = torch.zeros(norm.num_features, device=generator.device)
        norm.running_var = torch.ones(norm.num_features, device=generator.device)
        norm.train()
    x, changed = draw_inputs(shape, generator, gamma)
    difference = last_feature_map(network, x) - last_feature_map(network, changed)
    change = difference.abs_().sum(dim=(1, 2, 3)).mean()
    score = change.log()
    for norm in norms:
        assert norm.running_var is not None
        score = score + 0.5 * norm.running_var.mean().log()
    return score.item()


def last_feature_map(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return the features before pooling: ``network.forward_features(x)`` where there is such a method.

    For other networks it is the last four-dimensional output of any module but a pooling one.

    Raises:
        ProxyError: If there is none.
    """
    own = getattr(network, "forward_features", None)
    found: list[torch.Tensor] = []
    if callable(own):
        found.append(own(x))
    else:

        def observe(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.dim() == 4 and not isinstance(module, _POOLS):
                found[:] = [output]

        handles = [module.register_forward_hook(observe) for module in network.modules()]
        try:
            network(x)
        finally:
            for handle in handles:
                handle.remove()
    if not found or found[0].dim() != 4:
        raise ProxyError(f"{type(network).__name__} gives no feature maps, which the Zen-score needs")
    return found[0]


def draw_inputs(
    shape: tuple[int, ...], generator: torch.Generator, gamma: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``x`` and ``x + gamma z``; x and z are drawn in this order, after the weights, as the release does."""
    x = torch.randn(shape, generator=generator, device=generator.device)
    z = torch.randn(shape, generator=generator, device=generator.device)
    return x, x + gamma * z
