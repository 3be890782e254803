"""Worth of a training: against Monte Carlo, and in cases that are known."""

from __future__ import annotations

import numpy as np
import pytest

from zenopt.core.errors import PredictorError
from zenopt.predictors.acquisition import (
    expected_excess,
    expected_hypervolume_gain,
    expected_scalar_gain,
    gain_of_repeats,
    pareto_front,
)

DRAWS = 200_000


def test_expected_excess_is_that_of_monte_carlo() -> None:
    rng = np.random.default_rng(0)
    mean, deviation = np.array([-1.0, 0.0, 0.5, 3.0]), np.array([1.0, 0.2, 2.0, 0.5])
    drawn = mean + deviation * rng.normal(size=(DRAWS, 4))
    assert expected_excess(mean, deviation, 0.3) == pytest.approx(
        np.maximum(drawn - 0.3, 0).mean(axis=0), abs=0.02
    )


def test_a_known_value_exceeds_by_its_difference() -> None:
    assert expected_excess(np.array([1.0, -1.0]), np.zeros(2), 0.25) == pytest.approx([0.75, 0.0], abs=1e-9)


def test_gain_of_repeats_is_that_of_monte_carlo() -> None:
    rng = np.random.default_rng(1)
    root = rng.normal(size=(4, 4))
    covariance, mean, noise = root @ root.T, rng.normal(size=4), 0.7
    shown = rng.normal(size=DRAWS)
    for index, gain in enumerate(gain_of_repeats(mean, covariance, noise)):
        move = covariance[:, index] / np.sqrt(covariance[index, index] + noise)
        best = (mean[:, None] + np.outer(move, shown)).max(axis=0).mean()
        assert gain == pytest.approx(best - mean.max(), abs=0.02)


def test_training_again_pays_where_the_winner_is_in_doubt() -> None:
    mean = np.array([1.0, 0.95, -3.0])
    gain = gain_of_repeats(mean, np.diag([0.1, 0.1, 0.1]), 0.1)
    assert gain[2] < 1e-6 < min(gain[0], gain[1])
    assert gain_of_repeats(mean, np.zeros((3, 3)), 0.1) == pytest.approx([0, 0, 0])


def hypervolume(points: np.ndarray, reference: np.ndarray) -> float:
    points = points[(points > reference).all(axis=1)]
    points = points[np.argsort(-points[:, 0])]
    area, height = 0.0, reference[1]
    for x, y in points:
        area += (x - reference[0]) * max(0.0, y - height)
        height = max(height, y)
    return area


def test_expected_hypervolume_gain_is_that_of_monte_carlo() -> None:
    rng = np.random.default_rng(2)
    front = np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 0.2], [-5.0, 3.0]])
    reference = np.array([-1.0, -1.0])
    means = (np.array([0.5, 2.5]), np.array([1.2, -0.5]))
    deviations = (np.array([0.7, 0.3]), np.array([0.5, 0.0]))
    found = expected_hypervolume_gain(means, deviations, front, (-1.0, -1.0))
    before = hypervolume(front, reference)
    for index in range(2):
        draws = np.stack(
            [m[index] + d[index] * rng.normal(size=4000) for m, d in zip(means, deviations, strict=True)],
            axis=1,
        )
        gains = [hypervolume(np.vstack([front, draw]), reference) - before for draw in draws]
        assert found[index] == pytest.approx(np.mean(gains), abs=0.06)


def test_hypervolume_without_a_front_is_a_product() -> None:
    one = expected_hypervolume_gain(
        (np.ones(1), np.ones(1)), (np.zeros(1), np.zeros(1)), np.empty((0, 2)), (0.0, -1.0)
    )
    assert one == pytest.approx([2.0])


def test_scalar_gain_prefers_what_dominates() -> None:
    means = np.array([[1.0, 1.0, 1.0], [0.4, 0.4, 0.4], [-1.0, -1.0, -1.0]])
    front, reference = np.array([[0.5, 0.5, 0.5]]), np.zeros(3)
    gain = expected_scalar_gain(means, np.full((3, 3), 0.1), front, reference, np.random.default_rng(3))
    assert gain[0] > gain[1] >= gain[2] == 0.0
    with pytest.raises(PredictorError, match="3 objectives"):
        expected_scalar_gain(means, np.ones((3, 2)), front, reference, np.random.default_rng(3))


def test_front_keeps_what_nothing_dominates() -> None:
    values = np.array([[1, 1], [2, 0], [0, 2], [0, 0], [2, 0], [1, 0.5]])
    assert pareto_front(values).tolist() == [[0, 2], [1, 1], [2, 0]]
