"""An evaluator of one's own: how well a network's features separate classes before any training.

A study names it as ``objective.kind``; what it may be told is ``objective.options``::

    zenopt optimize --import examples/custom_evaluator.py --study examples/readout.yaml --trials 20
    zenopt report --import examples/custom_evaluator.py --study readout
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from zenopt.core.score import Score
from zenopt.nn.network import build_network
from zenopt.study.evaluators.base import Direction, Evaluator, Report, ignore
from zenopt.study.spec import StudySpec


class Readout(Evaluator):
    """Accuracy of a linear readout of the untrained network, on pictures of stripes; noise is added to them.

    The readout is a ridge regression from the logits, so there is nothing to be trained by gradients.
    """

    needs_networks = True
    default_options: ClassVar[Mapping[str, Any]] = {"images": 128, "noise": 1.0}

    @classmethod
    def direction(cls, spec: StudySpec) -> Direction:
        return "maximize"

    @classmethod
    def label(cls, spec: StudySpec) -> str:
        return f"accuracy (%) of a linear readout at noise {cls.options_of(spec)['noise']:g}"

    @property
    def bounds(self) -> tuple[float, float]:
        return 0.0, 100.0

    def evaluate(
        self,
        architecture: Any,
        *,
        seed: int,
        settings: Mapping[str, Any],
        repeats: int | None = None,
        report: Report = ignore,
    ) -> Score:
        began = time.perf_counter()
        # Everything random derives from the seed of the trial, so that a trial that is run again has the same value.
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            network = build_network(architecture, num_classes=64).to(self.device)
            images, labels = self._stripes(generator)
            features = network(images.to(self.device)).float().cpu()
        half = len(labels) // 2
        targets = torch.nn.functional.one_hot(labels, self.spec.num_classes).float()
        known = features[:half]
        ridge = known.T @ known + 1e-2 * features.var() * half * torch.eye(features.shape[1])
        weights = torch.linalg.solve(ridge, known.T @ targets[:half])
        right = (features[half:] @ weights).argmax(dim=1) == labels[half:]
        value = 100 * float(right.float().mean())
        return Score(value, time.perf_counter() - began, source="readout", seed=seed, device=self.device)

    def _stripes(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        count, side = int(self.options["images"]), self.spec.resolution
        labels = torch.randint(self.spec.num_classes, (count,), generator=generator)
        angles = torch.pi * labels / self.spec.num_classes
        phases = 2 * torch.pi * torch.rand(count, generator=generator)
        y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        waves = torch.cos(angles)[:, None, None] * x + torch.sin(angles)[:, None, None] * y
        clean = torch.sin(waves + phases[:, None, None])[:, None].expand(-1, 3, -1, -1)
        return clean + self.options["noise"] * torch.randn(clean.shape, generator=generator), labels
