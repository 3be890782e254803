"""Finalists of a search within a latency budget, measured whole where their device is at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zenopt.core.errors import StudyError
from zenopt.core.progress import SILENT, Progress
from zenopt.latency.limits import Limits
from zenopt.study.spec import StudySpec


def why_not_measured(spec: StudySpec) -> str | None:
    """Return why finalists of a study cannot be measured here; ``None`` if they can, or nobody expects it."""
    device = spec.limits().device
    if device is None or not device.is_calibrated:
        return None
    from zenopt.latency.fill import difference_from_here

    return difference_from_here(device)


def measure_finalists(
    spec: StudySpec, architectures: Sequence[Any], progress: Progress = SILENT
) -> list[Any] | None:
    """Measure networks whole, in turn, as they were run when the device was calibrated.

    Args:
        spec:
            The study's spec.
        architectures:
            The finalists.
        progress:
            Is told of every visit.

    Returns:
        A :class:`~zenopt.latency.live.FinalistLatency` of each; ``None`` if the study has no calibrated device, or it
        is not this one.
    """
    device = spec.limits().device
    if device is None or not device.is_calibrated or why_not_measured(spec) is not None:
        return None
    # Imported late: measuring imports torch.
    from zenopt.latency.live import LiveLatency

    live = LiveLatency.of_profile(device, spec.num_classes, spec.use_se)
    return live.finalists(architectures, progress=progress)


def keeps_budget(limits: Limits, latency: Any) -> bool:
    """Return whether a measured network keeps the latency budget; the margin was for predictions."""
    return limits.full_latency_ms is None or latency.latency_ms <= limits.full_latency_ms


def nothing_keeps_budget(limits: Limits, latencies: Sequence[Any]) -> StudyError:
    """Return the error to raise when every finalist is too slow."""
    closest = min(latency.latency_ms for latency in latencies)
    return StudyError(
        f"None of the {len(latencies)} best keeps budget.latency_ms = {limits.full_latency_ms:g} when measured; "
        f"the closest takes {closest:.4g} ms. Try more (--top), or search with a smaller latency.margin."
    )
