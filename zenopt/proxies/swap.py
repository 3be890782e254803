"""SWAP: how many different on/off patterns the units of a network show over a batch.

Peng, Song, Fayek, Ciesielski & Chang, "SWAP-NAS: Sample-Wise Activation Patterns for Ultra-fast NAS", ICLR 2024.
"""

from __future__ import annotations

import numpy as np

from zenopt.proxies.probe import Probe
from zenopt.proxies.registry import register_proxy


@register_proxy("swap", cost_class="forward", needs=("data",))
def swap(probe: Probe) -> float:
    """Number of distinct patterns: each ReLU unit's pattern is its on/off over the samples of the batch.

    The other way round than linear regions, where each *sample* has a pattern over units; it saturates later. At most
    ``2^batch`` or the number of units. Weights as they are (the release redraws them from N(0, 1); with BN the scale of
    a weight does not matter). The size-regularised version, whose centre is tuned per search space, is left out.
    """
    patterns: set[bytes] | None = None
    for code in probe.relu_codes():
        # units x bytes: the samples of a unit packed to bits.
        packed = np.ascontiguousarray(np.packbits(code.cpu().numpy(), axis=0).T)
        rows = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
        patterns = (patterns or set()) | set(np.unique(rows).tolist())
    return float(len(patterns or ()))
