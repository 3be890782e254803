"""ZiCo: gradients that are large and agree between minibatches.

Li, Yang, Bhardwaj & Marculescu, "ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on Gradients", ICLR 2023.
"""

from __future__ import annotations

import math

import torch

from zenopt.core.errors import ProxyError
from zenopt.proxies.passes import Part, run_passes
from zenopt.proxies.probe import Probe
from zenopt.proxies.registry import register_proxy

BATCHES = 2


@register_proxy("zico", cost_class="backward", needs=("data", "labels", "gradients"))
def zico(probe: Probe) -> float:
    """Sum over layers of ``ln( sum over weights of mean |g| / std g )``, mean and std over two minibatches.

    Convolutions and linear layers; weights whose gradients do not vary, and layers with none that do, are left out; the
    std is that of the population (all as in the release). The given batch is cut in two minibatches of half its size
    (the release draws two of full size), and the network is used as it is.
    """
    targets = probe.labels()
    if len(targets) < 2 * BATCHES:
        raise ProxyError(f"needs at least {2 * BATCHES} samples for two minibatches, got {len(targets)}")
    gradients = []
    for inputs, wanted in zip(probe.inputs.tensor_split(BATCHES), targets.tensor_split(BATCHES), strict=True):
        found = run_passes(probe.network, [Part(inputs, wanted, 1.0)], probe.loss_fn, frozenset({"weights"}))
        gradients.append(found.gradients)
    score, counted = 0.0, 0
    for layer in zip(*gradients, strict=True):
        if any(gradient is None for gradient in layer):
            continue
        stacked = torch.stack([gradient for gradient in layer if gradient is not None])
        spread = stacked.std(dim=0, correction=0)
        varies = spread > 0
        total = (stacked.abs().mean(dim=0)[varies] / spread[varies]).sum().item()
        if total > 0.0:
            score += math.log(total)
            counted += 1
    if not counted:
        raise ProxyError("no layer's gradient varies between the minibatches")
    return score
