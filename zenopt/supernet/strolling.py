"""Strolling: paths that walk over a band of costs, so that all of it is trained evenly.

Drawn networks lie where most networks are: in the middle of a band, seldom at its ends, and in a narrow band of a wide
space next to never. A small evolution takes them everywhere (after the sampler of CanyonWind's MXNet system for
single-path one-shot search): it goes through the slices of the first cost up and down again, and through the other
costs to and fro meanwhile. The path of a turn is the child that is closest to where the walk is then.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from zenopt.core.errors import SpecError
from zenopt.core.seeds import derive_rng
from zenopt.spaces.values import decoded, drawn_values
from zenopt.supernet.band import BandLimits

#: Slices of the first cost, and turns in each before the next one.
SLICES, PICKS = 7, 32
#: Turns until every slice was visited twice; then the walk begins anew, so that a resumed run replays one at most.
ROUND = 2 * SLICES * PICKS
#: Children of a generation, the parents of the next one, and the chance of each parameter to be drawn anew.
CHILDREN, PARENTS, MUTATION = 10, 5, 0.1
#: Networks drawn to begin with, and generations that may pass until the band is reached.
DRAWN, APPROACH = 50, 300


@dataclass(frozen=True)
class _Member:
    """An architecture with its parameters and costs; ``outside`` is how far it is from the band and the budget."""

    values: dict[str, Any]
    architecture: Any
    costs: tuple[float, ...]
    outside: float


@dataclass
class Stroll:
    """A walk over a band.

    Args:
        space:
            The space of the networks.
        limits:
            The band; its first cost is the one that is cut into slices.
        seed:
            Fixes the walk.
    """

    space: Any
    limits: BandLimits
    seed: int
    _turn: int = field(default=-1, init=False)
    _path: Any = field(default=None, init=False)
    _parents: list[_Member] = field(default_factory=list, init=False)

    def path(self, turn: int) -> Any:
        """Return the architecture of a turn, counted from 0; turns that follow each other are cheap.

        Raises:
            SpecError: If the band is not reached.
        """
        first = turn // ROUND * ROUND
        if not first <= self._turn <= turn:
            self._turn, self._parents = first - 1, self._approach(first)
        while self._turn < turn:
            self._turn += 1
            self._walk()
        return self._path

    def _walk(self) -> None:
        """Go to the next place."""
        rng = derive_rng(self.seed, self._turn, "stroll")
        place = self._place(rng)
        children = [child for child in self._children(rng) if not child.outside]
        # Parents stay until children are closer, or the walk would go back to where most networks are; what is trained
        # is a child all the same.
        self._path = min(
            children or self._parents, key=lambda child: self._distance(child, place)
        ).architecture
        self._parents = self._closest(children + self._parents, place)

    def _place(self, rng: random.Random) -> tuple[float, float]:
        """Return where the walk is, as shares of the first cost's band and of the others'.

        Even over a round, and anywhere within a step.
        """
        visit, pick = divmod(self._turn % ROUND, PICKS)
        part = visit if visit < SLICES else 2 * SLICES - 1 - visit
        along = (pick + rng.random()) / PICKS
        return (part + rng.random()) / SLICES, along if visit % 2 else 1 - along

    def _distance(self, member: _Member, place: tuple[float, float]) -> float:
        """Return how far a network is from a place: in parts of the band, most of all in its first cost."""
        bands = zip(member.costs, self.limits.band.values(), strict=True)
        first, *others = ((cost - low) / (high - low) for cost, (low, high) in bands)
        return SLICES * abs(first - place[0]) + sum(abs(other - place[1]) for other in others)

    def _closest(self, members: list[_Member], place: tuple[float, float]) -> list[_Member]:
        """Return the next parents."""
        return sorted(members, key=lambda member: (member.outside, self._distance(member, place)))[:PARENTS]

    def _approach(self, turn: int) -> list[_Member]:
        """Return networks within the band, in its first slice if may be: drawn and led there by an evolution."""
        rng = derive_rng(self.seed, turn, "approach")
        start = (0.5 / SLICES, 1.0)
        found = [member for _ in range(DRAWN) if (member := self._member({}, rng)) is not None]
        for generation in range(APPROACH):
            self._parents = found = self._closest(found, start)
            if found and not found[0].outside and generation >= PICKS:
                return [member for member in found if not member.outside]
            found = found + self._children(rng) if found else found
        raise SpecError(
            "No network within the band is found"
            + (f"; the nearest misses it by {found[0].outside:.1%}" if found else "")
            + ". Widen the band or the space; the study's budget holds, too, unless --whole-space is given."
        )

    def _children(self, rng: random.Random) -> list[_Member]:
        found = []
        for _ in range(CHILDREN):
            values = dict(rng.choice(self._parents).values)
            names = list(values)
            changed = {name for name in names if rng.random() < MUTATION} or {rng.choice(names)}
            kept = {name: value for name, value in values.items() if name not in changed}
            member = self._member(kept, rng)
            if member is not None:
                found.append(member)
        return found

    def _member(self, kept: dict[str, Any], rng: random.Random) -> _Member | None:
        """Return the network with some values, and others drawn."""
        values = drawn_values(self.space, rng, kept)
        architecture = decoded(self.space, values)
        if architecture is None:
            return None
        check = self.limits.check(architecture)
        outside = sum(violation for violation in check.violations.values() if violation > 0)
        return _Member(values, architecture, tuple(self.limits.costs(check).values()), outside)
