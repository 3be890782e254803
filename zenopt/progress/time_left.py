"""How long a run still takes, judged by its recent pace."""

from __future__ import annotations

import math
import statistics
from collections import deque
from itertools import pairwise

#: Points of the curve that are kept; when there are more, every second one goes.
_MOST_POINTS = 512
#: Bins of equal work into which the recent past is divided, and how few say nothing of a trend.
_BINS, _FEWEST_BINS = 16, 8
#: A bin slower than so many times the median counts as so slow: one stuck trial says nothing of the others.
_SLOWEST = 5.0
#: The mean pace of what is left is never expected to be more than so many times the present one.
_STEEPEST = 3.0
#: Estimates of the end whose median is shown.
_ESTIMATES = 15
#: The shown end is put off only when the estimate exceeds it by this factor; below, the shown time stands still.
_PUT_OFF = 1.5


class TimeLeft:
    """Estimates the seconds left of a run.

    The pace is that of the later half of what is done, so that a slow start and quick first trials are forgotten. Where
    that half itself gets slower beyond its scatter, the slowdown is expected to go on: by the mean of all trials so
    far, the end would move away with every trial. What is shown never creeps up; a run that turns out to be much
    slower than promised is corrected in one step.

    Args:
        total:
            Units of work; ``None`` if nobody knows.
        limit_s:
            Seconds after which the run ends in any case.
    """

    def __init__(self, total: float | None, limit_s: float | None = None) -> None:
        self._total, self._limit_s = total, limit_s
        #: (seconds since the start, units done)
        self._points: list[tuple[float, float]] = [(0.0, 0.0)]
        self._estimates: deque[float] = deque(maxlen=_ESTIMATES)
        self._end_s: float | None = None

    def update(self, done: float, elapsed_s: float) -> None:
        """Take note of how much is done after ``elapsed_s`` seconds."""
        if self._total is None or done <= self._points[-1][1]:
            return
        self._points.append((elapsed_s, done))
        if done >= self._total:
            self._end_s = elapsed_s
            return
        if len(self._points) > _MOST_POINTS:
            self._points = [*self._points[:-1:2], self._points[-1]]
        self._estimates.append(elapsed_s + self._estimate_s(max(0.0, self._total - done)))
        left = max(0.0, statistics.median(self._estimates) - elapsed_s)
        if self._end_s is not None:
            shown = max(0.0, self._end_s - elapsed_s)
            if shown < left < _PUT_OFF * max(shown, 5.0):
                left = shown
        self._end_s = elapsed_s + left

    def seconds(self, elapsed_s: float) -> float | None:
        """Return the seconds left after ``elapsed_s``, or ``None`` while nobody can know."""
        ends = [end for end in (self._limit_s, self._end_s) if end is not None]
        return max(0.0, min(ends) - elapsed_s) if ends else None

    def _estimate_s(self, left: float) -> float:
        """Return the seconds that ``left`` more units take."""
        paces, span = self._recent_paces()
        if len(paces) < _FEWEST_BINS:
            return left * statistics.fmean(paces)
        older, newer = paces[: len(paces) // 2], paces[len(paces) // 2 :]
        before, now = statistics.fmean(older), statistics.fmean(newer)
        scatter = math.hypot(_standard_error(older), _standard_error(newer))
        if now - before < 2 * scatter:
            return left * (before + now) / 2
        # Centres of the halves lie half the span apart, the present a quarter of it after the second.
        slope = (now - before - scatter) / (span / 2)
        present = now + slope * span / 4
        return left * min(present + slope * left / 2, _STEEPEST * present)

    def _recent_paces(self) -> tuple[list[float], float]:
        """Return seconds per unit in bins of the later half of the work, outliers pulled in, and its units."""
        # The first unit carries the start-up: it is left out as soon as there is something else.
        points = self._points[1:] if len(self._points) > 2 else self._points
        recent = [point for point in points if point[1] >= points[-1][1] / 2]
        recent = recent if len(recent) > 1 else points[-2:]
        step = math.ceil((len(recent) - 1) / _BINS)
        edges = [*recent[:-1:step], recent[-1]]
        paces = [(b[0] - a[0]) / (b[1] - a[1]) for a, b in pairwise(edges)]
        most = _SLOWEST * statistics.median(paces)
        return [min(pace, most) for pace in paces] if most > 0 else paces, edges[-1][1] - edges[0][1]


def _standard_error(values: list[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values))
