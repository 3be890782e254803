"""Samplers by name: zenopt's own, any class of ``optuna.samplers``, an OptunaHub package, or ``module:object``."""

from __future__ import annotations

import warnings
from inspect import signature
from typing import TYPE_CHECKING, Any

import optuna
from optuna.samplers import BaseSampler

from zenopt.core.errors import SpecError
from zenopt.core.extensions import HUB, is_named
from zenopt.core.seeds import derive_seed
from zenopt.core.text import one_line, quoted
from zenopt.samplers.aging import AgingSampler
from zenopt.samplers.annealing import AnnealingSampler
from zenopt.samplers.classes import ClassSampler
from zenopt.samplers.guided import Guide, GuidedSampler
from zenopt.samplers.local_search import LocalSearchSampler
from zenopt.samplers.rejection import RejectionSampler
from zenopt.samplers.screening import Screening
from zenopt.samplers.zen import ZenSampler
from zenopt.study.cheap_scores import cheap_score
from zenopt.study.registries import SAMPLERS, STOCK_SAMPLERS

if TYPE_CHECKING:
    from zenopt.study.spec import StudySpec

#: Options of stock samplers unless the spec says otherwise.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "TPESampler": {"constant_liar": True},
    "GPSampler": {"warn_independent_sampling": False},
    "CmaEsSampler": {"warn_independent_sampling": False},
    "QMCSampler": {"warn_independent_sampling": False},
}
#: Packages that stock samplers import when they are made or asked.
_PACKAGES = {"CmaEsSampler": "cmaes"}
#: Stock samplers that make do with any parameters; the others want the same ones in every trial.
_DEFINE_BY_RUN = frozenset({"RandomSampler", "TPESampler"})
#: Samplers that a cheap score can guide.
GUIDED = frozenset({"zen", "aging"})
#: Proxies whose order the closed-form Zen-score predicts.
SCREENED_PROXIES = frozenset({"zen", "zen-closed-form"})


def make_sampler(spec: StudySpec, worker: int = 0) -> BaseSampler:
    """Return the sampler a spec names.

    Args:
        spec:
            The study spec.
        worker:
            Index of the worker. Optuna's own samplers draw from one stream, which workers must not share; zenopt's
            derive their randomness from the trial number.

    Raises:
        SpecError: If an option does not fit the sampler, or a package is missing.
        UnknownNameError: If there is no such sampler.
    """
    settings = spec.sampler
    if settings.guide is not None and settings.name not in GUIDED:
        raise SpecError(
            f"sampler.guide is for the samplers {', '.join(sorted(GUIDED))}, not {settings.name}."
        )
    stock = _stock_class(settings.name)
    if stock is not None:
        return _made(stock, spec, derive_seed(spec.seed, worker, settings.name) % 2**32)
    if settings.name.startswith(HUB):
        return _made(_hub_class(settings.name), spec, derive_seed(spec.seed, worker, "hub") % 2**32)
    found = SAMPLERS.get(settings.name, stored=True)
    if isinstance(found, type):
        return _made(found, spec, derive_seed(spec.seed, worker, settings.name) % 2**32)
    sampler = found(spec, worker)
    if not isinstance(sampler, BaseSampler):
        raise SpecError(f"sampler.name: {settings.name!r} gives no Optuna sampler.")
    return sampler


def needs_all_slots(spec: StudySpec) -> bool:
    """Return whether a spec's sampler needs every parameter of the space in every trial."""
    return _wants(spec, "needs_all_slots")


def needs_complete(spec: StudySpec) -> bool:
    """Return whether a spec's sampler learns of infeasible trials only when they are COMPLETE with a value."""
    return _wants(spec, "needs_complete")


def _wants(spec: StudySpec, attribute: str) -> bool:
    stock = _stock_class(spec.sampler.name)
    if stock is not None:
        return stock.__name__ not in _DEFINE_BY_RUN
    if spec.sampler.name.startswith(HUB):
        return True
    # A sampler of one's own may say so by an attribute; zenopt's own need neither.
    return bool(getattr(SAMPLERS.get(spec.sampler.name, stored=True), attribute, False))


def _stock_class(name: str) -> type[BaseSampler] | None:
    found = getattr(optuna.samplers, STOCK_SAMPLERS.get(name, name), None)
    return found if isinstance(found, type) and issubclass(found, BaseSampler) else None


def _hub_class(name: str) -> type[BaseSampler]:
    if not is_named(name):
        raise SpecError(
            f"sampler {quoted(name)} was read, not asked for: nothing is fetched for it. If you trust it, name it "
            "yourself, e.g. with --set sampler.name=..."
        )
    try:
        import optunahub
    except ImportError:
        raise SpecError(
            f"sampler {name} needs the package optunahub (pip install optunahub) and network access."
        ) from None
    package, _, wanted = name.removeprefix(HUB).partition(":")
    try:
        module = optunahub.load_module(package)
    except Exception as error:
        # Whatever the network or the package raises is all that is known.
        raise SpecError(
            f"sampler {name} cannot be loaded: {type(error).__name__}: {one_line(str(error), 200)}."
        ) from None
    candidates = [
        item for item in vars(module).values() if isinstance(item, type) and issubclass(item, BaseSampler)
    ]
    chosen = [item for item in candidates if item.__name__ == wanted] if wanted else candidates[:1]
    if not chosen:
        raise SpecError(f"sampler {name}: the package has {', '.join(c.__name__ for c in candidates)}.")
    return chosen[0]


