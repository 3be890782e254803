"""ZenNAS's GradNorm: the norm of the whole gradient at N(0, 1) weights."""

from __future__ import annotations

import torch
from torch import nn

from zenopt.proxies.passes import call
from zenopt.proxies.probe import Probe
from zenopt.proxies.registry import register_proxy


@register_proxy("zennas-gradnorm", cost_class="backward", needs=("gradients",), residual=False)
def zennas_gradnorm(probe: Probe) -> float:
    """L2 norm of the gradient by *all* parameters, at N(0, 1) weights, noise inputs and random labels.

    As in the ZenNAS release (Lin et al., ICCV 2021): training mode, mean cross entropy, classes drawn uniformly.
    Biases, BN and classifier count (``grad_norm`` sums norms of convolutions and linear layers instead).
    """
    network = probe.private_network("gaussian").train()
    logits = call(network, probe.noise())
    labels = torch.randint(logits.shape[1], logits.shape[:1], generator=probe.generator, device=logits.device)
    loss = nn.functional.cross_entropy(logits, labels)
    gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    # In float64: the squares of a deep network's gradients leave the range of float32.
    squares = [g.double().square().sum() for g in gradients if g is not None]
    return torch.stack(squares).sum().sqrt().item()
