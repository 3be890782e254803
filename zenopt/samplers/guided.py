"""Warm-up and move proposal: a cheap score decides what is worth a real evaluation.

Abdelfattah, Mehrotra, Dudziak & Lane, "Zero-Cost Proxies for Lightweight NAS", ICLR 2021, section 4. *Warm-up* ranks
many random architectures by the cheap score and evaluates the best of them first. *Move proposal* makes several
children of a parent and evaluates the one with the best cheap score. Both work with any objective.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from zenopt.core.errors import BudgetError, SpecError
from zenopt.core.seeds import derive_rng
from zenopt.latency.limits import Limits
from zenopt.samplers.population import Population
from zenopt.samplers.zen import MAX_ATTEMPTS, WARM_UP, ZenSampler

if TYPE_CHECKING:
    import optuna

#: Children drawn per wanted one, where a space cannot list its neighbours.
DRAWS_PER_MOVE = 20
#: A space counts as exhausted after as many repeated draws as ``draws`` times what is known, or times this.
FEW = 25
#: Random architectures tried before they are shrunk into the budget.
DRAWS_WITHIN = 20
#: Parents tried before a move draws one block more.
ATTEMPTS_PER_STEP = 10


class Guide:
    """A cheap score and how it is used.

    Args:
        value:
            Called with an architecture; higher is better, ``None`` where it fails. Answers are kept.
        warm_up:
            Random architectures ranked before the first evaluation; 0 for none. Every worker process ranks the same
            ones.
        first:
            How many of the best of them are evaluated before the evolution begins.
        moves:
            Children compared per proposal; 0 or 1 takes the first.
    """

    def __init__(
        self, value: Callable[[Any], float | None], *, warm_up: int = 0, first: int = 64, moves: int = 0
    ) -> None:
        self._compute = value
        self._kept: dict[str, float | None] = {}
        self.warm_up = warm_up
        self.first = min(first, warm_up)
        self.moves = moves

    def value(self, architecture: Any) -> float | None:
        """Return the cheap score; computed once per architecture."""
        text = str(architecture)
        if text not in self._kept:
            self._kept[text] = self._compute(architecture)
        return self._kept[text]

    def rank(self, architectures: Iterable[Any]) -> list[Any]:
        """Return architectures best first; failures last, ties in the given order."""

        def key(architecture: Any) -> tuple[bool, float]:
            value = self.value(architecture)
            return value is None, 0.0 if value is None else -value

        return sorted(architectures, key=key)


class GuidedSampler(ZenSampler):
    """ZenSampler with warm-up and move proposal.

    Args:
        space:
            As for :class:`~zenopt.samplers.ZenSampler`; ``neighbours`` is used where the space has it.
        limits:
            The budget; over-budget architectures are neither ranked nor proposed.
        guide:
            The cheap score.
        seed, population_size, mutation:
            As for :class:`~zenopt.samplers.ZenSampler`.

    Example:
        .. code-block:: python

            guide = Guide(lambda cell: count(cell, 32).macs, warm_up=1000, first=32, moves=24)
            sampler = GuidedSampler(space, limits, guide=guide)
    """

    def __init__(
        self,
        space: Any,
        limits: Limits,
        *,
        guide: Guide | None = None,
        seed: int = 0,
        population_size: int = 512,
        mutation: str = "zen",
    ) -> None:
        super().__init__(space, limits, seed=seed, population_size=population_size, mutation=mutation)
        self._guide = guide
        self._warm: list[Any] | None = None

    def propose(self, study: optuna.Study, number: int) -> Any:
        """Return the architecture to evaluate in trial ``number``.

        Raises:
            BudgetError: If nothing fits the budget, or no new architecture was found.
        """
        population = self._population(study)
        population.sync()
        population.release(number)
        rng = derive_rng(self._seed, number, "propose")
        first = self._propose_first(population, number, rng)
        return first if first is not None else self._propose_move(population, number, rng)

    # -- warm-up ----------------------------------------------------------------------------------------------------

    def _propose_first(self, population: Population, number: int, rng: random.Random) -> Any | None:
        """Return a candidate of the warm-up, or the initial architecture; ``None`` when the evolution has begun."""
        if self._guide is None or not self._guide.warm_up:
            initial = self._fitted_initial()
            return initial if str(initial) not in population.known else None
        if len(population.known) >= self._guide.first:
            return None
        return self._next_warm(population.known, number)

    def _next_warm(self, known: Collection[str], number: int) -> Any | None:
        assert self._guide is not None
        if self._warm is None:
            rng = derive_rng(self._seed, 0, "warm-up")
            candidates = draw_candidates(self._space, self._limits, self._guide.warm_up, rng)
            self._warm = self._guide.rank(candidates)[: self._guide.first]
        # Its own number first: workers that ask at the same moment get different candidates.
        ordered = self._warm[number:] + self._warm[:number]
        return next((found for found in ordered if str(found) not in known), None)

    # -- move proposal ----------------------------------------------------------------------------------------------

    def _propose_move(self, population: Population, number: int, rng: random.Random) -> Any:
        for attempt in range(MAX_ATTEMPTS // DRAWS_PER_MOVE):
            # Where everything near the parents is known or over budget, steps become longer.
            children = self._children(
                self._parent(population, number, rng), population, rng, attempt // ATTEMPTS_PER_STEP
            )
            if children:
                return children[0] if self._guide is None else self._guide.rank(children)[0]
        raise BudgetError(
            f"No new architecture within the budget in {MAX_ATTEMPTS:,} mutations; "
            f"the space may be exhausted ({len(population.known):,} structures are known)."
        )

    def _draw_within(self, known: Collection[str], rng: random.Random) -> Any | None:
        """Return a new random architecture that fits the budget as it was drawn; ``None`` if none is found soon."""
        for _ in range(DRAWS_WITHIN):
            found = self._space.draw(rng)
            if found is not None and str(found) not in known and self._limits.check(found).is_feasible:
                return found
        return None

    def _draw_new(self, known: Collection[str], rng: random.Random) -> Any | None:
        """Return a random architecture that is not known, shrunk into the budget; ``None`` if none is found soon."""
        for _ in range(DRAWS_PER_MOVE):
            (found,) = draw_candidates(self._space, self._limits, 1, rng)
            if str(found) not in known:
                return found
        return None

    def _parent(self, population: Population, number: int, rng: random.Random) -> Any:
        """Draw a parent uniformly from the best, as Zen-NAS does."""
        if not self._is_warming(population) or (
            self._guide is not None and self._guide.warm_up and len(population)
        ):
            return rng.choice(population.architectures())
        return self._fitted_initial()

    def _children(self, parent: Any, population: Population, rng: random.Random, longer: int) -> list[Any]:
        """Return different new children within the budget, in random order, at most as many as are compared."""
        wanted = max(1, self._guide.moves if self._guide is not None else 1)
        drawn: Iterable[Any]
        if wanted > 1 and not longer:
            drawn = _shuffled(self._space.neighbours(parent), rng)
        else:
            blocks = self._blocks(population) + longer
            drawn = (self._mutate_once(parent, rng, blocks=blocks) for _ in range(DRAWS_PER_MOVE * wanted))
        children: dict[str, Any] = {}
        for child in drawn:
            if child is None or str(child) in population.known or str(child) in children:
                continue
            if self._limits.check(child).is_feasible:
                children[str(child)] = child
            if len(children) == wanted:
                break
        return list(children.values())

    def _blocks(self, population: Population) -> int:
        return 1 if self._is_warming(population) else 2

    def _is_warming(self, population: Population) -> bool:
        # A population that is full cannot grow out of the warm-up.
        return len(population) <= min(WARM_UP, self._population_size - 1)


def refuse_several(name: str, study: optuna.Study) -> None:
    """Refuse a study with more objectives than a sampler compares by.

    Raises:
        SpecError: If there are several.
    """
    if len(study.directions) > 1:
        raise SpecError(
            f"{name} compares by one objective, study {study.study_name!r} has {len(study.directions)}; "
            "use ZenSampler, NSGA-II or TPE."
        )


def draw_candidates(
    space: Any,
    limits: Limits,
    count: int,
    rng: random.Random,
    *,
    draws: int = DRAWS_PER_MOVE,
    shrinks: bool = True,
) -> list[Any]:
    """Return different random architectures within the budget, what is too large shrunk until it fits, or left out.

    Fewer than ``count`` where ``draws`` times as many draws show no more, or where so many in a row show only what is
    known that a small space must be exhausted.

    Raises:
        BudgetError: If nothing fits.
    """
    found: dict[str, Any] = {}
    repeated = 0
    for _ in range(draws * count):
        drawn = space.draw(rng)
        if drawn is None or not (shrinks or limits.check(drawn).is_feasible):
            continue
        try:
            fitted = limits.closest_fit(space, drawn)
        except BudgetError:
            # This one cannot be shrunk into the budget; others may be.
            continue
        if found.setdefault(str(fitted), fitted) is fitted:
            repeated = 0
        else:
            repeated += 1
        if len(found) == count or repeated == draws * max(len(found), FEW):
            break
    if not found:
        what = "could be shrunk into" if shrinks else f"of {draws * count:,} keeps"
        raise BudgetError(f"No random architecture {what} the budget.")
    return list(found.values())


def _shuffled(items: Sequence[Any], rng: random.Random) -> list[Any]:
    return rng.sample(items, len(items))
