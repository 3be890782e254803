"""Screening: a closed-form evolution in memory picks what is worth a real evaluation."""

from __future__ import annotations

import random
from bisect import insort
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from zenopt.core.changing import Changing
from zenopt.latency.limits import Limits


@dataclass(frozen=True)
class Screening:
    """Settings of the screening.

    Attributes:
        candidates: Mutations tried per proposal.
        elites: Size of the in-memory population.
        explore: Share of proposals that are plain mutations, not screened, so that the study does not only see what
            the closed form likes.
    """

    candidates: int = 4000
    elites: int = 64
    explore: float | Changing = 0.1


def screen(
    parents: Sequence[Any],
    known: Collection[str],
    *,
    limits: Limits,
    mutate: Callable[..., Any],
    value: Callable[[Any], float],
    settings: Screening,
    rng: random.Random,
) -> Any | None:
    """Evolve candidates on a closed-form value and return the best one that is new.

    Args:
        parents:
            Where the evolution begins; members of the study's population.
        known:
            Structures never to return.
        limits:
            Candidates outside are dropped.
        mutate:
            Called with a parent and ``rng``; returns a child or ``None``.
        value:
            The closed form, higher is better.
        settings:
            Length and size of the evolution.
        rng:
            Source of randomness.

    Returns:
        The best new architecture, or ``None`` if every candidate was known or over budget.
    """
    pool = sorted(((value(parent), str(parent), parent) for parent in parents), key=_key, reverse=True)
    pool = pool[: settings.elites]
    members = {text for _, text, _ in pool}
    best: tuple[float, str, Any] | None = None
    for _ in range(settings.candidates):
        child = mutate(rng.choice(pool)[2], rng)
        if child is None:
            continue
        text = str(child)
        if text in members or not limits.check(child).is_feasible:
            continue
        entry = (value(child), text, child)
        if text not in known and (best is None or _key(entry) > _key(best)):
            best = entry
        if len(pool) < settings.elites or entry[0] > pool[-1][0]:
            members.add(text)
            insort(pool, entry, key=lambda item: -item[0])
            if len(pool) > settings.elites:
                members.discard(pool.pop()[1])
    return best[2] if best is not None else None


def _key(entry: tuple[float, str, Any]) -> tuple[float, str]:
    return entry[0], entry[1]
