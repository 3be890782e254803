"""Screening of super-block chains: the closed-form evolution over arrays, thousands of candidates per proposal."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from zenopt.spaces.base import Checker
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.closed_form.chains import Genes
from zenopt.spaces.chain.closed_form.evolution import (
    EvolutionSettings,
    Evolved,
    Ranked,
    evaluator_of,
    evolve,
    structure_distance,
)
from zenopt.spaces.chain.space import ChainSpace

#: Members of the study's population that begin one evolution, drawn anew for every proposal. Few, so that proposals
#: climb from different places instead of all refining the best.
FOUNDERS = 8
#: The best of the study that a proposal is held apart from.
ELITES = 32
#: Blocks in which a proposal differs at least from each of them, unless it is better than all.
DISTANCE = 2
#: Relative difference below which two values count as equal: the closed form's rms error is 0.3 %.
TIE = 0.0025
#: Children made at a time; small against the number of candidates, so that there are many generations.
GENERATION = 256
#: Structures of an evolution that are looked at.
KEEP = 48


class ArrayScreen:
    """Picks proposals by an evolution on the closed-form Zen-score.

    Args:
        space:
            The space.
        limits:
            Candidates outside are dropped.
        candidates, elites:
            Mutations tried for a proposal, and size of the evolution's population.
        batch_size:
            Batch whose scores are predicted.
        move:
            ``"zen"`` or ``"fork"``.
    """

    def __init__(
        self,
        space: ChainSpace,
        limits: Checker,
        *,
        candidates: int,
        elites: int,
        batch_size: int | None = 16,
        move: str = "zen",
    ) -> None:
        self._space = space
        self._limits = limits
        self._evaluator = evaluator_of(
            space,
            limits.resolution,
            num_classes=limits.num_classes,
            batch_size=batch_size,
            use_se=limits.use_se,
        )
        self._settings = EvolutionSettings(
            iterations=candidates,
            population=elites,
            generation=min(GENERATION, candidates),
            move=move,
        )

    def pick(
        self, parents: Sequence[Architecture], known: Collection[str], rng: random.Random
    ) -> Architecture | None:
        """Return the best new architecture that is no sibling of the study's best.

        Args:
            parents:
                The study's population, best first.
            known:
                Structures never to return.
            rng:
                Source of randomness.

        Returns:
            Of what was found and is better than all of the study, or else differs in several blocks from each of its
            best: the best, or a cheaper one that the closed form cannot tell from it. Where there is none, the best
            found; ``None`` if everything found is known.
        """
        founders = rng.sample(list(parents), min(FOUNDERS, len(parents)))
        evolved = self._evolve(founders, known, rng)
        if not evolved.best:
            return None
        elites = self._encode(parents[:ELITES])
        record = float(self._evaluator.score(elites).max())
        apart = [
            found
            for found in evolved.best
            if found.value > record or self._distance(found.architecture, elites) >= DISTANCE
        ]
        return self._cheapest(apart or list(evolved.best[:1]))

    def _cheapest(self, ranked: Sequence[Ranked]) -> Architecture:
        """Returns, of those whose values the closed form cannot tell from the best, the one with the fewest MACs."""
        lowest = ranked[0].value - TIE * abs(ranked[0].value)
        level = [found.architecture for found in ranked if found.value >= lowest]
        macs = self._evaluator.costs(self._encode(level), widths=False).macs
        return level[int(macs.argmin())]

    def _evolve(
        self, founders: Sequence[Architecture], known: Collection[str], rng: random.Random
    ) -> Evolved:
        return evolve(
            self._space,
            self._evaluator,
            self._limits.budget,
            founders,
            seed=rng.getrandbits(63),
            settings=self._settings,
            keep=KEEP,
            known=known,
            # Latency and its guards are asked architecture by architecture; everything else over arrays.
            accept=self._keeps_latency if self._limits.needs_check else None,
        )

    def _keeps_latency(self, architecture: Architecture) -> bool:
        return self._limits.check(architecture).is_feasible

    def _encode(self, architectures: Sequence[Architecture]) -> Genes:
        places = 2 + self._space.slots * len(self._space.stage_strides)
        return self._evaluator.codec.encode(architectures, places)

    def _distance(self, architecture: Architecture, others: Genes) -> int:
        return int(structure_distance(self._encode([architecture])[0], others).min())
