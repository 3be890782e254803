"""A sampler of one's own: hill climbing, in the storage and with the objective of any study.

A sampler sees the study and proposes parameters. Run this file to climb for twelve trials::

    python examples/custom_sampler.py

The study is an ordinary one: ``zenopt status``, ``report`` and ``export-best`` read it.
"""

from __future__ import annotations

import random
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

import zenopt
from zenopt.core.seeds import derive_rng
from zenopt.latency.limits import Limits
from zenopt.storage import open_storage
from zenopt.study.objective import Objective, run_trial
from zenopt.study.spec import StudySpec
from zenopt.study.study import join_study, load_study


class HillClimber(BaseSampler):
    """Proposes a mutation of the best architecture so far that keeps the budget.

    Args:
        space:
            The study's space.
        limits:
            Its budget.
        seed:
            Seed of all proposals; those of a trial derive from it and the trial's number.
    """

    def __init__(self, space: Any, limits: Limits, seed: int = 0) -> None:
        self._space = space
        self._limits = limits
        self._seed = seed

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the whole space."""
        return dict(self._space.distributions)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the parameters of the proposal."""
        if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            start = self._space.parse(self._space.initial)
            return self._space.encode(self._limits.closest_fit(self._space, start))
        parent = self._space.decode(study.best_params)
        rng: random.Random = derive_rng(self._seed, trial.number, "climb")
        while True:
            child = self._space.mutate(parent, rng)
            if child is not None and child != parent and self._limits.check(child).is_feasible:
                return self._space.encode(child)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw what the space does not know, at random."""
        return RandomSampler(seed=self._seed).sample_independent(study, trial, param_name, param_distribution)


def climb(spec: StudySpec, url: str, trials: int) -> zenopt.Result:
    """Add trials of the hill climber to a study."""
    storage = open_storage(url)
    spec = join_study(spec, storage, spec.name, "cpu")
    sampler = HillClimber(spec.build_space(), spec.limits(), spec.seed)
    study = load_study(storage, spec.name, sampler)
    objective = Objective(spec, study, "cpu")
    for _ in range(trials):
        run_trial(study, objective)
    return zenopt.Result(study)


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spec = StudySpec.load(
        "demo", ["name=climb", "budget.params=1e5", "budget.layers=8", "proxy.batch_size=4"]
    )
    result = climb(spec, "sqlite:///climb.db", 12)
    print(f"{result.data.size} trials, best {result.best.score:.3f} in trial {result.best.trial}")
    print(result.best.structure)


if __name__ == "__main__":
    main()
