"""Samplers by name, for study specs and the command line."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from zenopt.core.errors import SpecError
from zenopt.core.seeds import derive_seed
from zenopt.samplers.aging import AgingSampler
from zenopt.samplers.classes import ClassSampler
from zenopt.samplers.guided import Guide, GuidedSampler
from zenopt.samplers.screening import Screening
from zenopt.samplers.zen import ZenSampler
from zenopt.study.cheap import cheap_score

if TYPE_CHECKING:
    from zenopt.study.spec import StudySpec

#: Samplers that see infeasible trials only when they are COMPLETE with a value.
NEEDS_COMPLETE = frozenset({"nsga2", "gp"})
#: Samplers whose moves need every parameter in every trial.
NEEDS_ALL_SLOTS = frozenset({"nsga2", "gp"})
#: Samplers that a cheap score can guide.
GUIDED = frozenset({"zen", "aging"})
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
    if settings.guide is not None and settings.name not in GUIDED:
        raise SpecError(
            f"sampler.guide is for the samplers {', '.join(sorted(GUIDED))}, not {settings.name}."
        )
    if settings.name == "aging":
        if len(spec.objectives) > 1:
            raise SpecError("sampler aging compares by one objective; use zen, nsga2 or tpe for several.")
        return AgingSampler(
            spec.build_space(),
            spec.limits(),
            seed=spec.seed,
            population_size=settings.population,
            tournament=settings.tournament,
            random_initial=settings.random_initial,
            guide=_guide(spec),
        )
    if settings.name == "zen":
        return _zen_sampler(spec)
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


def _zen_sampler(spec: StudySpec) -> BaseSampler:
    settings, space = spec.sampler, spec.build_space()
    if settings.mutation not in space.moves:
        raise SpecError(
            f"sampler.mutation {settings.mutation} is none of the space {spec.space.name!r}; it has "
            f"{', '.join(space.moves)}."
        )
    if settings.guide is not None and spec.classes:
        raise SpecError("sampler.guide and classes exclude each other: a guide ranks the whole space.")
    if settings.guide is not None:
        # Either decides what is evaluated: both at once would hide which one did.
        if settings.screening == "on":
            raise SpecError("sampler.screening and sampler.guide exclude each other; set screening: off.")
        return GuidedSampler(
            space,
            spec.limits(),
            guide=_guide(spec),
            seed=spec.seed,
            population_size=settings.population,
            mutation=settings.mutation,
        )
    if settings.screening == "on" and not space.screens_arrays:
        raise SpecError(
            f"sampler.screening needs the closed form, which the space {spec.space.name!r} has not."
        )
    if settings.screening == "on" and len(spec.objectives) > 1:
        raise SpecError(
            "sampler.screening looks at the score alone; set screening: off for several objectives."
        )
    is_screened = settings.screening == "on" or (
        settings.screening == "auto"
        and space.screens_arrays
        and len(spec.objectives) == 1
        and spec.objective.kind == "proxy"
        and spec.proxy.name in SCREENED_PROXIES
    )
    options: dict[str, Any] = {
        "seed": spec.seed,
        "population_size": settings.population,
        "screening": Screening(candidates=settings.screening_candidates, explore=settings.explore)
        if is_screened
        else None,
        "mutation": settings.mutation,
        "random_initial": settings.random_initial or 0,
        "batch_size": spec.proxy.batch_size or spec.proxy.batch_sizes.cpu,
    }
    if spec.classes:
        return ClassSampler(space, [limits for _, limits in spec.class_limits()], **options)
    return ZenSampler(space, spec.limits(), **options)


def _guide(spec: StudySpec) -> Guide | None:
    settings = spec.sampler.guide
    if settings is None:
        return None
    first = settings.first if settings.first is not None else min(64, spec.sampler.population)
    return Guide(cheap_score(spec), warm_up=settings.warm_up, first=first, moves=settings.moves)
