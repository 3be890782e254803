"""The evaluator ``proxy``: a training-free score, or a combination of several."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zenopt.core.errors import ProxyError
from zenopt.core.score import Score
from zenopt.proxies.registry import check_proxy, direction_of, get_proxy
from zenopt.study.evaluators.base import Direction, Evaluator, Report, ignore
from zenopt.study.evaluators.combination import Combination, parts_of
from zenopt.study.registries import EVALUATORS

if TYPE_CHECKING:
    from zenopt.study.spec import StudySpec


@EVALUATORS.register("proxy")
class ProxyEvaluator(Evaluator):
    """Scores architectures by the spec's proxy, on noise inputs and random labels."""

    needs_networks = True

    @classmethod
    def direction(cls, spec: StudySpec) -> Direction:
        parts = parts_of(spec)
        if parts is None:
            return direction_of(spec.proxy.name, stored=True)
        for name in parts:
            check_proxy(name, stored=True)
        return "maximize"

    @classmethod
    def label(cls, spec: StudySpec) -> str:
        parts = parts_of(spec)
        return spec.proxy.name if parts is None else f"{spec.proxy.name} of {', '.join(parts)}"

    @property
    def is_noisy(self) -> bool:
        parts = parts_of(self.spec) or {self.spec.proxy.name: 1.0}
        return not all(get_proxy(name, stored=True).deterministic for name in parts)

    def evaluate(
        self,
        architecture: Any,
        *,
        seed: int,
        settings: Mapping[str, Any],
        repeats: int | None = None,
        report: Report = ignore,
    ) -> Score:
        repeats = self.spec.proxy.repeats if repeats is None else repeats
        if self._combination is None:
            return self._scored(architecture, self.spec.proxy.name, seed, repeats)
        started = time.perf_counter()
        values = tuple(self._combination.value(architecture, seed + repeat) for repeat in range(repeats))
        return Score(
            statistics.fmean(values),
            seconds=time.perf_counter() - started,
            source=self.label(self.spec),
            std=statistics.pstdev(values),
            values=values,
            batch_size=self.spec.proxy.batch_size or self.spec.proxy.batch_sizes.cpu,
            resolution=self.spec.resolution,
            seed=seed,
            device=self.device,
        )

    @cached_property
    def _combination(self) -> Combination | None:
        parts = parts_of(self.spec)

        def score_of(architecture: Any, name: str, seed: int) -> float | None:
            try:
                return self._scored(architecture, name, seed, 1).mean
            except ProxyError:
                # The worst there is, but no reason to give the others up.
                return None

        return None if parts is None else Combination(self.spec, parts, score_of)

    def _scored(self, architecture: Any, name: str, seed: int, repeats: int) -> Score:
        # Imported late: scoring imports torch, which planning a study does not need.
        from zenopt.proxies import score_architecture

        proxy = self.spec.proxy
        return score_architecture(
            architecture,
            get_proxy(name, stored=True),
            resolution=self.spec.resolution,
            num_classes=self.spec.num_classes,
            batch_size=proxy.batch_size or proxy.batch_sizes.cpu,
            repeats=repeats,
            gamma=proxy.gamma,
            seed=seed,
            device=self.device,
            residual=proxy.residual,
        )
