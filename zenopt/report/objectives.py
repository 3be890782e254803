"""Several objectives over a search: how much of what was to be had the front has taken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zenopt.core.pareto import hypervolume
from zenopt.report.reading import StudyData

#: Points that estimate a volume of three objectives or more.
VOLUME_POINTS = 20_000


def objective_box(datas: Sequence[StudyData]) -> tuple[np.ndarray, np.ndarray]:
    """Return the worst and the best of each objective over the candidates of some studies, more being better.

    Args:
        datas:
            Studies with the same objectives.

    Raises:
        ValueError: If none of them has a candidate.
    """
    points = np.concatenate([data.points(np.flatnonzero(data.scored)) for data in datas])
    return points.min(axis=0), points.max(axis=0)


def hypervolume_history(
    data: StudyData, box: tuple[np.ndarray, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Follow the share of a box that the front dominates.

    Exact for two objectives; for more it is the share of 20,000 points drawn evenly from the box (standard error below
    0.4 %).

    Args:
        data:
            A study with several objectives.
        box:
            Worst and best of each objective, as :func:`objective_box` gives them; by default of this study.

    Returns:
        Positions of the candidates that joined the front when they ended, and the share from then on.
    """
    positions = np.flatnonzero(data.scored)
    if not len(positions):
        return positions, np.array([])
    low, high = box if box is not None else objective_box([data])
    is_flat = high <= low
    scale = np.where(is_flat, 1.0, high - low)
    # What does not differ decides nothing: it counts as reached.
    points = np.where(is_flat, 1.0, (data.points(positions) - low) / scale)
    front = np.empty((0, points.shape[1]))
    sample = np.random.default_rng(0).random((VOLUME_POINTS, points.shape[1]))
    joined, shares = [], []
    for position, point in zip(positions, points, strict=True):
        if (front >= point).all(axis=1).any():
            continue
        front = np.vstack((front[~(point >= front).all(axis=1)], point))
        if points.shape[1] == 2:
            share = hypervolume(front, (0.0, 0.0))
        else:
            sample = sample[~(sample <= point).all(axis=1)]
            share = 1.0 - len(sample) / VOLUME_POINTS
        joined.append(position)
        shares.append(share)
    return np.array(joined), np.array(shares)


def spread(front: np.ndarray, count: int) -> np.ndarray:
    """Return at most ``count`` members of a front, evenly by rank, both ends among them."""
    if len(front) <= count:
        return front
    return front[np.unique(np.linspace(0, len(front) - 1, count).round().astype(int))]
