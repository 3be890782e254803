"""The Zen-score at the published batch of 64, estimated from a small batch.

The score of a small batch is the cheaper measurement; what it lacks was fitted for chains of residual super-blocks (see
:mod:`zenopt.spaces.chain.closed_form.batch64`).
"""

from __future__ import annotations

from typing import Any

from zenopt.core.errors import ProxyError
from zenopt.proxies.registry import ScoreSettings, register_proxy
from zenopt.proxies.zen import zen_on_architecture


@register_proxy(
    "zen-at-64",
    cost_class="forward",
    kind="architecture",
    description="Measured Zen-score at batch 64, estimated from a smaller batch (residual space, 32 pixels)",
    residual=False,
)
def zen_at_64(architecture: Any, settings: ScoreSettings) -> float:
    """Estimate the batch-64 score of a chain of residual super-blocks at 32 pixels from ``batch_size`` images."""
    correction = architecture.closed_form(
        "zen-at-64", resolution=settings.resolution, batch_size=settings.batch_size
    )
    if correction is None:
        raise ProxyError(
            "Proxy 'zen-at-64' was fitted for chains of super-blocks of the residual space, up to 130 convolutions, at "
            f"resolution 32 and batches from 4 to 64, not for this one at resolution {settings.resolution} and batch "
            f"{settings.batch_size}."
        )
    if settings.residual or settings.use_se:
        raise ProxyError("Proxy 'zen-at-64' was fitted without residual links and squeeze-excite gates.")
    return zen_on_architecture(architecture, settings) + float(correction)
