"""The closed-form Zen-score as a proxy: what ``zen`` measures, computed."""

from __future__ import annotations

from typing import Any

from zenopt.core.errors import ProxyError
from zenopt.proxies.registry import ScoreSettings, register_proxy


@register_proxy(
    "zen-closed-form",
    cost_class="closed form",
    kind="architecture",
    description="Expected Zen-score, computed by mean-field theory without tensors",
    residual=False,
    deterministic=True,
)
def zen_closed_form(architecture: Any, settings: ScoreSettings) -> float:
    """Return the expected Zen-score of a chain of super-blocks at the batch size of the measurement it stands for."""
    value = architecture.closed_form(
        "zen", resolution=settings.resolution, batch_size=settings.batch_size, gamma=settings.gamma
    )
    if value is None:
        raise ProxyError(
            f"Proxy 'zen-closed-form' takes chains of super-blocks, not {type(architecture).__name__}."
        )
    if settings.residual or settings.use_se:
        raise ProxyError(
            "Proxy 'zen-closed-form' describes networks without residual links and without squeeze-excite gates."
        )
    return float(value)
