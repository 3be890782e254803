"""Candidates of a learned search: the whole space where it can be listed, else many networks and moves from the best.

Everything is within the budget, and everything follows from a random generator.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from zenopt.core.errors import BudgetError
from zenopt.latency.limits import Limits
from zenopt.predictors.inputs import Inputs
from zenopt.predictors.networks import Reader
from zenopt.samplers.guided import draw_candidates

#: Spaces of at most this many networks are candidates as a whole.
MOST_LISTED = 40_000
#: Share of the candidates that are random draws; the others are walks from them.
DRAWN = 0.05
#: Mutations of a walk that are tried per candidate.
TRIES = 8
#: Proposals of the family's evolution over arrays, for each of several depths: the best of all are of the deepest.
EVOLVED, DEPTHS = 8, 8
EVOLUTION, ELITES = 2000, 64


@dataclass(frozen=True)
class Candidates:
    """Networks that can be proposed.

    Attributes:
        texts: The networks.
        inputs: What a predictor reads of them.
        reader: What read them; it reads other networks alike.
        is_whole: Whether they are the whole space within the budget.
    """

    texts: tuple[str, ...] = field(repr=False)
    inputs: Inputs = field(repr=False)
    reader: Reader = field(repr=False)
    is_whole: bool

    def __len__(self) -> int:
        return len(self.texts)


def gather(
    space: Any, limits: Limits, reader: Reader, count: int, rng: random.Random, move: str = "zen"
) -> Candidates:
    """Return candidates that hold for a whole study.

    A listed space is taken whole, of a larger list ``count`` networks. Elsewhere it is random draws shrunk into the
    budget, what the family's evolution over arrays makes of them, and walks of mutations from them.

    Args:
        space, limits:
            What is searched, and the budget.
        reader:
            Reads the networks.
        count:
            Candidates, where the space has as many.
        rng:
            Source of randomness.
        move:
            The mutation of walks.

    Raises:
        BudgetError: If nothing fits the budget.
    """
    listed = _listed(space, count, rng)
    if listed is None:
        found = dict.fromkeys(islice(_wander(space, limits, count, rng, move), count))
        return Candidates(tuple(map(str, found)), reader.read(found), reader, is_whole=False)
    architectures, is_whole = listed
    checks = bool(limits.budget.limits()) or limits.needs_check
    kept = [own for own in architectures if not checks or limits.check(own).is_feasible]
    if not kept:
        raise BudgetError("No network of the space fits the budget.")
    return Candidates(tuple(map(str, kept)), reader.read(kept), reader, is_whole)


def moves(
    space: Any,
    limits: Limits,
    parents: Sequence[Any],
    known: Collection[str],
    count: int,
    rng: random.Random,
    move: str = "zen",
) -> dict[str, Any]:
    """Return new networks within the budget, one or two mutations from any of the parents, by text."""
    found: dict[str, Any] = {}
    for _ in range(2 * count):
        child = space.moves[move](rng.choice(parents), rng, blocks=rng.choice((1, 1, 2)))
        if child is None or str(child) in known or str(child) in found:
            continue
        if limits.check(child).is_feasible:
            found[str(child)] = child
        if len(found) == count:
            break
    return found


def _listed(space: Any, count: int, rng: random.Random) -> tuple[list[Any], bool] | None:
    every = space.architectures()
    if every is None:
        return None
    most = max(MOST_LISTED, count)
    first = list(islice(every, most + 1))
    if len(first) <= most:
        return first, True
    # A reservoir: each of the list is as likely to be kept.
    kept = first[:most]
    for place, architecture in enumerate((first[most], *every), start=most):
        drawn = rng.randrange(place + 1)
        if drawn < most:
            kept[drawn] = architecture
    return kept, False


def _wander(space: Any, limits: Limits, count: int, rng: random.Random, move: str) -> Iterator[Any]:
    starts = draw_candidates(space, limits, max(1, round(DRAWN * count)), rng)
    known = {str(start) for start in starts}
    yield from starts
    if space.array_screen:
        evolved = _evolve(space, limits, starts, max(1, min(EVOLVED, count // (ELITES * DEPTHS))), rng, move)
        known.update(map(str, evolved))
        starts += evolved
        yield from evolved
    walkers = list(starts)
    mutate = space.moves[move]
    for attempt in range(TRIES * count):
        place = attempt % len(walkers)
        child = mutate(walkers[place], rng)
        if child is None or not limits.check(child).is_feasible:
            continue
        walkers[place] = child
        if str(child) not in known:
            known.add(str(child))
            yield child


def _evolve(
    space: Any, limits: Limits, starts: Sequence[Any], count: int, rng: random.Random, move: str
) -> list[Any]:
    """Return what the family's evolution makes of networks that are at most so deep, for each of several depths."""
    convs = [limits.count(start).convs for start in starts]
    lowest, highest = min(convs), max(convs)
    depths = {round(lowest * (highest / lowest) ** (k / (DEPTHS - 1))) for k in range(DEPTHS)}
    found: dict[str, Any] = {}
    known = set(map(str, starts))
    for depth in sorted(depths):
        # The deepest may become deeper than what was drawn.
        budget = limits.budget.with_limits(convs=depth) if depth < highest else limits.budget
        screening = space.array_screening(
            replace(limits, budget=budget), candidates=EVOLUTION, elites=ELITES, batch_size=None, move=move
        )
        founders = [start for start, own in zip(starts, convs, strict=True) if own <= depth]
        for _ in range(count):
            best = screening.pick(rng.sample(founders, min(ELITES, len(founders))), known | found.keys(), rng)
            if best is not None:
                found[str(best)] = best
    return list(found.values())
