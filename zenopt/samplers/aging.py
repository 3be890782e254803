"""Aging (regularised) evolution: the oldest dies, however good it is.

Real, Aggarwal, Huang & Le, "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from zenopt.core.changing import MOST_TRIALS, Changing
from zenopt.core.errors import SpecError
from zenopt.latency.limits import Limits
from zenopt.samplers.guided import Guide, GuidedSampler, refuse_several
from zenopt.samplers.population import Population
from zenopt.storage.records import TrialRecord

if TYPE_CHECKING:
    import optuna


#: Random architectures before an evolution whose moves a cheap score proposes.
FEW_RANDOM = 8


class RecentPopulation(Population):
    """The last feasible completed trials of a study, newest first, and every structure it knows."""

    def __init__(self, study: optuna.Study, space: Any, size: int) -> None:
        super().__init__(study, space, size)
        self._values: dict[str, float] = {}

    def best_of(self, count: int, rng: random.Random) -> Any:
        """Return the best of ``count`` members drawn without replacement."""
        drawn = rng.sample(self._ranked, min(count, len(self._ranked)))
        _, _, structure = min(drawn, key=lambda entry: (self._values[entry[2]], entry[1]))
        return self._parsed(structure)

    def _rank(self, number: int, value: float) -> float:
        return -float(number)

    def _add(self, record: TrialRecord, structure: str | None) -> None:
        is_new = structure not in self._members
        super()._add(record, structure)
        if is_new and structure in self._members and structure is not None and record.value is not None:
            self._values[structure] = self._sign * record.value


class AgingSampler(GuidedSampler):
    """Proposes a one-step mutation of the best of a few recent trials.

    The first ``random_initial`` proposals are random architectures within the budget; with a guide's warm-up it is the
    best of many instead. From then on the population is the last ``population_size`` feasible completed trials; the
    best of ``tournament`` members drawn from it is the parent.

    Deliberate differences from the paper: nothing is evaluated twice; what is known is drawn again. With move proposal
    the evolution does not wait for a full population: a cheap score that picks the moves needs little to start from,
    and random architectures would be most of what such a search evaluates.

    Args:
        space:
            As for :class:`~zenopt.samplers.ZenSampler`; ``draw`` and ``neighbours`` are used where the space has them.
        limits:
            The budget; over-budget architectures are never proposed.
        seed:
            Seed of all proposals; randomness derives from it and the trial number.
        population_size:
            Trials that are alive.
        tournament:
            Members compared for a parent; it may change over the study.
        random_initial:
            Architectures evaluated before the evolution begins; by default as many as are alive, with a warm-up its
            ``first``, with move proposal alone 8.
        guide:
            Cheap score for warm-up and move proposal, if any.
    """

    def __init__(
        self,
        space: Any,
        limits: Limits,
        *,
        seed: int = 0,
        population_size: int = 64,
        tournament: int | Changing = 10,
        random_initial: int | None = None,
        guide: Guide | None = None,
    ) -> None:
        self._tournament = Changing.of(tournament)
        for number in (0, MOST_TRIALS):
            size = self._tournament.at(number)
            if not 1 <= size <= population_size:
                raise SpecError(
                    f"sampler.tournament must be from 1 to sampler.population ({population_size}), got {size:g}"
                    f"{' with time; give it a max' if number else ''}."
                )
        super().__init__(space, limits, seed=seed, population_size=population_size, guide=guide)
        if random_initial is not None:
            self._begin = max(1, random_initial)
        elif guide is not None and guide.warm_up:
            self._begin = guide.first
        elif guide is not None and guide.moves > 1:
            self._begin = min(FEW_RANDOM, population_size)
        else:
            self._begin = population_size

    def _check_study(self, study: optuna.Study) -> None:
        refuse_several("AgingSampler", study)

    def _propose_first(self, population: Population, number: int, rng: random.Random) -> Any | None:
        if len(population.known) >= self._begin and len(population):
            return None
        if self._guide is not None and self._guide.warm_up:
            found = self._next_warm(population.known, number)
            if found is not None:
                return found
        found = self._draw_new(population.known, rng)
        if found is not None:
            return found
        # The budget leaves too few architectures for a random population: evolve what there is.
        return None if len(population) else self._fitted_initial()

    def _parent(self, population: Population, number: int, rng: random.Random) -> Any:
        assert isinstance(population, RecentPopulation)
        return population.best_of(self._tournament.at(number), rng)

    def _blocks(self, population: Population) -> int:
        return 1

    def _make_population(self, study: optuna.Study) -> Population:
        return RecentPopulation(study, self._space, self._population_size)
