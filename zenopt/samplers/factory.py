"""Samplers by name, for study specs and the command line."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from zenopt.errors import SpecError
from zenopt.samplers.screening import Screening
from zenopt.samplers.zen import ZenSampler
from zenopt.seeds import derive_seed

if TYPE_CHECKING:
    from zenopt.spec import StudySpec

#: Samplers that see infeasible trials only when they are COMPLETE with a value.
NEEDS_COMPLETE = frozenset({"nsga2", "gp"})
#: Samplers whose moves need every parameter in every trial.
NEEDS_ALL_SLOTS = frozenset({"nsga2", "gp"})
#: Proxies whose order the closed-form Zen-score predicts.
SCREENED_PROXIES = frozenset({"zen", "zen-closed-form"})


def make_sampler(spec: StudySpec, worker: int = 0) -> BaseSampler:
    """Returns the sampler a spec names.

    Args:
        spec:
            The study spec.
        worker:
            Index of the worker. Optuna's own samplers draw from one stream, which workers must not share; ZenSampler
            needs no such thing.
    """
    settings = spec.sampler
    if settings.name == "zen":
        is_screened = settings.screening == "on" or (
            settings.screening == "auto" and spec.proxy.name in SCREENED_PROXIES
        )
        screening = (
            Screening(candidates=settings.screening_candidates, explore=settings.explore)
            if is_screened
            else None
        )
        return ZenSampler(
            spec.build_space(),
            spec.limits(),
            seed=spec.seed,
            population_size=settings.population,
            screening=screening,
            mutation=settings.mutation,
            random_initial=settings.random_initial,
        )
    seed = derive_seed(spec.seed, worker, settings.name) % 2**32
    if settings.name == "random":
        return RandomSampler(seed=seed)
    if settings.name == "tpe":
        return TPESampler(seed=seed, constant_liar=True)
    if settings.name == "gp":
        if importlib.util.find_spec("scipy") is None:
            raise SpecError("sampler gp needs scipy, which is not installed; run: pip install scipy")
        return GPSampler(seed=seed, warn_independent_sampling=False)
    return NSGAIISampler(seed=seed)
