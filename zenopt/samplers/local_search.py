"""Local search: up from a random architecture through better neighbours, and again from another.

White, Nolen & Savani, "Exploring the Loss Landscape in Neural Architecture Search", UAI 2021 (at first "Local Search is
State of the Art for NAS Benchmarks").
"""

from __future__ import annotations

import random
from math import inf
from typing import TYPE_CHECKING, Any

from zenopt.core.seeds import derive_rng
from zenopt.latency.limits import Limits
from zenopt.samplers.guided import GuidedSampler, draw_candidates, refuse_several
from zenopt.samplers.population import Population
from zenopt.samplers.replay import Outcomes

if TYPE_CHECKING:
    import optuna

#: Beginnings among which is chosen: workers that ask at the same moment should not get the same.
STARTS = 16


class LocalSearchSampler(GuidedSampler):
    """Proposes a neighbour of the architecture at which a climb is.

    A climb begins at a random architecture and evaluates neighbours, which differ in one parameter, in random order. As
    soon as one is better it goes on from there (from the best, where several are). Where none is, another climb begins.

    Climbs are walked anew for every proposal, from the scores alone: they are the same in whatever order trials end. A
    neighbour is worked out once, so that this costs little.

    Deliberate differences from the paper: a climb does not wait for all neighbours but goes on from the first that is
    better; after an optimum the search begins again.

    Args:
        space, limits, seed:
            As for :class:`~zenopt.samplers.ZenSampler`; ``neighbours`` and ``draw`` of the space are used.
        random_initial:
            Random architectures before the first climb, which begins at the best of them.
    """

    def __init__(self, space: Any, limits: Limits, *, seed: int = 0, random_initial: int = 1) -> None:
        super().__init__(space, limits, seed=seed)
        self._begin = max(1, random_initial)
        self._starts: list[tuple[str, Any]] = []
        self._near: dict[str, dict[str, Any]] = {}
        self._over: set[str] = set()

    def _check_study(self, study: optuna.Study) -> None:
        refuse_several("LocalSearchSampler", study)

    def _propose_first(self, population: Population, number: int, rng: random.Random) -> Any | None:
        assert isinstance(population, Outcomes)
        begun, further = self._sorted_starts(population)
        if len(begun) >= self._begin:
            scores = population.scores
            for start in sorted((text for text in begun if text in scores), key=lambda text: -scores[text]):
                found = self._climb(start, population, rng)
                if found is not None:
                    return found
        return rng.choice(further) if further else None

    def _sorted_starts(self, population: Outcomes) -> tuple[list[str], list[Any]]:
        """Return the beginnings that are known, in order, and the next ones."""
        begun: list[str] = []
        further: list[Any] = []
        for index in range(len(population.known) + STARTS):
            if index == len(self._starts):
                rng = derive_rng(self._seed, index, "start")
                (start,) = draw_candidates(self._space, self._limits, 1, rng)
                self._starts.append((str(start), start))
            text, start = self._starts[index]
            if text in population.known:
                begun.append(text)
            else:
                further.append(start)
                if len(further) == STARTS:
                    break
        return list(dict.fromkeys(begun)), further

    def _climb(self, start: str, population: Outcomes, rng: random.Random) -> Any | None:
        """Return a new neighbour of where a climb is; ``None`` where it has ended or waits for other workers."""
        scores, current = population.scores, start
        while True:
            near = self._neighbours(current)
            best = max(near, key=lambda text: scores.get(text, -inf), default=current)
            if scores.get(best, -inf) <= scores[current]:
                break
            current = best
        unknown = [text for text in near if text not in population.known]
        for text in rng.sample(unknown, len(unknown)):
            if text not in self._over and self._limits.check(near[text]).is_feasible:
                return near[text]
            self._over.add(text)
        return None

    def _neighbours(self, text: str) -> dict[str, Any]:
        if text not in self._near:
            found = self._space.neighbours(self._space.parse(text))
            self._near[text] = {str(own): own for own in found}
        return self._near[text]

    def _parent(self, population: Population, number: int, rng: random.Random) -> Any:
        # No climb leads on: look farther from the best.
        assert isinstance(population, Outcomes)
        return population.best() or self._fitted_initial()

    def _make_population(self, study: optuna.Study) -> Population:
        return Outcomes(study, self._space)
