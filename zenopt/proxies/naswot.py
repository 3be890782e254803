"""NASWOT: how differently a batch switches the units of a network on and off.

Mellor, Turner, Storkey & Crowley, "Neural Architecture Search without Training", ICML 2021. c_i is the binary code of
sample i over all ReLU units; ``K_ij`` counts the units where samples i and j agree; the score is ``log |det K|``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zenopt.core.errors import ProxyError
from zenopt.proxies.passes import run_codes
from zenopt.proxies.probe import Probe
from zenopt.proxies.registry import register_proxy


@register_proxy("naswot", cost_class="forward", needs=("data",))
def naswot(probe: Probe) -> float:
    """Logarithm of the determinant of the code agreement, on the network and the batch as they are.

    Not normalised by the number of units (as in the release). ReLU and ReLU6 modules are read, functions cannot be.
    """
    return log_determinant(probe.relu_codes())


@register_proxy(
    "zennas-naswot",
    cost_class="forward",
    residual=False,
    description="ZenNAS's NASWOT: on N(0, 1) weights and noise",
)
def zennas_naswot(probe: Probe) -> float:
    """NASWOT as ZenNAS runs it: weights and inputs redrawn from N(0, 1), training mode.

    The backward pass whose result the release discards is left out.
    """
    network = probe.private_network("gaussian").train()
    return log_determinant(run_codes(network, [probe.noise()]))


def log_determinant(codes: Sequence[torch.Tensor]) -> float:
    """Return ``log |det K|`` of boolean ``batch x units`` codes; counts are exact below 2^24 units per layer.

    Raises:
        ProxyError: If two samples have the same codes, so that the determinant is 0.
    """
    batch = len(codes[0])
    kernel = torch.zeros(batch, batch, dtype=torch.float64)
    for code in codes:
        on = code.float()
        off = 1.0 - on
        kernel += (on @ on.t() + off @ off.t()).double().cpu()
    sign, value = torch.linalg.slogdet(kernel)
    if sign == 0:
        raise ProxyError("two samples switch the same units, so the determinant is 0")
    return value.item()
