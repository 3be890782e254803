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
    from zenopt.latency.limits import Limits
    from zenopt.study.spec import StudySpec
    from zenopt.supernet.files import TrainedSupernet
    from zenopt.supernet.judging import PathJudge


@EVALUATORS.register("supernet")
class SupernetEvaluator(Evaluator):
    """Judges architectures as paths of the supernet in ``objective.weights``."""

    needs_networks = True

    @classmethod
    def direction(cls, spec: StudySpec) -> Direction:
        return "maximize"

    @classmethod
    def label(cls, spec: StudySpec) -> str:
        own = "supernet: top-1 accuracy (%) on held-back images"
        target = "" if spec.objective.target is None else f", up to {spec.objective.target:g}"
        costs = "".join(f" - {points:g} x {name}" for name, points in spec.objective.balance.items())
        return f"{own}{target}{costs and f'{costs} in budgets'}"

    @classmethod
    def check(cls, spec: StudySpec) -> None:
        _read(spec)

    @property
    def is_noisy(self) -> bool:
        return False

    @property
    def bounds(self) -> tuple[float, float]:
        section = self.spec.objective
        highest = 100.0 if section.target is None else section.target
        return -sum(section.balance.values()), highest

    @cached_property
    def _limits(self) -> Limits:
        return self.spec.limits()

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
        accuracy = self.judge.accuracy(architecture)
        return Score(
            self._balanced(accuracy, architecture),
            seconds=time.perf_counter() - started,
            source=self.label(self.spec),
            values=(accuracy,),
            resolution=self.spec.resolution,
            seed=seed,
            device=self.device,
        )

    def attributes(self, score: Score, settings: Mapping[str, Any]) -> dict[str, Any]:
        section = self.spec.objective
        is_plain = section.target is None and not section.balance
        return super().attributes(score, settings) | ({} if is_plain else {"accuracy": score.values[0]})

    def _balanced(self, accuracy: float, architecture: Any) -> float:
        """Return what an accuracy counts, less what the costs of the architecture take off."""
        section, limits = self.spec.objective, self._limits
        used = limits.used(limits.check(architecture), section.balance) if section.balance else {}
        highest = accuracy if section.target is None else min(accuracy, section.target)
        allowed = limits.budget.limits()
        return highest - sum(points * used[name] / allowed[name] for name, points in section.balance.items())


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
