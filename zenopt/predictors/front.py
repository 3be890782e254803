"""Proposals for several objectives: learned ones (an accuracy) and known ones (costs).

Two objectives: exact expected hypervolume gain. Three or more: the expected gain of a hypervolume scalarisation in a
random direction, a new one for every proposal. The front is that of posterior means, not of lucky numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zenopt.core.errors import PredictorError
from zenopt.predictors.acquisition import expected_hypervolume_gain, expected_scalar_gain, pareto_front
from zenopt.predictors.view import REFINED, View

Array = NDArray[np.float64]

#: The worst point that counts lies this share of the front's extent below its worst values.
MARGIN = 0.1


@dataclass(frozen=True)
class KnownObjective:
    """An objective that is computed, not learned; higher is better, so a cost is given with its sign turned.

    Attributes:
        of_candidates: One per candidate.
        of_trained: One per full training, in the order they were told.
    """

    of_candidates: Array = field(repr=False)
    of_trained: Array = field(repr=False)


def propose_front(
    views: Sequence[View],
    known: Sequence[KnownObjective],
    count: int,
    rng: np.random.Generator,
) -> list[int]:
    """Return candidates that are expected to move the front most; each takes the earlier ones for running.

    Args:
        views:
            One per learned objective, of the same candidates (see :meth:`Surrogate.view`); all surrogates were told the
            same full trainings in the same order.
        known:
            The objectives that are computed.
        count:
            How many to propose.
        rng:
            Draws directions, with three objectives or more.
    """
    if len(views) + len(known) < 2 or not views:
        raise PredictorError("A front needs two objectives, one of them learned.")
    scales = [_scale(objective) for objective in known]
    fixed = [(own.of_candidates - mean) / unit for own, (mean, unit) in zip(known, scales, strict=True)]
    reached = [(own.of_trained - mean) / unit for own, (mean, unit) in zip(known, scales, strict=True)]
    chosen: list[int] = []
    while len(chosen) < count and views[0].is_open.any():
        trained = np.stack([*(view.trained_mean for view in views), *reached], axis=1)
        front = pareto_front(trained) if len(trained) else np.empty((0, len(views) + len(known)))
        seed = int(rng.integers(2**63))
        best = views[0].promising(_gain(views, fixed, front, seed), REFINED)
        for view in views:
            view.refine(best)
        found = views[0].promising(_gain(views, fixed, front, seed), 1)[0]
        chosen.append(found)
        for view in views:
            view.believe(found)
    return chosen


def _gain(views: Sequence[View], fixed: Sequence[Array], front: Array, seed: int) -> Array:
    """Return what every candidate is expected to add to the volume that a front dominates."""
    means = [*(view.mean for view in views), *fixed]
    deviations = [*(view.deviation for view in views), *(np.zeros(len(one)) for one in fixed)]
    reference = _reference(front, means)
    if len(means) == 2:
        return expected_hypervolume_gain(
            (means[0], means[1]), (deviations[0], deviations[1]), front, (reference[0], reference[1])
        )
    generator = np.random.default_rng(seed)
    return expected_scalar_gain(
        np.stack(means, axis=1), np.stack(deviations, axis=1), front, reference, generator
    )


def _scale(objective: KnownObjective) -> tuple[float, float]:
    values = objective.of_candidates
    return float(values.mean()), float(values.std()) or 1.0


def _reference(front: Array, means: Sequence[Array]) -> Array:
    if not len(front):
        return np.array([mean.min() for mean in means])
    low, high = front.min(axis=0), front.max(axis=0)
    # A front of one point has no extent; objectives are standardised, so 1 is the spread of what was trained.
    return np.asarray(low - MARGIN * np.maximum(high - low, 1.0))
