"""Repeating a thing until its median time is stable."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

MIN_ITERATIONS = 10
#: A median is stable when its relative standard error is at most this.
TOLERANCE = 0.01
#: Consecutive groups of runs whose medians tell that standard error: what disturbs a device lasts for many runs, so
#: single runs are far from independent.
GROUPS = 10
WARMUP_SHARE = 0.15
MAX_ITERATIONS = 100_000


@dataclass(frozen=True)
class Timing:
    """Times of repeated runs.

    Attributes:
        median_ms: Median time of one run.
        minimum_ms: Fastest run: what the device can do when nothing disturbs it.
        spread: Interquartile range over median.
        standard_error: Standard error of the median over the median, from the medians of consecutive groups of runs.
        iterations: Timed runs; warm-up not counted.
        seconds: Wall time, warm-up included.
        is_stable: Whether the median was stable before the time limit.
    """

    median_ms: float
    minimum_ms: float
    spread: float
    standard_error: float
    iterations: int
    seconds: float
    is_stable: bool

    def of(self, statistic: str) -> float:
        """Return ``"median"`` or ``"minimum"`` in ms."""
        return self.minimum_ms if statistic == "minimum" else self.median_ms


def time_until_stable(
    run: Callable[[], None],
    *,
    max_seconds: float = 10.0,
    min_seconds: float = 0.0,
    min_iterations: int = MIN_ITERATIONS,
    tolerance: float = TOLERANCE,
    clock: Callable[[], float] = time.perf_counter,
    wall: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Run until the median is stable or the time is up.

    Args:
        run:
            One run; it must return only when the device has finished (synchronise inside).
        max_seconds:
            Time limit, warm-up included. At least two warm-up runs and three timed ones are made whatever it says.
        min_seconds:
            Wall time before the median may be called stable.
        min_iterations:
            Timed runs before the median may be called stable.
        tolerance:
            Relative standard error up to which a median is called stable.
        clock:
            Seconds that runs are timed in.
        wall:
            Seconds that the time limit is in.
    """
    began = wall()
    for warm in range(MAX_ITERATIONS):
        run()
        if warm and wall() - began >= WARMUP_SHARE * max_seconds:
            break
        if warm >= 2 * min_iterations:
            break
    times: list[float] = []
    is_stable = False
    check_at = max(3, min_iterations)
    while len(times) < MAX_ITERATIONS:
        times.append(1000 * _timed(run, clock))
        elapsed = wall() - began
        is_over = elapsed >= max_seconds and len(times) >= 3
        if len(times) >= check_at or is_over:
            is_stable = standard_error(times) <= tolerance
            if is_over or (is_stable and elapsed >= min_seconds):
                break
            check_at = len(times) + max(2, len(times) // 4)
    return _timing(times, wall() - began, is_stable)


def time_briefly(
    run: Callable[[], None],
    *,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
    wall: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Run once to warm up, then at least three times and for ``seconds``: a visit, to be combined with others.

    Args:
        run:
            One run; it must return only when the device has finished.
        seconds:
            Time of the timed runs.
        clock, wall:
            As in :func:`time_until_stable`.
    """
    began = wall()
    run()
    timed_from = wall()
    times: list[float] = []
    while len(times) < 3 or (wall() - timed_from < seconds and len(times) < MAX_ITERATIONS):
        times.append(1000 * _timed(run, clock))
    return _timing(times, wall() - began, is_stable=False)


def standard_error(times: Sequence[float]) -> float:
    """Return the relative standard error of the median of consecutive runs, from the medians of groups of them."""
    groups = min(GROUPS, len(times))
    if groups < 2:
        return math.inf
    bounds = [len(times) * index // groups for index in range(groups + 1)]
    medians = [statistics.median(times[a:b]) for a, b in pairwise(bounds)]
    centre = statistics.median(times)
    if not centre > 0:
        return 0.0
    return statistics.stdev(medians) / math.sqrt(groups) / centre


def _timed(run: Callable[[], None], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return clock() - start


def _timing(times: Sequence[float], seconds: float, is_stable: bool) -> Timing:
    median = statistics.median(times)
    low, _, high = statistics.quantiles(times, n=4, method="inclusive")
    spread = (high - low) / median if median > 0 else 0.0
    return Timing(median, min(times), spread, standard_error(times), len(times), seconds, is_stable)
