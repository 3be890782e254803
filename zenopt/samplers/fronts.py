"""Fronts that are kept up to date: a new point costs a few comparisons, not a sort of everything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zenopt.core.pareto import crowding_distances, front_numbers

#: With more new points than this share of the old ones, sorting everything anew is quicker.
_SHARE_FOR_A_SORT = 0.1


class Fronts:
    """Points sorted into fronts: front 0 is not dominated, front 1 by front 0 alone, and so on.

    Fronts are a property of the set of points: whatever order they came in, the result is that of
    :func:`~zenopt.core.pareto.front_numbers` (Li et al., "Efficient Nondomination Level Update Method", 2014: a
    new point pushes what it dominates in its front to the next, and so on).

    Args:
        objectives:
            Numbers per point; more is better everywhere.
    """

    def __init__(self, objectives: int) -> None:
        self._points = np.empty((0, objectives))
        self._fronts: list[NDArray[np.int64]] = []

    def __len__(self) -> int:
        return len(self._points)

    def extend(self, points: Sequence[Sequence[float]]) -> None:
        """Take points; the first one ever has index 0, the next 1, and so on."""
        before = len(self._points)
        new = np.asarray(points, dtype=float).reshape(len(points), self._points.shape[1])
        self._points = np.concatenate((self._points, new))
        if len(new) > 1 + _SHARE_FOR_A_SORT * before:
            numbers = front_numbers(self._points)
            self._fronts = [np.flatnonzero(numbers == front) for front in range(int(numbers.max()) + 1)]
            return
        for index in range(before, len(self._points)):
            self._insert(index)

    def best(self, count: int, keys: Sequence[int]) -> list[int]:
        """Return the indices of the best points: by front, within a front the loneliest first, then by key.

        Args:
            count:
                How many.
            keys:
                A number for every point that settles ties, the smaller first; the order of arrival settles nothing.
        """
        order = np.asarray(keys)
        chosen: list[int] = []
        for front in self._fronts:
            if len(chosen) >= count:
                break
            members = front[np.argsort(order[front], kind="stable")]
            distances = crowding_distances(self._points[members])
            chosen.extend(members[np.argsort(-distances, kind="stable")].tolist())
        return chosen[:count]

    def _insert(self, index: int) -> None:
        low, high = 0, len(self._fronts)
        while low < high:
            middle = (low + high) // 2
            if self._is_dominated(index, self._fronts[middle]):
                low = middle + 1
            else:
                high = middle
        moving = np.array([index])
        while len(moving):
            if low == len(self._fronts):
                self._fronts.append(moving)
                return
            front = self._fronts[low]
            pushed = self._dominated_by(moving, front)
            self._fronts[low] = np.concatenate((front[~pushed], moving))
            moving = front[pushed]
            low += 1

    def _is_dominated(self, index: int, front: NDArray[np.int64]) -> bool:
        others, point = self._points[front], self._points[index]
        return bool(((others >= point).all(axis=1) & (others > point).any(axis=1)).any())

    def _dominated_by(self, movers: NDArray[np.int64], front: NDArray[np.int64]) -> NDArray[np.bool_]:
        found = np.zeros(len(front), dtype=bool)
        others = self._points[front]
        for mover in movers:
            point = self._points[mover]
            found |= (point >= others).all(axis=1) & (point > others).any(axis=1)
        return found
