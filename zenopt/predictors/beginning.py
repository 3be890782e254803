"""What is trained before anything is known: few networks from the top of a cheap ranking, far apart from each other.

Of a ranking that compares networks of one level only (``zen at equal convolutions``) the best of levels far apart.
Where there are several rankings, they take turns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zenopt.core.errors import PredictorError

Array = NDArray[np.float64]

#: Share of the candidates, by the cheap ranking, that the beginning reaches down to.
SHARE = 0.2
#: Candidates of a share that are compared.
COMPARED = 400
#: Smallest share that is looked at, in networks.
NARROWEST = 8
#: Share of all levels that counts as one.
LEVEL = 0.02


def begin_in_turn(
    matrix: Array,
    rankings: Sequence[tuple[Array, Array | None]],
    count: int,
    rng: np.random.Generator,
    taken: NDArray[np.intp] | None = None,
) -> list[int]:
    """Return the candidates to begin with, of each ranking in turn.

    Of a plain ranking it is the best-ranked one, then from widening shares the one farthest from all begun: the k-th of
    n comes from the best ``SHARE * (k / (n - 1))^2`` of the ranking, so that a good ranking is used at once, and one
    that misleads is left at once. Of a ranking with levels it is :func:`best_of_level`.

    Args:
        matrix:
            Standardised inputs, ``candidates x columns``.
        rankings:
            Scores, higher is thought better, and the levels among which alone they compare, or None. Without any, all
            candidates are equal and the first is drawn.
        count:
            How many in all.
        rng:
            Breaks ties and draws what is compared.
        taken:
            Candidates that were begun already, the first ones of the result; they are not returned again.
    """
    size = len(matrix)
    if count < 1 or size < 1:
        raise PredictorError(f"A beginning needs networks to choose from: {count} of {size}.")
    if any(scores.shape != (size,) or not np.isfinite(scores).all() for scores, _ in rankings):
        raise PredictorError(f"A ranking needs one finite number for each of {size} candidates.")
    shuffled = rng.permutation(size)
    orders = [shuffled[np.argsort(-scores[shuffled], kind="stable")] for scores, _ in rankings] or [shuffled]
    chosen = [] if taken is None else [int(i) for i in taken]
    known = len(chosen)
    nearest = np.full(size, np.inf)
    if chosen:
        nearest = ((matrix[:, None] - matrix[chosen][None]) ** 2).sum(axis=2).min(axis=1)
    while len(chosen) < min(count, size):
        turn, which = divmod(len(chosen), len(orders))
        scores, levels = rankings[which] if rankings else (None, None)
        if scores is not None and levels is not None:
            turns = len(range(which, count, len(orders)))
            found = best_of_level(scores, levels, turn, turns, np.asarray(chosen, dtype=np.intp))
            assert found is not None  # not all are chosen
        elif chosen:
            share = SHARE * (len(chosen) / max(1, count - 1)) ** 2 if rankings else 1.0
            order = orders[which]
            top = order[: max(NARROWEST, round(share * size))]
            free = top[~np.isin(top, chosen)]
            if not len(free):
                free = order[~np.isin(order, chosen)]
            compared = free if len(free) <= COMPARED else rng.choice(free, COMPARED, replace=False)
            found = int(compared[np.argmax(nearest[compared])])
        else:
            found = int(orders[which][0])
        chosen.append(found)
        nearest = np.minimum(nearest, ((matrix - matrix[found]) ** 2).sum(axis=1))
    return chosen[known:]


def best_of_level(
    scores: Array, levels: Array, place: int, count: int, taken: NDArray[np.intp]
) -> int | None:
    """Return the best-ranked candidate of one of ``count`` levels; ``None`` if all are taken.

    For rankings that say nothing between levels, e.g. depths: what is trained first shows which levels are good.

    Args:
        scores:
            Higher is thought better among candidates of a level.
        levels:
            Of the candidates.
        place:
            Which level; 0 is the lowest there is, ``count - 1`` the highest.
        count:
            How many levels, equally far apart.
        taken:
            Candidates that are not returned.
    """
    order = np.argsort(-scores, kind="stable")
    free = order[~np.isin(order, taken)]
    if not len(free):
        return None
    wanted = levels.min() + np.ptp(levels) * place / max(1, count - 1)
    away = np.abs(levels[free] - wanted)
    return int(free[away <= max(LEVEL * float(np.ptp(levels)), float(away.min()))][0])
