"""The evaluator ``supernet``: accuracy on held-back images with the weights of a trained supernet.

Workers open the same file of weights, which the system keeps in memory once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zenopt.core.errors import SpecError
from zenopt.core.score import Score
from zenopt.study.evaluators.base import Direction, Evaluator, Report, ignore
from zenopt.study.registries import EVALUATORS

if TYPE_CHECKING:
    from zenopt.study.spec import StudySpec
    from zenopt.supernet.files import TrainedSupernet
    from zenopt.supernet.judging import PathJudge


@EVALUATORS.register("supernet")
class SupernetEvaluator(Evaluator):
    """Judges architectures as paths of the supernet in ``objective.weights``."""

    needs_networks = True
    gives_accuracies = True

    @classmethod
    def direction(cls, spec: StudySpec) -> Direction:
        return "maximize"

    @classmethod
    def label(cls, spec: StudySpec) -> str:
        return "supernet: top-1 accuracy (%) on held-back images"

    @classmethod
    def check(cls, spec: StudySpec) -> None:
        _read(spec)

    @property
    def is_noisy(self) -> bool:
        return False

    @property
    def bounds(self) -> tuple[float, float]:
        return 0.0, 100.0

    @cached_property
    def supernet(self) -> TrainedSupernet:
        """The supernet, which holds every network of the spec's space."""
        return _read(self.spec)

    @cached_property
    def judge(self) -> PathJudge:
        """What judges paths."""
        from zenopt.supernet.judging import PathJudge

        section = self.spec.objective
        return PathJudge(self.supernet, self.device, section.images, section.settling, section.amp)

    def evaluate(
        self,
        architecture: Any,
        *,
        seed: int,
        settings: Mapping[str, Any],
        repeats: int | None = None,
        report: Report = ignore,
    ) -> Score:
        started = time.perf_counter()
        value = self.judge.accuracy(architecture)
        return Score(
            value,
            seconds=time.perf_counter() - started,
            source=self.label(self.spec),
            values=(value,),
            resolution=self.spec.resolution,
            seed=seed,
            device=self.device,
        )


def _read(spec: StudySpec) -> TrainedSupernet:
    """Return the spec's supernet, after checking that it holds every network of the spec's space.

    Raises:
        CheckpointError: If it is missing or half trained, or does not hold a network.
        SpecError: If it is for other resolutions, classes or gates.
    """
    from zenopt.supernet.covering import covering
    from zenopt.supernet.files import read_supernet

    assert spec.objective.weights is not None
    found = read_supernet(Path(spec.objective.weights).expanduser())
    for name in ("resolution", "num_classes", "use_se"):
        own, theirs = getattr(spec, name), getattr(found.facts, name)
        if own != theirs:
            raise SpecError(
                f"The supernet in {spec.objective.weights} was trained with {name} {theirs}, the study has {own}; "
                f"set {name}={theirs}."
            )
    found.weights.check(covering(spec.space.build()))
    return found
