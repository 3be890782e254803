"""A worker process for the tests that kill workers: asks, scores, tells, and keeps a log of what it told."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from zenopt.storage import count_by_state, open_storage


class NumberedSampler(BaseSampler):
    """Draws from (seed, trial number, parameter) alone, as a search that can be repeated must."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> float:
        assert isinstance(param_distribution, optuna.distributions.FloatDistribution)
        entropy = [self.seed, trial.number, *param_name.encode()]
        return float(np.random.default_rng(entropy).uniform(param_distribution.low, param_distribution.high))


def objective(trial: optuna.Trial, seconds: float) -> float:
    """Return the sum of six parameters after ``seconds``."""
    total = sum(trial.suggest_float(f"x{i}", 0.0, 1.0) for i in range(6))
    trial.set_user_attr("structure", f"S{trial.number}")
    trial.set_constraint("params", -0.5)
    time.sleep(seconds)
    return total


def run(
    url: str,
    log: str,
    target: int,
    seconds: float,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    own: int = 0,
) -> None:
    """Work on the study ``s`` until it has ``target`` finished trials, and this worker has told ``own`` of them.

    Append each told number and value to ``log``.

    The log is written after ``tell`` returned, in one system call: what it holds was told, whatever kills us.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(url, **(options or {}))
    study = optuna.load_study(storage=storage, study_name="s", sampler=NumberedSampler(seed))
    handle = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    told = 0
    while True:
        counts = count_by_state(study)
        if counts[TrialState.COMPLETE] >= target and told >= own:
            return
        trial = study.ask()
        value = objective(trial, seconds)
        study.tell(trial, value)
        os.write(handle, f"{trial.number} {value!r}\n".encode())
        told += 1
