"""What gives an architecture its value, by name: ``proxy``, ``table``, ``train``, ``supernet``, or ``module:Class``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zenopt.study.registries import EVALUATORS

if TYPE_CHECKING:
    from zenopt.study.evaluators.base import Evaluator
    from zenopt.study.spec import StudySpec


def make_evaluator(spec: StudySpec, device: str = "cpu", folder: Path = Path("runs")) -> Evaluator:
    """Return the evaluator of a spec's objective."""
    found: Evaluator = EVALUATORS.get(spec.objective.kind, stored=True)(spec, device, folder)
    return found


__all__ = ["EVALUATORS", "make_evaluator"]
