"""The closed-form Zen-score as a proxy: what ``zen`` measures, computed (see
:mod:`zenopt.spaces.chain.closed_form`).
"""

from __future__ import annotations

from zenopt.core.errors import ProxyError
from zenopt.proxies.registry import ScoreSettings, register_proxy
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.closed_form import closed_form_zen


@register_proxy(
    "zen-closed-form",
    cost_class="closed form",
    kind="architecture",
    description="Expected Zen-score, computed by mean-field theory without tensors",
    residual=False,
    deterministic=True,
)
def zen_closed_form(architecture: Architecture, settings: ScoreSettings) -> float:
    """Returns the expected Zen-score of a chain of super-blocks at the batch size of the measurement it stands for."""
    if not isinstance(architecture, Architecture):
        raise ProxyError(
            f"Proxy 'zen-closed-form' takes chains of super-blocks, not {type(architecture).__name__}."
        )
    if settings.residual or settings.use_se:
        raise ProxyError(
            "Proxy 'zen-closed-form' describes networks without residual links and without squeeze-excite gates."
        )
    return closed_form_zen(
        architecture, settings.resolution, gamma=settings.gamma, batch_size=settings.batch_size
    )
