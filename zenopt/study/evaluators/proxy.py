"""The evaluator ``proxy``: a training-free score, or a combination of several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zenopt.core.score import Score
from zenopt.proxies.registry import get_proxy
from zenopt.study.evaluators import EVALUATORS
from zenopt.study.evaluators.base import Direction, Evaluator, Report, ignore

if TYPE_CHECKING:
    from zenopt.study.spec import StudySpec


@EVALUATORS.register("proxy")
class ProxyEvaluator(Evaluator):
    """Scores architectures by the spec's proxy, on noise inputs and random labels."""

    @classmethod
    def direction(cls, spec: StudySpec) -> Direction:
        return get_proxy(spec.proxy.name).direction

    @classmethod
    def label(cls, spec: StudySpec) -> str:
        return spec.proxy.name

    def evaluate(
        self,
        architecture: Any,
        *,
        seed: int,
        settings: Mapping[str, Any],
        repeats: int | None = None,
        report: Report = ignore,
    ) -> Score:
        # Imported late: scoring imports torch, which planning a study does not need.
        from zenopt.proxies import score_architecture

        proxy = self.spec.proxy
        return score_architecture(
            architecture,
            proxy.name,
            resolution=self.spec.resolution,
            num_classes=self.spec.num_classes,
            batch_size=proxy.batch_size or proxy.batch_sizes.cpu,
            repeats=proxy.repeats if repeats is None else repeats,
            gamma=proxy.gamma,
            seed=seed,
            device=self.device,
            residual=proxy.residual,
        )
