"""MeCo: smallest eigenvalues of the correlations between feature maps.

Jiang, Wang & Bie, "MeCo: Zero-Shot NAS with One Data and Single Forward Pass via Minimum Eigenvalue of Correlation",
NeurIPS 2023.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from zenopt.core.errors import ProxyError
from zenopt.proxies.probe import Probe
from zenopt.proxies.registry import register_proxy


@register_proxy("meco", cost_class="forward")
@torch.no_grad()
def meco(probe: Probe) -> float:
    """Sum over feature maps of the smallest eigenvalue of the correlation matrix of the map's channels.

    As in the release: the output of every module counts, containers included, so that sums of branches are seen and a
    last layer and its container count twice; the first image of the batch is read, the others take part in BN; an
    undefined correlation is 0. Differences: symmetric solver in float64, and outputs that are no maps are skipped
    (their eigenvalue is 0 there).
    """
    smallest: list[float] = []

    def observe(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.dim() == 4:
            channels = output[0].flatten(1).double()
            correlations = torch.corrcoef(channels).nan_to_num(0.0, 0.0, 0.0)
            # One channel gives a number instead of a matrix.
            correlations = correlations.reshape(len(channels), len(channels))
            smallest.append(torch.linalg.eigvalsh(correlations)[0].item())

    handles = [module.register_forward_hook(observe) for module in probe.network.modules()]
    try:
        probe.network(probe.inputs)
    finally:
        for handle in handles:
            handle.remove()
    if not smallest:
        raise ProxyError(f"{type(probe.network).__name__} gives no feature maps")
    return sum(smallest)
