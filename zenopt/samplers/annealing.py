"""Simulated annealing: a walk of mutations that also takes steps down, ever fewer of them.

Kirkpatrick, Gelatt & Vecchi, "Optimization by Simulated Annealing", Science 220, 1983.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from math import exp
from statistics import median
from typing import TYPE_CHECKING, Any

from zenopt.core.changing import Changing
from zenopt.core.errors import SpecError
from zenopt.core.seeds import derive_rng
from zenopt.latency.limits import Limits
from zenopt.samplers.guided import GuidedSampler, refuse_several
from zenopt.samplers.population import Population
from zenopt.samplers.replay import Outcome, Replay

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Walk:
    """Where a walk is.

    Attributes:
        current: Text of the architecture it is at; ``None`` before the first score.
        score: Of that architecture.
        steps: Proposals judged since the walk began.
        first: Scores of the random architectures before it.
    """

    current: str | None = None
    score: float = 0.0
    steps: int = 0
    first: tuple[float, ...] = ()

    @property
    def spread(self) -> float:
        """The median distance of the first scores from their median: the unit of temperatures."""
        middle = median(self.first)
        return median(abs(score - middle) for score in self.first)


class AnnealingSampler(GuidedSampler):
    """Proposes a one-step mutation of the architecture at which a walk is.

    The walk begins at the best of ``random_initial`` random architectures. It moves to a proposal that is better, and
    to one that is worse by ``d`` with probability ``exp(-d / T)``. ``T`` begins at ``temperature`` times the spread of
    the random architectures' scores, so that it means the same for percents, shares and losses, and falls by the
    factor ``cooling`` with every step.

    Deliberate differences from aw_nas, where T = 1000 x 0.98 per step whatever accuracies are: the unit, and nothing is
    evaluated twice.

    Args:
        space, limits, seed, mutation:
            As for :class:`~zenopt.samplers.ZenSampler`.
        temperature:
            At the beginning, in spreads; 0 takes only what is better. One that changes over the study is cooled, too.
        cooling:
            Factor per step, above 0, at most 1.
        random_initial:
            Random architectures before the walk.
    """

    def __init__(
        self,
        space: Any,
        limits: Limits,
        *,
        seed: int = 0,
        temperature: float | Changing = 0.3,
        cooling: float = 0.98,
        random_initial: int = 8,
        mutation: str = "zen",
    ) -> None:
        self._temperature = Changing.of(temperature)
        if not self._temperature.start >= 0 or not 0 < cooling <= 1:
            raise SpecError(
                "annealing needs a temperature of at least 0 and a cooling above 0 and at most 1; got "
                f"{self._temperature.start:g} and {cooling:g}."
            )
        super().__init__(space, limits, seed=seed, mutation=mutation)
        self._cooling = cooling
        self._begin = max(1, random_initial)

    def advance(self, walk: Walk, outcome: Outcome) -> Walk:
        """Return where the walk is after one more outcome."""
        if len(walk.first) < self._begin:
            if outcome.score is None:
                return walk
            found = replace(walk, first=(*walk.first, outcome.score))
            is_better = walk.current is None or outcome.score > walk.score
            return replace(found, current=outcome.text, score=outcome.score) if is_better else found
        step = replace(walk, steps=walk.steps + 1)
        if outcome.score is None or not self._takes(walk, outcome):
            return step
        return replace(step, current=outcome.text, score=outcome.score)

    def _takes(self, walk: Walk, outcome: Outcome) -> bool:
        assert outcome.score is not None
        loss = walk.score - outcome.score
        temperature = self._temperature.at(outcome.number) * walk.spread * self._cooling**walk.steps
        if loss <= 0 or temperature <= 0:
            return loss <= 0
        return derive_rng(self._seed, outcome.number, "accept").random() < exp(-loss / temperature)

    def _check_study(self, study: optuna.Study) -> None:
        refuse_several("AnnealingSampler", study)

    def _propose_first(self, population: Population, number: int, rng: random.Random) -> Any | None:
        assert isinstance(population, Replay)
        walk: Walk = population.state
        if walk.current is not None and len(population.known) >= self._begin:
            return None
        found = self._draw_new(population.known, rng)
        # The budget leaves too few architectures: walk among what there is.
        return found if found is not None or walk.current is not None else self._fitted_initial()

    def _parent(self, population: Population, number: int, rng: random.Random) -> Any:
        assert isinstance(population, Replay) and population.state.current is not None
        return self._space.parse(population.state.current)

    def _blocks(self, population: Population) -> int:
        return 1

    def _make_population(self, study: optuna.Study) -> Population:
        return Replay(study, self._space, Walk(), self.advance)
