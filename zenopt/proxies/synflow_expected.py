"""The closed form of synaptic flow, for families that have one (see :mod:`zenopt.spaces.nasbench201.synflow`)."""

from __future__ import annotations

from typing import Any

from zenopt.core.errors import ProxyError
from zenopt.proxies.registry import ScoreSettings, register_proxy


@register_proxy("synflow-expected", cost_class="closed form", kind="architecture", deterministic=True)
def synflow_expected(architecture: Any, settings: ScoreSettings) -> float:
    """Logarithm of the expected synflow of a NAS-Bench-201 cell (official build), borders left out."""
    value = architecture.closed_form(
        "synflow", resolution=settings.resolution, num_classes=settings.num_classes
    )
    if value is None:
        raise ProxyError(
            f"Proxy 'synflow-expected' takes NAS-Bench-201 cells, not {type(architecture).__name__}."
        )
    return float(value)
