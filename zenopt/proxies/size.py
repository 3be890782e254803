"""Size and chance: the baselines that any proxy should beat."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from zenopt.core.costs import Costs, count
from zenopt.core.description import describe
from zenopt.core.errors import ProxyError
from zenopt.core.lowering import Layer, lower
from zenopt.proxies.probe import Probe
from zenopt.proxies.registry import ScoreSettings, register_proxy


def layers_of(architecture: Any, settings: ScoreSettings) -> Sequence[Layer]:
    """Return the layers of an architecture as it is scored."""
    return lower(
        architecture,
        settings.resolution,
        num_classes=settings.num_classes,
        use_se=settings.use_se,
        residual=settings.residual,
    )


def _params_of_architecture(architecture: Any, settings: ScoreSettings) -> float:
    return float(sum(layer.params for layer in layers_of(architecture, settings)))


def _macs_of_architecture(architecture: Any, settings: ScoreSettings) -> float:
    return float(sum(layer.macs for layer in layers_of(architecture, settings)))


@register_proxy(
    "params", cost_class="closed form", on_architecture=_params_of_architecture, deterministic=True
)
def params(probe: Probe) -> float:
    """Number of parameters."""
    return float(sum(parameter.numel() for parameter in probe.network.parameters()))


@register_proxy("macs", cost_class="closed form", on_architecture=_macs_of_architecture, deterministic=True)
def macs(probe: Probe) -> float:
    """Multiply-adds of convolutions and matrix products for one image.

    Half of what torch's FlopCounterMode counts (it counts multiplications and additions) in one forward.
    """
    network = copy.deepcopy(probe.network).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(probe.inputs[:1])
    return counter.get_total_flops() / 2


@register_proxy(
    "zennas-params", cost_class="closed form", kind="architecture", residual=False, deterministic=True
)
def zennas_params(architecture: Any, settings: ScoreSettings) -> float:
    """ZenNAS's Params: its own count (``get_model_size``) of the network without shortcuts."""
    return float(_zennas_costs(architecture, settings).zennas_params)


@register_proxy(
    "zennas-flops", cost_class="closed form", kind="architecture", residual=False, deterministic=True
)
def zennas_flops(architecture: Any, settings: ScoreSettings) -> float:
    """ZenNAS's Flops: its own count of multiply-adds (``get_FLOPs``) of the network without shortcuts."""
    return float(_zennas_costs(architecture, settings).zennas_flops)


@register_proxy("random", cost_class="closed form")
def random(probe: Probe) -> float:
    """A number from N(0, 1): what a proxy without information ranks by."""
    return torch.randn((), generator=probe.generator, device=probe.generator.device).item()


def _zennas_costs(architecture: Any, settings: ScoreSettings) -> Costs:
    if not describe(architecture).has_links:
        raise ProxyError(f"ZenNAS counts chains of super-blocks, not {type(architecture).__name__}.")
    return count(
        architecture,
        settings.resolution,
        settings.num_classes,
        use_se=settings.use_se,
        residual=settings.residual,
    )
