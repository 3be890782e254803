"""Rank correlations with bootstrap intervals. numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zenopt.core.errors import DataError

#: Kendall's interval needs all pairs in memory: beyond this many points it is left out.
MAX_KENDALL_INTERVAL = 3000

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A statistic with its bootstrap interval; the ends are ``None`` where none was computed."""

    value: float | None
    low: float | None = None
    high: float | None = None


def average_ranks(values: ArrayLike) -> Array:
    """Return ranks from 1 (smallest); ties share their mean rank."""
    _, inverse, counts = np.unique(np.asarray(values, dtype=float), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=float)


def spearman(x: ArrayLike, y: ArrayLike) -> float | None:
    """Return Spearman's rank correlation; ``None`` where one side is constant, so that it is undefined."""
    a, b = average_ranks(x), average_ranks(y)
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm > 0 else None


def kendall(x: ArrayLike, y: ArrayLike) -> float | None:
    """Return Kendall's tau-b (ties corrected); ``None`` where one side is constant."""
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    agreement = pairs_a = pairs_b = 0.0
    for index in range(len(a) - 1):
        # One row at a time: all pairs of a full benchmark would take gigabytes.
        sign_a, sign_b = np.sign(a[index + 1 :] - a[index]), np.sign(b[index + 1 :] - b[index])
        agreement += float(sign_a @ sign_b)
        pairs_a += float(sign_a @ sign_a)
        pairs_b += float(sign_b @ sign_b)
    norm = (pairs_a * pairs_b) ** 0.5
    return agreement / norm if norm > 0 else None


def top_overlap(x: ArrayLike, y: ArrayLike, count: int) -> float:
    """Return the share of the ``count`` best by ``y`` that are among the ``count`` best by ``x``.

    Ties at the border are settled by position, so shuffle what comes sorted.
    """
    best_x = np.argsort(-np.asarray(x, dtype=float), kind="stable")[:count]
    best_y = np.argsort(-np.asarray(y, dtype=float), kind="stable")[:count]
    return len(np.intersect1d(best_x, best_y)) / count


@dataclass(frozen=True)
class RankStatistics:
    """Agreement of two orders of the same architectures.

    Attributes:
        spearman, kendall, top: The statistics; ``top`` is :func:`top_overlap`.
        top_count: How many are "top".
        n: Number of architectures.
        alike: Kendall's tau over pairs of alike architectures alone, where it was asked for.
    """

    spearman: Interval
    kendall: Interval
    top: Interval
    top_count: int
    n: int
    alike: Interval | None = None


def rank_statistics(
    scores: ArrayLike,
    truth: ArrayLike,
    *,
    top_share: float = 0.1,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    are_alike: NDArray[np.bool_] | None = None,
) -> RankStatistics:
    """Return rank statistics with percentile bootstrap intervals over architectures.

    Args:
        scores:
            More is better. ``-inf`` marks a failure, ranked last.
        truth:
            More is better.
        top_share:
            Share of the architectures that is "top", at least one.
        resamples:
            Bootstrap resamples; 0 leaves the intervals out.
        confidence:
            Of the intervals.
        seed:
            Of the resampling.
        are_alike:
            An ``n x n`` matrix of which pairs count for :attr:`RankStatistics.alike`, such as :func:`nearly_equal`.
    """
    # Only the order counts, and ranks are finite where a failure is not.
    x, y = average_ranks(scores), average_ranks(truth)
    n = len(x)
    count = max(1, round(top_share * n))
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, n, size=(resamples, n))
    ends = (100 * (1 - confidence) / 2, 100 * (1 + confidence) / 2)

    def interval(value: float | None, samples: list[float | None]) -> Interval:
        defined = [sample for sample in samples if sample is not None]
        if value is None or not defined:
            return Interval(value)
        low, high = np.percentile(defined, ends)
        return Interval(value, float(low), float(high))

    alike = None
    if are_alike is not None:
        whole = np.arange(n)[None, :]
        alike = interval(
            _kendall_of_pairs(x, y, whole, are_alike)[0], _kendall_of_pairs(x, y, draws, are_alike)
        )
    return RankStatistics(
        spearman=interval(spearman(x, y), [spearman(x[draw], y[draw]) for draw in draws]),
        kendall=interval(kendall(x, y), _kendall_samples(x, y, draws)),
        top=interval(top_overlap(x, y, count), [_drawn_overlap(x, y, draw, count) for draw in draws]),
        top_count=count,
        n=n,
        alike=alike,
    )


def nearly_equal(values: ArrayLike, share: float) -> NDArray[np.bool_]:
    """Return which pairs of positive values differ by at most a share of the smaller one.

    Raises:
        DataError: If there are more values than a matrix of all pairs is made for, or one is not positive.
    """
    own = np.asarray(values, dtype=float)
    if len(own) > MAX_KENDALL_INTERVAL:
        raise DataError(
            f"Pairs of alike networks can be told of at most {MAX_KENDALL_INTERVAL:,} networks, not {len(own):,}; "
            "take a sample."
        )
    if not (own > 0).all():
        raise DataError("Only positive values can be equal but for a share of them.")
    found = np.maximum(own[:, None], own) <= (1 + share) * np.minimum(own[:, None], own)
    return np.asarray(found, dtype=bool)


def _kendall_samples(x: Array, y: Array, draws: NDArray[np.int64]) -> list[float | None]:
    """Return resampled tau-b; nothing where there are too many points."""
    return [] if len(x) > MAX_KENDALL_INTERVAL else _kendall_of_pairs(x, y, draws)


def _kendall_of_pairs(
    x: Array, y: Array, draws: NDArray[np.int64], counted: NDArray[np.bool_] | None = None
) -> list[float | None]:
    """Return the tau-b of draws, of some pairs or all: signs once, then a draw is how often it has each point."""
    if len(draws) == 0:
        return []
    n = len(x)
    sign_x = np.sign(x[:, None] - x[None, :]).astype(np.float32)
    sign_y = np.sign(y[:, None] - y[None, :]).astype(np.float32)
    if counted is not None:
        sign_x, sign_y = sign_x * counted, sign_y * counted
    counts = np.stack([np.bincount(draw, minlength=n) for draw in draws]).astype(np.float32)

    def total(signs: NDArray[np.float32]) -> Array:
        return np.asarray(np.einsum("ri,ri->r", counts @ signs, counts), dtype=float)

    agreement, norm = total(sign_x * sign_y), np.sqrt(total(np.abs(sign_x)) * total(np.abs(sign_y)))
    return [float(a / b) if b > 0 else None for a, b in zip(agreement, norm, strict=True)]


def _drawn_overlap(x: Array, y: Array, draw: NDArray[np.int64], count: int) -> float:
    # A point drawn twice is two entries; identical copies are told apart by their place in the draw.
    return top_overlap(x[draw], y[draw], count)
