"""The Zen-score at the published batch of 64, estimated from a small batch.

Measured scores depend on the batch: images differ in scale the more the deeper a network is, and the statistics of few
images miss the rare large ones, so that a small batch reads low. The spread of single scores hardly changes. A small
batch with a correction is therefore the cheaper measurement. With L convolutions on the main path::

    s(64) = s(B) + DEPTH_FACTOR (B^-1/2 - 64^-1/2) max(0, L - DEPTH_ONSET)^3

The form is empirical: about half a dozen were tried, and the reference structures were looked at while choosing among
them. Its two constants were fitted without those: on random walks through the residual space at 32 pixels, by least
absolute deviations, because under least squares one deep network with few draws decides
(``benchmarks/measured_zen.py``; figures in docs/proxies.md). Nothing is claimed for other spaces and resolutions, where
the proxy refuses.
"""

from __future__ import annotations

from typing import Any

from zenopt.core.errors import ProxyError
from zenopt.core.lowering import Layer, lower
from zenopt.proxies.registry import ScoreSettings, register_proxy
from zenopt.proxies.zen import zen_on_architecture
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.blocks import SuperConv, SuperResK1KXK1, SuperResKXKX

TARGET_BATCH = 64
RESOLUTION = 32
BATCHES = (4, 64)
MAX_CONVS = 130
DEPTH_ONSET = 30
DEPTH_FACTOR = 1.21e-5


def depth_of(layers: tuple[Layer, ...]) -> int:
    """Returns the number of convolutions on the main path."""
    return sum(layer.kind == "conv" and layer.role == "body" for layer in layers)


def depth_term(convs: int, batch_size: int, onset: int = DEPTH_ONSET) -> float:
    """Returns the correction per unit of :data:`DEPTH_FACTOR`."""
    return (batch_size**-0.5 - TARGET_BATCH**-0.5) * max(0, convs - onset) ** 3


@register_proxy(
    "zen-at-64",
    cost_class="forward",
    kind="architecture",
    description="Measured Zen-score at batch 64, estimated from a smaller batch (residual space, 32 pixels)",
    residual=False,
)
def zen_at_64(architecture: Any, settings: ScoreSettings) -> float:
    """Estimates the batch-64 score of a chain of residual super-blocks at 32 pixels from ``batch_size`` images."""
    known = (SuperConv, SuperResK1KXK1, SuperResKXKX)
    if not isinstance(architecture, Architecture) or not all(
        isinstance(b, known) for b in architecture.blocks
    ):
        raise ProxyError("Proxy 'zen-at-64' takes chains of super-blocks of the residual space only.")
    if settings.residual or settings.use_se or settings.resolution != RESOLUTION:
        raise ProxyError(
            f"Proxy 'zen-at-64' was fitted without residual links and squeeze-excite gates at resolution "
            f"{RESOLUTION}, got resolution {settings.resolution}."
        )
    if not BATCHES[0] <= settings.batch_size <= BATCHES[1]:
        raise ProxyError(
            f"Proxy 'zen-at-64' takes batches from {BATCHES[0]} to {BATCHES[1]}, got {settings.batch_size}."
        )
    convs = depth_of(lower(architecture, settings.resolution, residual=False))
    if convs > MAX_CONVS:
        raise ProxyError(f"Proxy 'zen-at-64' was fitted up to {MAX_CONVS} convolutions, got {convs}.")
    score = zen_on_architecture(architecture, settings)
    return score + DEPTH_FACTOR * depth_term(convs, settings.batch_size)
