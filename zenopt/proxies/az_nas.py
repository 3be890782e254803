"""AZ-NAS: three looks at the features between blocks, to be combined with complexity by ranks.

Lee & Ham, "AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search", CVPR 2024. Weights are redrawn by
Kaiming's rule, the network is in training mode; the features are the outputs of its primary blocks. The fourth score is
``macs``; :func:`zenopt.predictors.ensemble.az_nas` combines them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import nn

from zenopt.core.errors import ProxyError
from zenopt.proxies.probe import Probe
from zenopt.proxies.registry import register_proxy


@register_proxy("az-nas-expressivity", cost_class="forward", needs=("data",))
@torch.no_grad()
def az_nas_expressivity(probe: Probe) -> float:
    """Sum over blocks of the entropy of the principal components of its features."""
    return sum(map(_entropy, block_features(probe)))


@register_proxy("az-nas-progressivity", cost_class="forward", needs=("data",))
@torch.no_grad()
def az_nas_progressivity(probe: Probe) -> float:
    """Smallest gain of that entropy from one block to the next."""
    entropies = list(map(_entropy, block_features(probe)))
    return min(after - before for before, after in pairwise(entropies))


@register_proxy("az-nas-trainability", cost_class="backward", needs=("data", "gradients"))
def az_nas_trainability(probe: Probe) -> float:
    """Mean over blocks of ``2 - s - 1/s``: 0 where the block's Jacobian keeps the length of gradients (s = 1).

    s is the largest singular value of the channel-by-channel Jacobian, estimated from one random vector of signs.
    """
    features = block_features(probe)
    scores = []
    for before, after in pairwise(features):
        signs = torch.empty_like(after).bernoulli_(0.5, generator=probe.generator).mul_(2.0).sub_(1.0)
        (gradient,) = torch.autograd.grad(after, before, signs, retain_graph=True, allow_unused=True)
        if gradient is None:
            raise ProxyError("no gradient flows through a block")
        scores.append(_length_kept(gradient, signs))
    return sum(scores) / len(scores)


def block_features(probe: Probe) -> list[torch.Tensor]:
    """Run a Kaiming-initialised copy and return the feature maps between its primary blocks.

    Primary blocks are the members of ``network.blocks`` where there is such a list (with the stem before them), else
    the network's children that hold convolutions, sequences replaced by their members.
    """
    network = probe.private_network("kaiming").train()
    features: list[torch.Tensor] = []

    def observe(module: nn.Module, args: tuple[Any, ...], output: Any) -> torch.Tensor | None:
        if not isinstance(output, torch.Tensor) or output.dim() != 4:
            return None
        features.append(output)
        # A copy goes on, in case what follows works in place; it is a copy in the graph as well.
        return output.clone()

    handles = [module.register_forward_hook(observe) for module in _primary_blocks(network)]
    try:
        network(probe.inputs)
    finally:
        for handle in handles:
            handle.remove()
    if len(features) < 2:
        raise ProxyError(f"needs at least two blocks with feature maps, found {len(features)}")
    return features


def _primary_blocks(network: nn.Module) -> list[nn.Module]:
    own = getattr(network, "blocks", None)
    if isinstance(own, nn.ModuleList):
        stem = getattr(network, "stem", None)
        return [*([stem] if isinstance(stem, nn.Module) else []), *own]
    found: list[nn.Module] = []
    for child in network.children():
        members = child if isinstance(child, nn.Sequential | nn.ModuleList) else [child]
        found += [member for member in members if any(isinstance(m, nn.Conv2d) for m in member.modules())]
    return found


def _entropy(feature: torch.Tensor) -> float:
    rows = feature.detach().movedim(1, -1).flatten(0, -2)
    rows = rows - rows.mean(dim=0, keepdim=True)
    # Rounding can make the smallest eigenvalues slightly negative.
    eigenvalues = torch.linalg.eigvalsh(rows.t() @ rows / len(rows)).clamp_(min=0.0)
    total = eigenvalues.sum()
    if not total > 0.0:
        raise ProxyError("a block's features do not vary")
    shares = eigenvalues / total
    return -(shares * (shares + 1e-8).log()).sum().item()


def _length_kept(gradient: torch.Tensor, signs: torch.Tensor) -> float:
    if gradient.shape == signs.shape and torch.equal(gradient, signs):
        raise ProxyError("a block is the identity")
    ratio = gradient.shape[-1] // signs.shape[-1]
    if ratio > 1:
        # What a strided block reads becomes channels, so that positions correspond.
        size = ratio * signs.shape[-1]
        gradient = nn.functional.pixel_unshuffle(gradient[..., :size, :size], ratio)
    left = gradient.movedim(1, -1).flatten(0, -2)
    right = signs.movedim(1, -1).flatten(0, -2)
    largest = torch.linalg.matrix_norm(left.t() @ right / len(right), ord=2).item()
    return 2.0 - largest - 1.0 / (largest + 1e-6)
