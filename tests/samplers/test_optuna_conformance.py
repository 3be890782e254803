"""Optuna's own tests of samplers, run against zenopt's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)

from zenopt.core.budget import Budget
from zenopt.latency.limits import Limits
from zenopt.samplers import (
    AgingSampler,
    AnnealingSampler,
    Guide,
    GuidedSampler,
    LocalSearchSampler,
    PPOSampler,
    ReinforceSampler,
    RejectionSampler,
    Screening,
    SurrogateSampler,
    ZenSampler,
)
from zenopt.samplers.classes import ClassSampler
from zenopt.spaces.chain.superres import SuperResSpace
from zenopt.spaces.nasbench201.space import NasBench201Space

LIMITS = Limits(Budget(params=2e5), resolution=32, num_classes=10)
CELLS = Limits(Budget(), resolution=32, num_classes=10)
FEW = ("skip_connect", "nor_conv_3x3")
NARROW = {"slots": 2, "max_width": 64, "max_bottleneck": 32, "max_head": 128}


def _guided() -> BaseSampler:
    guide = Guide(lambda cell: float(str(cell).count("conv")), warm_up=16, first=4, moves=4)
    return GuidedSampler(NasBench201Space(), CELLS, guide=guide)


MAKERS: dict[str, Callable[[], BaseSampler]] = {
    "zen": lambda: ZenSampler(SuperResSpace(**NARROW), LIMITS),
    "screened": lambda: ZenSampler(SuperResSpace(**NARROW), LIMITS, screening=Screening(candidates=64)),
    "classes": lambda: ClassSampler(SuperResSpace(**NARROW), [LIMITS]),
    "cells": lambda: ZenSampler(NasBench201Space(), CELLS),
    "guided": _guided,
    "rejection": lambda: RejectionSampler(NasBench201Space(), CELLS),
    "surrogate": lambda: SurrogateSampler(SuperResSpace(**NARROW), LIMITS, candidates=100),
    "surrogate of a list": lambda: SurrogateSampler(NasBench201Space(operations=FEW), CELLS),
}


class TestEvolution(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture(params=MAKERS)
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        return MAKERS[request.param]


SINGLE: dict[str, Callable[[], BaseSampler]] = {
    "aging": lambda: AgingSampler(SuperResSpace(**NARROW), LIMITS, population_size=8, tournament=3),
    "local-search": lambda: LocalSearchSampler(NasBench201Space(), CELLS),
    "annealing": lambda: AnnealingSampler(NasBench201Space(), CELLS),
    "reinforce": lambda: ReinforceSampler(NasBench201Space(), CELLS),
    "ppo": lambda: PPOSampler(NasBench201Space(), CELLS),
}


class TestOneObjective(BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase):
    @pytest.fixture(params=SINGLE)
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        return SINGLE[request.param]
