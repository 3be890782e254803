"""Which paths a step of a supernet takes: a function of (seed, step), so that a resumed run repeats a whole one.

``uniform``
    Every parameter of the space is drawn (Guo et al., "Single Path One-Shot Neural Architecture Search", ECCV 2020).
``fair``
    Every parameter goes through its values in a new random order, so that in as many steps as it has values each is
    taken once (after Chu et al., "FairNAS", ICCV 2021, who add the gradients of such a round up).
``sandwich``
    The largest network, the smallest and two drawn ones in every step (Yu & Huang, "Universally Slimmable Networks",
    ICCV 2019); the others learn from the largest.
``strolling``
    A walk over a band of costs that takes all of it evenly (see :mod:`zenopt.supernet.strolling`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from zenopt.core.errors import SpecError
from zenopt.core.seeds import derive_rng, derive_seed
from zenopt.spaces.base import Checker
from zenopt.spaces.values import decoded, drawn_values, values_of
from zenopt.supernet.band import BandLimits
from zenopt.supernet.covering import extreme, has_numbers
from zenopt.supernet.strolling import Stroll

Sampling = Literal["uniform", "fair", "sandwich", "strolling"]
SAMPLINGS: tuple[Sampling, ...] = get_args(Sampling)
#: Draws before a budget counts as one that nothing keeps.
MAX_DRAWS = 1000
#: Drawn networks of a sandwich.
DRAWN = 2
#: Numbers of at most so many values are gone through in order by ``fair``; others are drawn.
MOST_VALUES = 64


@dataclass(frozen=True)
class PathSampler:
    """Draws the paths of each step.

    Args:
        space:
            The space of the paths.
        sampling:
            How they are drawn.
        seed:
            Fixes all of them.
        limits:
            Paths outside are drawn anew; a sandwich's largest and smallest are those of the space all the same.
        count:
            How many paths a step draws; by default one, or two besides a sandwich's ends.

    Raises:
        SpecError: If there is nothing to make a sandwich of, or no band to stroll over.
    """

    space: Any
    sampling: Sampling = "uniform"
    seed: int = 0
    limits: Checker | BandLimits | None = None
    count: int | None = None
    _strolls: dict[str, Stroll] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.sampling == "sandwich" and not has_numbers(self.space):
            raise SpecError(
                "Sampling 'sandwich' needs widths, depths or kernels to choose; this space has alternatives only. "
                "Use uniform or fair."
            )
        if self.sampling == "strolling" and not isinstance(self.limits, BandLimits):
            raise SpecError("Sampling 'strolling' needs a band of costs: --band macs=LOW:HIGH.")

    def paths(self, step: int) -> list[Any]:
        """Return the architectures of a step, the one that teaches the others first.

        Raises:
            BudgetError, SpecError: If none of many drawn architectures is within the limits.
        """
        if self.sampling != "sandwich":
            count, is_fair = self.count or 1, self.sampling == "fair"
            return [self.draw(step * count + index, "path", is_fair=is_fair) for index in range(count)]
        rng = derive_rng(self.seed, step, "sandwich")
        ends = [extreme(self.space, rng, largest=largest) for largest in (True, False)]
        return [ends[0], *(self.draw(step, f"path{index}") for index in range(self.count or DRAWN)), ends[1]]

    def draw(self, step: int, purpose: str, *, is_fair: bool = False) -> Any:
        """Return an architecture within the limits: a drawn one, or that of a walk.

        Args:
            step, purpose:
                What the draw is for; equal ones are equal draws.
            is_fair:
                Whether the first draw is that of the round.
        """
        if self.sampling == "strolling":
            assert isinstance(self.limits, BandLimits)
            own = Stroll(self.space, self.limits, derive_seed(self.seed, 0, f"stroll {purpose}"))
            return self._strolls.setdefault(purpose, own).path(step)
        rng = derive_rng(self.seed, step, purpose)
        for attempt in range(MAX_DRAWS):
            known = self._in_turn(step) if is_fair and attempt == 0 else {}
            found = decoded(self.space, drawn_values(self.space, rng, known))
            if found is not None and (self.limits is None or self.limits.check(found).is_feasible):
                return found
        is_banded = isinstance(self.limits, BandLimits)
        raise SpecError(
            f"None of {MAX_DRAWS} drawn architectures keeps the budget{' and the band' if is_banded else ''}; "
            f"widen it or narrow the space{', or use --sampling strolling' if is_banded else ''}."
        )

    def _in_turn(self, step: int) -> dict[str, Any]:
        """Return the values whose turn it is, of all parameters that do not have too many."""
        found = {}
        for name, distribution in self.space.distributions.items():
            if order := list(_values(distribution)):
                derive_rng(self.seed, step // len(order), f"round {name}").shuffle(order)
                found[name] = order[step % len(order)]
        return found


def _values(distribution: Any) -> Sequence[Any]:
    found = values_of(distribution)
    if found is None or getattr(distribution, "log", False):
        return ()
    return found if not isinstance(found, range) or len(found) <= MOST_VALUES else ()
