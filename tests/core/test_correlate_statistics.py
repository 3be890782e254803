"""Rank statistics against scipy's, and intervals that behave."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from zenopt.core.errors import DataError
from zenopt.core.statistics import (
    average_ranks,
    kendall,
    nearly_equal,
    rank_statistics,
    spearman,
    top_overlap,
)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("has_ties", [False, True])
def test_correlations_equal_scipys(seed: int, has_ties: bool) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=60)
    y = x + rng.normal(size=60)
    if has_ties:
        x, y = x.round(), y.round()
    assert average_ranks(x) == pytest.approx(stats.rankdata(x))
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic)


def test_alike_pairs_alone_tell_what_counting_hides() -> None:
    sizes = [100, 104, 200, 208, 209, 400]
    # Rising with the size, falling among networks of nearly equal size.
    truth = [2, 1, 12, 11, 10, 30]
    are_alike = nearly_equal(sizes, 0.05)
    assert are_alike.sum() == 6 + 2 * 4
    found = rank_statistics(sizes, truth, resamples=50, are_alike=are_alike)
    assert (
        found.alike is not None and found.alike.value == pytest.approx(-1) and found.kendall.value == 7 / 15
    )
    assert found.alike.low == found.alike.high == -1
    # All pairs are alike: the tau of all.
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 40)).round(1)
    every = rank_statistics(x, y, resamples=30, are_alike=np.ones((40, 40), dtype=bool))
    assert every.alike is not None and every.alike.value == pytest.approx(stats.kendalltau(x, y).statistic)
    assert every.alike.low == pytest.approx(every.kendall.low)
    alone = rank_statistics([1, 2, 3], [1, 2, 3], are_alike=nearly_equal([1, 2, 4], 0.1)).alike
    assert alone is not None and alone.value is None
    with pytest.raises(DataError, match="at most 3,000 networks, not 3,001"):
        nearly_equal(np.ones(3001), 0.1)


def test_order_alone_counts_and_constants_have_no_correlation() -> None:
    x = [1.0, 2.0, 3.0, 1e60]
    assert spearman(x, [1, 2, 3, 4]) == pytest.approx(1)
    assert kendall(x, [4, 3, 2, 1]) == pytest.approx(-1)
    assert spearman(x, [5, 5, 5, 5]) is None
    assert kendall(x, [5, 5, 5, 5]) is None


def test_top_overlap_counts_common_members() -> None:
    truth = [9, 8, 7, 1, 2, 3]
    assert top_overlap([9, 8, 7, 1, 2, 3], truth, 3) == 1
    assert top_overlap([0, 8, 7, 1, 9, 3], truth, 3) == pytest.approx(2 / 3)
    assert top_overlap([1, 2, 3, 9, 8, 7], truth, 3) == 0


def test_intervals_hold_the_value_narrow_with_size_and_repeat_themselves() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for size in (40, 640):
        x = rng.normal(size=size)
        found = rank_statistics(x, x + rng.normal(size=size), resamples=300, seed=1)
        for item in (found.spearman, found.kendall):
            assert item.value is not None and item.low is not None and item.high is not None
            assert item.low < item.value < item.high
        assert found.spearman.high is not None and found.spearman.low is not None
        widths.append(found.spearman.high - found.spearman.low)
        assert found.top_count == size // 10
    assert widths[1] < 0.5 * widths[0]
    again = rank_statistics(x, x, resamples=50, seed=2)
    assert again == rank_statistics(x, x, resamples=50, seed=2)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Of 60 samples from a population with known correlation, about 57 intervals must hold it."""
    rng = np.random.default_rng(5)
    covariance = 0.7
    population = 6 / math.pi * math.asin(covariance / 2)
    hits = 0
    for _ in range(60):
        x, y = rng.multivariate_normal([0, 0], [[1, covariance], [covariance, 1]], size=80).T
        found = rank_statistics(x, y, resamples=200, seed=0).spearman
        assert found.low is not None and found.high is not None
        hits += found.low <= population <= found.high
    assert 51 <= hits <= 60


def test_kendall_samples_equal_those_of_the_plain_formula() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=30).round(1), rng.normal(size=30).round(1)
    draws = np.random.default_rng(7).integers(0, 30, size=(200, 30))
    samples = [stats.kendalltau(x[draw], y[draw]).statistic for draw in draws]
    found = rank_statistics(x, y, resamples=200, seed=7).kendall
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(samples, [2.5, 97.5])), abs=1e-5)


def test_failures_rank_last_together() -> None:
    found = rank_statistics([-math.inf, 1, 2, -math.inf], [1, 3, 4, 2], resamples=0)
    assert found.spearman.value == pytest.approx(stats.spearmanr([0, 1, 2, 0], [1, 3, 4, 2]).statistic)
    assert found.spearman.low is None
