"""Several objectives at once: non-dominated sorting, crowding distance, hypervolume. numpy only.

Points are ``count x objectives`` arrays in which **more is better** everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def front_numbers(points: ArrayLike, wanted: int | None = None) -> NDArray[np.int64]:
    """Sorts points into fronts: 0 is not dominated, 1 is dominated by front 0 alone, and so on.

    Zhang et al., "An Efficient Approach to Nondominated Sorting for Evolutionary Multiobjective Optimization", 2015:
    points are taken best first, so that only earlier ones can dominate, and the front of each is found by bisection.

    Args:
        points:
            The points.
        wanted:
            Stop when this many points are numbered; the rest shares the number after the last.
    """
    values = np.asarray(points, dtype=float)
    if not len(values):
        return np.zeros(0, dtype=np.int64)
    numbers = np.zeros(len(values), dtype=np.int64)
    fronts: list[_Front] = []
    # Lexicographic by the first objective, then the second, ..., best first; ties by position.
    for index in np.lexsort((-values).T[::-1]):
        point = values[index]
        low, high = 0, len(fronts)
        while low < high:
            middle = (low + high) // 2
            if fronts[middle].dominates(point):
                low = middle + 1
            else:
                high = middle
        if low == len(fronts):
            fronts.append(_Front(values.shape[1]))
        fronts[low].add(point)
        numbers[index] = low
    if wanted is None:
        return numbers
    full = np.flatnonzero(np.cumsum(np.bincount(numbers)) >= wanted)
    return np.minimum(numbers, full[0] + 1) if len(full) else numbers


def first_front(points: ArrayLike) -> NDArray[np.int64]:
    """Return the indices of the points that no other one dominates, ascending; quick for many points."""
    values = np.asarray(points, dtype=float)
    if not len(values):
        return np.zeros(0, dtype=np.int64)
    front, found = _Front(values.shape[1]), []
    for index in np.lexsort((-values).T[::-1]):
        if not front.dominates(values[index]):
            front.add(values[index])
            found.append(index)
    return np.sort(np.array(found, dtype=np.int64))


class _Front:
    """Points of one front, which came in lexicographic order, best first."""

    def __init__(self, objectives: int) -> None:
        self._points = np.empty((16, objectives))
        self._size = 0

    def dominates(self, point: Array) -> bool:
        """Return whether a member is at least as good as the point everywhere and better somewhere."""
        if not self._size:
            return False
        if len(point) <= 2:
            # Of two objectives the second only rises along the front, so the latest member decides.
            latest = self._points[self._size - 1]
            return bool((latest >= point).all() and (latest > point).any())
        members = self._points[: self._size]
        as_good = (members >= point).all(axis=1)
        return bool(as_good.any() and (members[as_good] > point).any())

    def add(self, point: Array) -> None:
        """Take a point that no member dominates."""
        if self._size == len(self._points):
            self._points = np.concatenate((self._points, np.empty_like(self._points)))
        self._points[self._size] = point
        self._size += 1


def crowding_distances(points: ArrayLike) -> Array:
    """Return how alone each point of one front is: the sum over objectives of the gap between its neighbours.

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
    """Return indices best first: by front, within a front the loneliest first, then by position.

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
    """Return the volume that is dominated by the points and dominates a reference point.

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
    values = values[first_front(values)]
    if values.shape[1] == 2:
        # A staircase: from the best of the first objective on, the second rises.
        values = values[np.argsort(-values[:, 0], kind="stable")]
        return float(values[:, 0] @ np.diff(values[:, 1], prepend=0.0))
    heights = np.unique(values[:, -1])
    floors = np.concatenate([[0.0], heights[:-1]])
    return sum(
        (top - bottom) * _volume(values[values[:, -1] >= top][:, :-1])
        for top, bottom in zip(heights.tolist(), floors.tolist(), strict=True)
    )
