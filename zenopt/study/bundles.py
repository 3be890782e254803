"""From a study and one of its architectures to a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zenopt.export.bundle import Bundle, versions
from zenopt.study.spec import StudySpec


def bundle_of(
    spec: StudySpec,
    architecture: Any,
    *,
    study: str,
    scores: Mapping[str, Any],
    candidates: Sequence[Mapping[str, Any]],
    trial: int | None = None,
    latency: Mapping[str, Any] | None = None,
    violations: Mapping[str, float] | None = None,
) -> Bundle:
    """Return the bundle of an architecture; its costs and violations are counted anew.

    Args:
        spec:
            The spec of the study it was found in.
        architecture:
            The network.
        study:
            Name of the study that tells why it was chosen.
        scores:
            What it was chosen by.
        candidates:
            What it was compared with, itself first.
        trial:
            Number of its trial in that study.
        latency:
            Latency and how it was had, in place of a prediction.
        violations:
            Violations that differ from those of the counts.
    """
    check = spec.limits().check(architecture)
    costs: dict[str, Any] = dict(check.costs.__dict__)
    if latency is not None:
        costs.update(latency)
    elif check.latency_ms is not None and spec.latency is not None:
        costs.update(latency_ms=check.latency_ms, latency_kind=spec.latency.label)
    return Bundle(
        structure=str(architecture),
        family=architecture.family,
        resolution=spec.resolution,
        num_classes=spec.num_classes,
        use_se=spec.use_se,
        costs=costs,
        scores=dict(scores),
        constraints={**check.violations, **(violations or {})},
        study=study,
        trial=trial,
        spec=spec.model_dump(mode="json"),
        versions=versions(),
        seed=spec.seed,
        candidates=tuple(dict(item) for item in candidates),
    )
