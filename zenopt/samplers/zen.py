"""ZenSampler: Zen-NAS's evolution as an Optuna sampler over the study itself."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import TrialState

from zenopt.core.changing import Changing
from zenopt.core.errors import BudgetError, SpecError
from zenopt.core.seeds import derive_rng, derive_seed
from zenopt.latency.limits import Limits
from zenopt.samplers.pareto import ParetoPopulation
from zenopt.samplers.population import Population
from zenopt.samplers.screening import Screening, screen
from zenopt.storage.records import STRUCTURE_KEY

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from zenopt.spaces.base import ArrayScreening

#: While the population is not larger, Zen-NAS mutates one block of the initial structure.
WARM_UP = 10
#: Mutations tried before a proposal gives up; Zen-NAS consumes one iteration per rejection instead.
MAX_ATTEMPTS = 20_000
#: Known structures drawn before the moves become longer: small spaces run out of one-block mutations.
MAX_KNOWN_DRAWS = 500
RANDOM_ATTEMPTS = 100

Mutation = Callable[..., Any]


class ZenSampler(BaseSampler):
    """Proposes mutations of the study's best architectures, inside the budget and never seen before.

    The first proposal is the initial structure, shrunk until it fits. Until the population exceeds 10 (or is full), one
    block of it is mutated; then up to two blocks of a parent drawn uniformly from the population, the best
    ``population_size`` feasible completed trials. With ``screening``, an in-memory evolution on the closed-form score
    picks each proposal.

    In a study with several objectives the best are those of the first fronts (see
    :class:`~zenopt.samplers.pareto.ParetoPopulation`).

    Deliberate differences from Zen-NAS: the initial structure is itself evaluated; what is over budget or already known
    is drawn again instead of consuming an iteration; no structure is scored twice.

    Randomness derives from ``seed`` and the trial number, so a resumed study with one worker repeats itself.

    Args:
        space:
            A space with ``distributions``, ``encode``, ``decode``, ``mutate``, ``shrink`` and ``initial``.
        limits:
            The budget; over-budget architectures are never proposed.
        seed:
            Seed of all proposals.
        population_size:
            Number of trials that may become parents.
        screening:
            Settings of the closed-form screening, or ``None`` for Zen-NAS as published.
        mutation:
            ``"zen"`` for the published mutation, ``"fork"`` for the cheaper one of the fork (see
            :mod:`zenopt.spaces.chain.fork`). The screening's evolution uses the same.
        random_initial:
            Number of random architectures to propose before the evolution begins.
        batch_size:
            Score batch that the closed form predicts while screening.
        closed_form:
            Value to screen by, higher is better; the closed-form Zen-score by default. A value of your own is asked
            candidate by candidate, so give ``screening`` fewer candidates.
        parents:
            Which structures may become parents; all if not given. Not for studies with several objectives.

    Example:
        .. code-block:: python

            space = SuperResSpace()
            limits = Limits(Budget(params=1e6), resolution=32, num_classes=100)
            study = optuna.create_study(direction="maximize", sampler=ZenSampler(space, limits))
            study.optimize(lambda trial: my_score(space.suggest(trial)), n_trials=100)
    """

    def __init__(
        self,
        space: Any,
        limits: Limits,
        *,
        seed: int = 0,
        population_size: int = 512,
        screening: Screening | None = None,
        mutation: str = "zen",
        random_initial: int = 0,
        batch_size: int | None = 16,
        closed_form: Callable[[Any], float] | None = None,
        parents: Callable[[str], bool] | None = None,
    ) -> None:
        self._space = space
        self._limits = limits
        self._seed = seed
        self._population_size = population_size
        self._screening = screening
        self._explore = Changing.of(screening.explore if screening is not None else 0.0)
        self._mutate_once: Mutation = space.moves[mutation]
        self._mutation = mutation
        self._batch_size = batch_size
        self._array_screen: ArrayScreening | None = None
        self._random_initial = random_initial
        self._closed_form = closed_form
        self._parents = parents
        # One sampler may serve several studies. Optuna copies study objects; storage and id stay. A population holds
        # its storage, so that no other object can get the same identity meanwhile.
        self._populations: dict[tuple[int, int], Population] = {}
        self._initial: Any = None
        # study.optimize(n_jobs=...) asks from several threads.
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy in another process needs; it reads the population from its own study."""
        return {**self.__dict__, "_populations": {}, "_array_screen": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the whole space; the same in every trial."""
        self._check_study(study)
        return dict(self._space.distributions)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the parameters of the proposed architecture.

        Of a search space with other parameters than the space's, each is drawn independently; of a part of the space,
        that part is returned.
        """
        self._check_study(study)
        own = self._space.distributions
        if any(own.get(name) != distribution for name, distribution in search_space.items()):
            return {
                name: self.sample_independent(study, trial, name, distribution)
                for name, distribution in search_space.items()
            }
        if self._space.is_complete(trial.params):
            # Taken over from a worker that died: the trial keeps what it was going to evaluate.
            return {}
        with self._lock:
            architecture = self.propose(study, trial.number)
            # Other threads must not propose it while it runs.
            self._population(study).known.add(str(architecture))
            self._announce(study, trial, architecture)
        params = self._space.encode(architecture)
        return {name: value for name, value in params.items() if name in search_space}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw parameters that are not the space's, uniformly."""
        self._check_study(study)
        sampler = RandomSampler(seed=derive_seed(self._seed, trial.number, param_name) % 2**32)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def _announce(self, study: optuna.Study, trial: FrozenTrial, architecture: Any) -> None:
        """Tell others what was proposed, where a sampler reads it; by default they see it when it is evaluated."""

    def _check_study(self, study: optuna.Study) -> None:
        """Raise a :class:`ValueError` where the study has more objectives than the sampler looks at."""

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Name the trial's structure where the objective did not, so that it is never proposed again."""
        if STRUCTURE_KEY not in trial.user_attrs and self._space.is_complete(trial.params):
            structure = str(self._space.decode(trial.params))
            study._storage.set_trial_user_attr(trial._trial_id, STRUCTURE_KEY, structure)

    def reseed_rng(self) -> None:
        """Do nothing: randomness derives from the seed and the trial number."""

    def propose(self, study: optuna.Study, number: int) -> Any:
        """Return the architecture to evaluate in trial ``number``.

        Raises:
            BudgetError: If nothing fits the budget, or no new architecture was found.
        """
        population = self._population(study)
        population.sync()
        population.release(number)
        rng = derive_rng(self._seed, number, "propose")
        initial = self._fitted_initial()
        if str(initial) not in population.known:
            return initial
        if len(population.known) <= self._random_initial:
            found = self._random(population.known, rng)
            if found is not None:
                return found
        is_warm = len(population) > min(WARM_UP, self._population_size - 1)
        parents = population.architectures() if is_warm else [initial]
        if self._screening is not None and rng.random() >= self._explore.at(number):
            members = parents if len(parents) > 1 else [*population.architectures(), initial]
            found = self._screened(members, population.known, self._screening, rng)
            if found is not None:
                return found
        return self._mutate(parents, population.known, rng, 1 if len(parents) == 1 else 2)

    def _screened(
        self, parents: list[Any], known: set[str], screening: Screening, rng: random.Random
    ) -> Any | None:
        if self._space.array_screen and self._closed_form is None:
            if self._array_screen is None:
                self._array_screen = self._space.array_screening(
                    self._limits,
                    candidates=screening.candidates,
                    elites=screening.elites,
                    batch_size=self._batch_size,
                    move=self._mutation,
                )
            assert self._array_screen is not None
            return self._array_screen.pick(parents, known, rng)
        return screen(
            parents,
            known,
            limits=self._limits,
            mutate=self._mutate_once,
            value=self._value,
            settings=screening,
            rng=rng,
        )

    def _mutate(self, parents: list[Any], known: set[str], rng: random.Random, blocks: int) -> Any:
        # Where one-block mutations of the initial structure are used up, two blocks are mutated.
        known_draws = 0
        for attempt in range(MAX_ATTEMPTS):
            is_used_up = attempt >= MAX_ATTEMPTS // 2 or known_draws >= MAX_KNOWN_DRAWS
            child = self._mutate_once(rng.choice(parents), rng, blocks=2 if is_used_up else blocks)
            if child is None:
                continue
            if str(child) in known:
                known_draws += 1
            elif self._limits.check(child).is_feasible:
                return child
        raise BudgetError(
            f"No new architecture within the budget in {MAX_ATTEMPTS:,} mutations; "
            f"the space may be exhausted ({len(known):,} structures are known)."
        )

    def _random(self, known: set[str], rng: random.Random) -> Any | None:
        """Return a new random architecture, shrunk into the budget; ``None`` if none is found soon."""
        for _ in range(RANDOM_ATTEMPTS):
            found = self._space.draw(rng)
            if found is None:
                continue
            fitted = self._limits.closest_fit(self._space, found)
            if str(fitted) not in known:
                return fitted
        return None

    def _population(self, study: optuna.Study) -> Population:
        key = (id(study._storage), study._study_id)
        if key not in self._populations:
            self._populations[key] = self._make_population(study)
        return self._populations[key]

    def _make_population(self, study: optuna.Study) -> Population:
        if len(study.directions) > 1:
            return ParetoPopulation(study, self._space, self._population_size)
        return Population(study, self._space, self._population_size, self._parents)

    def _fitted_initial(self) -> Any:
        if self._initial is None:
            initial = self._space.parse(self._space.initial)
            self._initial = self._limits.closest_fit(self._space, initial)
        return self._initial

    def _value(self, architecture: Any) -> float:
        if self._closed_form is not None:
            return self._closed_form(architecture)
        value = architecture.closed_form("zen", resolution=self._limits.resolution, batch_size=64)
        if value is None:
            raise SpecError(f"Screening needs a closed form, which {type(architecture).__name__} has not.")
        return float(value)
