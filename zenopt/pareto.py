"""Several objectives at once: non-dominated sorting, crowding distance, hypervolume. numpy only.

Points are ``count x objectives`` arrays in which **more is better** everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
_CHUNK = 1024


def front_numbers(points: ArrayLike, wanted: int | None = None) -> NDArray[np.int64]:
    """Sorts points into fronts: 0 is not dominated, 1 is dominated by front 0 alone, and so on.

    Args:
        points:
            The points.
        wanted:
            Stop when this many points are numbered; the rest shares the number after the last.
    """
    values = np.asarray(points, dtype=float)
    numbers = np.full(len(values), -1)
    left = np.arange(len(values))
    front = 0
    while len(left) and (wanted is None or len(values) - len(left) < wanted):
        is_dominated = _dominated(values[left])
        numbers[left[~is_dominated]] = front
        left = left[is_dominated]
        front += 1
    numbers[left] = front
    return numbers


def _dominated(values: Array) -> NDArray[np.bool_]:
    """Returns which points another one is at least as good as everywhere and better somewhere."""
    found = np.zeros(len(values), dtype=bool)
    # In chunks: all pairs of a long study would not fit into memory.
    for start in range(0, len(values), _CHUNK):
        part = values[start : start + _CHUNK, None, :]
        as_good = np.all(values[None, :, :] >= part, axis=2)
        better = np.any(values[None, :, :] > part, axis=2)
        found[start : start + _CHUNK] = (as_good & better).any(axis=1)
    return found


def crowding_distances(points: ArrayLike) -> Array:
    """Returns how alone each point of one front is: the sum over objectives of the gap between its neighbours.

    Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", 2002. Extremes are infinitely alone.
    """
    values = np.asarray(points, dtype=float)
    distances = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        distances[order[[0, -1]]] = np.inf
        if span > 0 and len(order) > 2:
            distances[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distances


def order(points: ArrayLike, wanted: int | None = None) -> list[int]:
    """Returns indices best first: by front, within a front the loneliest first, then by position.

    Args:
        points:
            The points.
        wanted:
            How many indices are needed; by default all.
    """
    values = np.asarray(points, dtype=float)
    if len(values) == 0:
        return []
    numbers = front_numbers(values, wanted)
    indices: list[int] = []
    for front in range(int(numbers.max()) + 1):
        members = np.flatnonzero(numbers == front)
        distances = crowding_distances(values[members])
        indices.extend(members[np.argsort(-distances, kind="stable")].tolist())
        if wanted is not None and len(indices) >= wanted:
            break
    return indices[:wanted]


def hypervolume(points: ArrayLike, reference: Sequence[float]) -> float:
    """Returns the volume that is dominated by the points and dominates a reference point.

    Exact, by slicing along the last objective; meant for fronts of a few hundred points and up to four objectives.
    """
    base = np.asarray(reference, dtype=float)
    values = np.asarray(points, dtype=float).reshape(-1, len(base)) - base
    return _volume(values[(values > 0).all(axis=1)])


def _volume(values: Array) -> float:
    if len(values) == 0:
        return 0.0
    if values.shape[1] == 1:
        return float(values.max())
    values = values[~_dominated(values)]
    heights = np.unique(values[:, -1])
    floors = np.concatenate([[0.0], heights[:-1]])
    return sum(
        (top - bottom) * _volume(values[values[:, -1] >= top][:, :-1])
        for top, bottom in zip(heights.tolist(), floors.tolist(), strict=True)
    )
