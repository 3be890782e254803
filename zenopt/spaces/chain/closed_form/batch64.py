"""What the Zen-score of a small batch lacks to the published batch of 64.

Measured scores depend on the batch: images differ in scale the more the deeper a network is, and the statistics of few
images miss the rare large ones, so that a small batch reads low. The spread of single scores hardly changes. A small
batch with a correction is therefore the cheaper measurement. With L convolutions on the main path::

    s(64) = s(B) + DEPTH_FACTOR (B^-1/2 - 64^-1/2) max(0, L - DEPTH_ONSET)^3

The form is empirical: about half a dozen were tried, and the reference structures were looked at while choosing among
them. Its two constants were fitted without those: on random walks through the residual space at 32 pixels, by least
absolute deviations, because under least squares one deep network with few draws decides
(``benchmarks/measured_zen.py``; figures in docs/proxies.md). Nothing is claimed for other spaces and
resolutions.
"""

from __future__ import annotations

from zenopt.core.costs import count
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.blocks import SuperConv, SuperResK1KXK1, SuperResKXKX

TARGET_BATCH = 64
RESOLUTION = 32
BATCHES = (4, 64)
MAX_CONVS = 130
DEPTH_ONSET = 30
DEPTH_FACTOR = 1.21e-5


def depth_term(convs: int, batch_size: int, onset: int = DEPTH_ONSET) -> float:
    """Return the correction per unit of :data:`DEPTH_FACTOR`."""
    return (batch_size**-0.5 - TARGET_BATCH**-0.5) * max(0, convs - onset) ** 3


def batch_correction(architecture: Architecture, resolution: int, batch_size: int | None) -> float | None:
    """Return what is to be added to a score measured at ``batch_size``; ``None`` where nothing was fitted."""
    known = (SuperConv, SuperResK1KXK1, SuperResKXKX)
    if batch_size is None or not BATCHES[0] <= batch_size <= BATCHES[1] or resolution != RESOLUTION:
        return None
    if not all(isinstance(block, known) for block in architecture.blocks):
        return None
    convs = count(architecture, resolution).convs
    return None if convs > MAX_CONVS else DEPTH_FACTOR * depth_term(convs, batch_size)
