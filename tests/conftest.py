from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import optuna
import pytest
import torch

from zenopt.core import extensions
from zenopt.core.yamlfile import Source
from zenopt.study.spec import StudySpec

pytest_plugins = ("training", "stored")

optuna.logging.set_verbosity(optuna.logging.WARNING)
# A slow machine is no failure. The same examples every time, unless ZENOPT_FUZZ asks for others: a change is judged by
# what it changes.
hypothesis.settings.register_profile("zenopt", deadline=None, derandomize="ZENOPT_FUZZ" not in os.environ)
hypothesis.settings.load_profile("zenopt")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    # Small convolutions are slower on several threads, and seeded values then depend on the machine.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    # Commands choose for their process what is said; here other tests run in it.
    loggers = [logging.getLogger(name) for name in ("zenopt", "optuna")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(autouse=True)
def _named_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    # Worker processes import what was named in this one; other tests' modules are gone by then.
    monkeypatch.setattr(extensions, "_NAMED", {})


@pytest.fixture
def tiny_spec() -> Callable[..., StudySpec]:
    """Return a maker of specs whose networks are scored in milliseconds; keywords replace whole sections."""

    def make(**sections: Any) -> StudySpec:
        data: dict[str, Any] = {
            "name": "tiny",
            "space": {
                "options": {
                    "stage_strides": [1, 2],
                    "slots": 2,
                    "max_depth": 2,
                    "max_width": 32,
                    "max_bottleneck": 16,
                    "max_head": 64,
                },
                "initial": "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,1)SuperResK3K3(16,16,2,8,1)"
                "SuperConvK1BNRELU(16,32,1,1)",
            },
            "resolution": 8,
            "num_classes": 10,
            "budget": {"params": 40_000, "layers": 8},
            "proxy": {"name": "zen", "batch_size": 2},
            "sampler": {"name": "zen", "screening": "off"},
            "trials": 10,
        }
        return StudySpec.validated(Source("tiny.yaml", {**data, **sections}))

    return make
