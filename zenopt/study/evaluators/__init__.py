"""What gives an architecture its value, by name: ``proxy``, ``table``, ``train``, or ``package.module:Class``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zenopt.core.registry import Registry

if TYPE_CHECKING:
    from zenopt.study.evaluators.base import Evaluator
    from zenopt.study.spec import StudySpec

EVALUATORS: Registry[type[Evaluator]] = Registry(
    "evaluator",
    "zenopt.evaluators",
    {name: f"zenopt.study.evaluators.{name}" for name in ("proxy", "table", "train")},
)


def make_evaluator(spec: StudySpec, device: str = "cpu", folder: Path = Path("runs")) -> Evaluator:
    """Return the evaluator of a spec's objective."""
    return EVALUATORS.get(spec.objective.kind)(spec, device, folder)
