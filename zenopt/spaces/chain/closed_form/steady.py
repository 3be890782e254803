"""Zen-NAS's evolution as published: one candidate at a time. The reference for
:mod:`zenopt.spaces.chain.closed_form.evolution`.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from zenopt.core.errors import BudgetError
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.closed_form.evolution import WARM_UP, Evolved, Ranked

if TYPE_CHECKING:
    from zenopt.spaces.chain.space import ChainSpace


def evolve_steadily(
    space: ChainSpace,
    value: Callable[[Architecture], float],
    is_within: Callable[[Architecture], bool],
    initial: Architecture,
    *,
    seed: int = 0,
    iterations: int = 480_000,
    population: int = 512,
    keep: int = 64,
) -> Evolved:
    """Run the loop of the released Zen-NAS search on a closed form.

    While the population is not larger than 10, one block of the initial structure is mutated; then up to two blocks of
    a parent drawn uniformly. What is outside the space or the budget consumes the iteration. Structures may enter more
    than once, and the first of the worst is dropped when there are more than ``population``.

    Args:
        space:
            Gives the mutation.
        value:
            What to maximise.
        is_within:
            Whether a candidate fits the budget.
        initial:
            Where to begin. As in Zen-NAS it does not itself enter the population.
        seed:
            Seed of all draws.
        iterations:
            Children in all.
        population:
            Most parents.
        keep:
            Most structures to return.

    Raises:
        BudgetError: If no candidate was within the budget.
    """
    rng = random.Random(seed)
    # Kept by rising value; ties in the order they came, so that the first of the worst is dropped.
    values: list[float] = []
    members: list[Architecture] = []
    inside = 0
    course: list[tuple[int, float]] = []
    for iteration in range(1, iterations + 1):
        if len(members) <= WARM_UP:
            child = space.mutate(initial, rng, blocks=1)
        else:
            child = space.mutate(members[rng.randrange(len(members))], rng)
        if child is None or not is_within(child):
            continue
        inside += 1
        score = value(child)
        place = bisect_right(values, score)
        values.insert(place, score)
        members.insert(place, child)
        if len(values) > population:
            del values[0], members[0]
        if not course or values[-1] > course[-1][1]:
            course.append((iteration, values[-1]))
    if not members:
        raise BudgetError(
            f"No mutation of the initial structure fitted the budget in {iterations:,} iterations."
        )
    return Evolved(_ranked(members, values, keep), iterations, inside, tuple(course))


def _ranked(members: Sequence[Architecture], values: Sequence[float], keep: int) -> tuple[Ranked, ...]:
    best: dict[Architecture, float] = {}
    for architecture, score in zip(reversed(members), reversed(values), strict=True):
        best.setdefault(architecture, score)
    return tuple(Ranked(architecture, score) for architecture, score in list(best.items())[:keep])
