"""Fronts, crowding and hypervolume, worked out by hand and against brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from zenopt.core.pareto import crowding_distances, first_front, front_numbers, hypervolume, order

#: Two fronts and a third; more is better in both.
POINTS = [(1, 5), (2, 4), (4, 1), (1, 4), (2, 2), (1, 1), (4, 1)]


def test_fronts_by_hand() -> None:
    assert front_numbers(POINTS).tolist() == [0, 0, 0, 1, 1, 2, 0]


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_fronts_by_brute_force(objectives: int) -> None:
    points = np.random.default_rng(objectives).integers(0, 8, size=(80, objectives))
    numbers = front_numbers(points)
    for i, j in itertools.permutations(range(len(points)), 2):
        if (points[i] >= points[j]).all() and (points[i] > points[j]).any():
            assert numbers[i] < numbers[j]
    assert first_front(points).tolist() == np.flatnonzero(numbers == 0).tolist()
    for index, number in enumerate(numbers):
        if number:
            assert any(
                numbers[other] == number - 1
                and (points[other] >= points[index]).all()
                and (points[other] > points[index]).any()
                for other in range(len(points))
            )


def test_fronts_beyond_what_is_wanted_share_a_number() -> None:
    assert front_numbers(POINTS, 1).tolist() == [0, 0, 0, 1, 1, 1, 0]
    assert front_numbers(POINTS, 5).tolist() == [0, 0, 0, 1, 1, 2, 0]
    assert front_numbers([]).tolist() == first_front([]).tolist() == []


def test_crowding_by_hand() -> None:
    """Gaps 3-1 of 4 and 6-2 of 6; the ends are infinitely alone."""
    found = crowding_distances([(0, 6), (1, 4), (3, 2), (4, 0)])
    assert found.tolist() == [math.inf, pytest.approx(3 / 4 + 4 / 6), pytest.approx(3 / 4 + 4 / 6), math.inf]
    assert crowding_distances([(1, 1)]).tolist() == [math.inf]


def test_order_prefers_front_then_loneliness_then_age() -> None:
    points = [(0, 6), (1, 5), (2, 4.5), (6, 0), (0, 0)]
    assert order(points) == [0, 3, 2, 1, 4]
    assert order(points, 2) == [0, 3]
    assert order([], 3) == []
    assert order([(1,), (3,), (2,)]) == [1, 2, 0]


def test_hypervolume_by_hand() -> None:
    assert hypervolume([(3, 1), (2, 2), (1, 3), (1, 1)], (0, 0)) == pytest.approx(6)
    assert hypervolume([(3, 1)], (1, 1)) == 0
    assert hypervolume([], (0, 0)) == 0
    assert hypervolume([(1, 2, 3)], (0, 0, 0)) == pytest.approx(6)
    assert hypervolume([(1, 1, 2), (2, 1, 1)], (0, 0, 0)) == pytest.approx(3)


def test_hypervolume_by_counting() -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(1, 7, size=(12, 3))
    grid = np.stack(np.meshgrid(*[np.arange(7)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    covered = (grid[:, None, :] < points[None, :, :]).all(axis=2).any(axis=1).sum()
    assert hypervolume(points, (0, 0, 0)) == pytest.approx(covered)