def _made(cls: type[BaseSampler], spec: StudySpec, seed: int) -> BaseSampler:
    """Make a sampler of a class with the spec's options, and a seed if it takes one."""
    package = _PACKAGES.get(cls.__name__)
    options = {**_DEFAULTS.get(cls.__name__, {}), **spec.sampler.options}
    if "seed" in signature(cls).parameters:
        options.setdefault("seed", seed)
    if package is not None:
        from importlib.util import find_spec

        if find_spec(package) is None:
            raise SpecError(
                f"sampler {spec.sampler.name} needs {package}, which is not installed; run: pip install {package}"
            )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            return cls(**options)
        except (TypeError, ValueError) as error:
            raise SpecError(f"sampler.options do not fit {spec.sampler.name}: {error}.") from None


@SAMPLERS.register("aging")
def _aging_sampler(spec: StudySpec, worker: int) -> BaseSampler:
    """Regularised evolution: the oldest of the population goes."""
    _check_one_objective(spec)
    settings = spec.sampler
    return AgingSampler(
        spec.build_space(),
        spec.limits(),
        seed=spec.seed,
        population_size=settings.population,
        tournament=settings.tournament,
        random_initial=settings.random_initial,
        guide=_guide(spec),
    )


@SAMPLERS.register("rejection")
def _rejection_sampler(spec: StudySpec, worker: int) -> BaseSampler:
    """Random networks within the budget."""
    return RejectionSampler(spec.build_space(), spec.limits(), seed=spec.seed)


@SAMPLERS.register("local-search")
def _local_search_sampler(spec: StudySpec, worker: int) -> BaseSampler:
    """Climb by single moves, and begin again at a peak."""
    _check_one_objective(spec)
    return LocalSearchSampler(
        spec.build_space(), spec.limits(), seed=spec.seed, random_initial=spec.sampler.random_initial or 1
    )


@SAMPLERS.register("annealing")
def _annealing_sampler(spec: StudySpec, worker: int) -> BaseSampler:
    """Walk by moves, ever less often to what is worse."""
    _check_one_objective(spec)
    settings, begin = spec.sampler.annealing, spec.sampler.random_initial
    space = spec.build_space()
    _check_move(spec, space)
    return AnnealingSampler(
        space,
        spec.limits(),
        seed=spec.seed,
        temperature=settings.temperature,
        cooling=settings.cooling,
        mutation=spec.sampler.mutation,
        **({} if begin is None else {"random_initial": begin}),
    )


@SAMPLERS.register("reinforce")
def _reinforce_sampler(spec: StudySpec, worker: int) -> BaseSampler:
    """An LSTM that learns by policy gradients which decisions are worth what."""
    from zenopt.samplers.reinforce import ReinforceSampler

    _check_one_objective(spec)
    options = _controller_options(spec)
    del options["epochs"], options["clip"]
    return ReinforceSampler(spec.build_space(), spec.limits(), seed=spec.seed, **options)


@SAMPLERS.register("ppo")
def _ppo_sampler(spec: StudySpec, worker: int) -> BaseSampler:
    """An LSTM that learns the same by clipped updates over several trials."""
    from zenopt.samplers.ppo import PPOSampler

    _check_one_objective(spec)
    options = _controller_options(spec)
    return PPOSampler(spec.build_space(), spec.limits(), seed=spec.seed, **options)


def _controller_options(spec: StudySpec) -> dict[str, Any]:
    return {name: value for name, value in spec.sampler.controller if value is not None}


@SAMPLERS.register("surrogate")
def _surrogate_sampler(spec: StudySpec, worker: int) -> BaseSampler:
    """Learn from the study's own trials what to evaluate next."""
    # Imported late: fitting needs scipy, whose import costs other searches a third of a second.
    from zenopt.samplers.surrogate import SurrogateSampler
    from zenopt.study.earlier import earlier_results

    settings = spec.sampler.surrogate
    return SurrogateSampler(
        spec.build_space(),
        spec.limits(),
        seed=spec.seed,
        begin=settings.begin,
        candidates=settings.candidates,
        ranking=None if settings.ranking == "none" else settings.ranking,
        costs=spec.objectives[1:],
        last_step=spec.evaluator()(spec).last_step,
        inputs=settings.inputs,
        earlier=earlier_results(spec),
        mutation=spec.sampler.mutation,
    )


@SAMPLERS.register("zen")
def _zen_sampler(spec: StudySpec, worker: int) -> BaseSampler:
    """Zen-NAS's evolution, its proposals chosen by the closed-form score where there is one."""
    settings, space = spec.sampler, spec.build_space()
    _check_move(spec, space)
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
    if settings.screening == "on" and not space.array_screen:
        raise SpecError(
            f"sampler.screening needs the closed form, which the space {spec.space.name!r} has not."
        )
    if settings.screening == "on" and len(spec.objectives) > 1:
        raise SpecError(
            "sampler.screening looks at the score alone; set screening: off for several objectives."
        )
    is_screened = settings.screening == "on" or (
        settings.screening == "auto"
        and space.array_screen
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


def _check_one_objective(spec: StudySpec) -> None:
    if len(spec.objectives) > 1:
        raise SpecError(
            f"sampler {spec.sampler.name} compares by one objective; use zen, nsga2 or tpe for several."
        )


def _check_move(spec: StudySpec, space: Any) -> None:
    if spec.sampler.mutation not in space.moves:
        raise SpecError(
            f"sampler.mutation {spec.sampler.mutation} is none of the space {spec.space.name!r}; it has "
            f"{', '.join(space.moves)}."
        )


def _guide(spec: StudySpec) -> Guide | None:
    settings = spec.sampler.guide
    if settings is None:
        return None
    first = settings.first if settings.first is not None else min(64, spec.sampler.population)
    return Guide(cheap_score(spec), warm_up=settings.warm_up, first=first, moves=settings.moves)
