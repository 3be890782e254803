"""Repeating a thing until its median time is stable."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

MIN_ITERATIONS = 10
#: The median of the later half of the samples may differ this much from that of all.
TOLERANCE = 0.01
WARMUP_SHARE = 0.15
MAX_ITERATIONS = 100_000


@dataclass(frozen=True)
class Timing:
    """Times of repeated runs.

    Attributes:
        median_ms: Median time of one run.
        minimum_ms: Fastest run: what the device can do when nothing disturbs it.
        spread: Interquartile range over median.
        iterations: Timed runs; warm-up not counted.
        seconds: Wall time, warm-up included.
        is_stable: Whether the median was stable before the time limit.
    """

    median_ms: float
    minimum_ms: float
    spread: float
    iterations: int
    seconds: float
    is_stable: bool

    def of(self, statistic: str) -> float:
        """Returns ``"median"`` or ``"minimum"`` in ms."""
        return self.minimum_ms if statistic == "minimum" else self.median_ms


def time_until_stable(
    run: Callable[[], None],
    *,
    max_seconds: float = 10.0,
    min_iterations: int = MIN_ITERATIONS,
    tolerance: float = TOLERANCE,
    clock: Callable[[], float] = time.perf_counter,
    wall: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Runs until the median is stable or the time is up.

    Args:
        run:
            One run; it must return only when the device has finished (synchronise inside).
        max_seconds:
            Time limit, warm-up included. At least two warm-up runs and three timed ones are made whatever it says.
        min_iterations:
            Timed runs before the median may be called stable.
        tolerance:
            Relative change of the median that counts as none.
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
        start = clock()
        run()
        times.append(1000 * (clock() - start))
        if len(times) >= check_at:
            overall = statistics.median(times)
            later = statistics.median(times[len(times) // 2 :])
            is_stable = abs(later - overall) <= tolerance * overall
            if is_stable:
                break
            check_at = len(times) + max(2, len(times) // 2)
        if len(times) >= 3 and wall() - began >= max_seconds:
            break
    median = statistics.median(times)
    low, _, high = statistics.quantiles(times, n=4, method="inclusive")
    spread = (high - low) / median if median > 0 else 0.0
    return Timing(median, min(times), spread, len(times), wall() - began, is_stable)
