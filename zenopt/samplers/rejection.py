"""Random search within the budget: what does not fit is drawn again, not evaluated."""

from __future__ import annotations

import random
from typing import Any

from zenopt.samplers.guided import GuidedSampler
from zenopt.samplers.population import Population


class RejectionSampler(GuidedSampler):
    """Proposes random architectures within the budget, each once.

    Unlike Optuna's random sampler it spends no trial on what is over the budget or already known, and of a table it
    draws what is listed. Where hardly anything random fits, draws are shrunk until they do.

    Args:
        space, limits, seed:
            As for :class:`~zenopt.samplers.ZenSampler`.
    """

    def _propose_first(self, population: Population, number: int, rng: random.Random) -> Any | None:
        found = self._draw_within(population.known, rng)
        return found if found is not None else self._draw_new(population.known, rng)

    def _parent(self, population: Population, number: int, rng: random.Random) -> Any:
        # Nothing random was new: what is left is looked for beside random architectures.
        return self._draw_new((), rng) or self._fitted_initial()
