"""Synaptic flow: the flow through a network of absolute weights, no data needed.

Tanaka, Kunin, Yamins & Ganguli, "Pruning neural networks without any data", NeurIPS 2020. With every parameter and
buffer replaced by its absolute value, the input all ones and R the sum of the outputs, a weight's share is
``|w * dR/dw|``. All in float64.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from zenopt.core.errors import ProxyError
from zenopt.proxies.passes import call, weight_of, weighted_layers
from zenopt.proxies.probe import LayerArrays, Probe, over_layers
from zenopt.proxies.registry import register_proxy

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@register_proxy("synflow", cost_class="backward", needs=("gradients",))
@over_layers
def synflow(probe: Probe) -> LayerArrays:
    """Sum of |w * dR/dw| over convolutions and linear layers, BN removed.

    As in zero-cost-nas: biases take part in R, and the reductions of that release's NAS-Bench-201 networks keep their
    BN. Values reach 1e63; ``synflow-log`` is
    the same in small numbers.
    """
    return _flow(without_norms(probe.network), probe)


@register_proxy("synflow_bn", cost_class="backward", needs=("gradients",))
@over_layers
def synflow_bn(probe: Probe) -> LayerArrays:
    """Synflow with BN in place, in the network's mode.

    In training mode a BN then normalises one image over its positions; where its map is 1 x 1 there is nothing to
    normalise, which is an error.
    """
    return _flow(probe.private_network(), probe)


@register_proxy("synflow-log", cost_class="backward", needs=("gradients",))
def synflow_log(probe: Probe) -> float:
    """Natural logarithm of ``synflow``: the same ranking in numbers of ordinary size.

    The largest share is taken out before the sum, so that only a single share beyond 1e308 could overflow.
    """
    shares = torch.cat([share.flatten() for _, share in _flow(without_norms(probe.network), probe)])
    largest = shares.max()
    if not 0.0 < largest.item() < math.inf:
        raise ProxyError(f"no finite flow reaches the outputs (largest share {largest.item()})")
    return math.log(largest.item()) + (shares / largest).sum().log().item()


@register_proxy(
    "zennas-synflow",
    cost_class="backward",
    needs=("gradients",),
    residual=False,
    description="ZenNAS's Syncflow: minus the flow per output channel, BN in training mode, N(0, 1) weights",
)
def zennas_synflow(probe: Probe) -> float:
    """ZenNAS's variant, on weights redrawn from N(0, 1): minus the sum over layers of the flow per output channel.

    BN stays, in training mode on one image. The sign is the release's: its search prefers *low* flow.
    """
    network = probe.private_network("gaussian").train()
    return -sum(share.flatten(1).sum(1).mean().item() for _, share in _flow(network, probe))


def without_norms(network: nn.Module) -> nn.Module:
    """Return a copy of the network whose batch normalisations pass their input on, but for those marked to stay."""
    copied = copy.deepcopy(network)
    for module in list(copied.modules()):
        for name, child in module.named_children():
            if isinstance(child, _NORMS) and getattr(child, "is_removable", True):
                setattr(module, name, nn.Identity())
    return copied


def _flow(network: nn.Module, probe: Probe) -> list[tuple[str, torch.Tensor]]:
    """Return name and |w * dR/dw| of every layer that has a gradient; the network is changed."""
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.abs_()
    network = network.double()
    ones = torch.ones((1, *probe.inputs.shape[1:]), dtype=torch.float64, device=probe.inputs.device)
    layers = set(weighted_layers(network))
    weights = {name: weight_of(module) for name, module in network.named_modules() if module in layers}
    total = call(network, ones).sum()
    gradients = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
    return [
        (name, (weight * gradient).detach().abs())
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
        if gradient is not None
    ]
