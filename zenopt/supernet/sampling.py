"""Which paths a step of a supernet takes: a function of (seed, step), so that a resumed run repeats a whole one.

``uniform``
    Every parameter of the space is drawn (Guo et al., "Single Path One-Shot Neural Architecture Search", ECCV 2020).
``fair``
    Every parameter goes through its values in a new random order, so that in as many steps as it has values each is
    taken once (after Chu et al., "FairNAS", ICCV 2021, who add the gradients of such a round up).
``sandwich``
    The largest network, the smallest and two drawn ones in every step (Yu & Huang, "Universally Slimmable Networks",
    ICCV 2019); the others learn from the largest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from zenopt.core.errors import SpecError, StructureError
from zenopt.core.seeds import derive_rng
from zenopt.spaces.base import Checker, draw_value
from zenopt.supernet.covering import extreme, has_numbers
from zenopt.supernet.restricted import values_of

Sampling = Literal["uniform", "fair", "sandwich"]
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

    Raises:
        SpecError: If there is nothing to make a sandwich of.
    """

    space: Any
    sampling: Sampling = "uniform"
    seed: int = 0
    limits: Checker | None = None

    def __post_init__(self) -> None:
        if self.sampling == "sandwich" and not has_numbers(self.space):
            raise SpecError(
                "Sampling 'sandwich' needs widths, depths or kernels to choose; this space has alternatives only. "
                "Use uniform or fair."
            )

    def paths(self, step: int) -> list[Any]:
        """Return the architectures of a step, the one that teaches the others first.

        Raises:
            BudgetError, SpecError: If none of many drawn architectures is within the limits.
        """
        if self.sampling != "sandwich":
            return [self.draw(step, "path", is_fair=self.sampling == "fair")]
        rng = derive_rng(self.seed, step, "sandwich")
        ends = [extreme(self.space, rng, largest=largest) for largest in (True, False)]
        return [ends[0], *(self.draw(step, f"path{index}") for index in range(DRAWN)), ends[1]]

    def draw(self, step: int, purpose: str, *, is_fair: bool = False) -> Any:
        """Return a drawn architecture within the limits.

        Args:
            step, purpose:
                What the draw is for; equal ones are equal draws.
            is_fair:
                Whether the first draw is that of the round.
        """
        rng = derive_rng(self.seed, step, purpose)
        for attempt in range(MAX_DRAWS):
            values: dict[str, Any] = {}
            for name in self.space.names_in_use(values):
                in_turn = self._in_turn(name, step) if is_fair and attempt == 0 else None
                values[name] = (
                    draw_value(self.space.distributions[name], rng) if in_turn is None else in_turn[0]
                )
            try:
                found = self.space.decode(values)
            except StructureError:
                continue  # not every combination of values is an architecture
            if self.limits is None or self.limits.check(found).is_feasible:
                return found
        raise SpecError(
            f"None of {MAX_DRAWS} drawn architectures keeps the budget; widen it or narrow the space."
        )

    def _in_turn(self, name: str, step: int) -> tuple[Any] | None:
        """Return the value of a parameter whose turn it is, alone in a tuple; ``None`` where there are too many."""
        values = _values(self.space.distributions[name])
        if not values:
            return None
        order = list(values)
        derive_rng(self.seed, step // len(values), f"round {name}").shuffle(order)
        return (order[step % len(values)],)


def _values(distribution: Any) -> Sequence[Any]:
    found = values_of(distribution)
    if found is None or getattr(distribution, "log", False):
        return ()
    return found if not isinstance(found, range) or len(found) <= MOST_VALUES else ()
