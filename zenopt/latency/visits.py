"""Measuring by visits: many things in turn, each for a moment, several times over.

What disturbs a machine lasts for about a second and differs from one network to the next, so a second spent on one
thing tells hardly more than a twentieth of it. Visits that lie apart are nearly independent: what they agree on has a
standard error that falls with their number, and their scatter says how large it is.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from zenopt.core.errors import DeviceError
from zenopt.core.progress import SILENT, Progress
from zenopt.latency.options import CLOCKS, MeasureOptions
from zenopt.latency.parts import Subject
from zenopt.latency.runners import DoesNotFitError, explained, make_runner, running
from zenopt.latency.timer import time_briefly

#: Timed seconds of a visit; at least three runs whatever they take.
VISIT_SECONDS = 0.04
#: Networks and blocks are kept ready while their weights and inputs take no more than this; others are built anew.
KEPT_BYTES = 2**28
STATISTICS = ("median", "minimum")
MIN_PASSES = 3
#: Logarithm of the factor beyond which a visit is no longer believed in full.
FARTHEST = math.log(2.0)


class Visitor(Protocol):
    """What can visit: a :class:`Bench`, or a pretended device in a test."""

    def visit(self, subject: Subject) -> float:
        """Return the milliseconds per image of one visit."""
        ...


class Bench:
    """Networks and blocks kept ready to be visited.

    Args:
        options:
            How they are run; its time limits do not matter here.
        statistic:
            ``"median"`` of a visit's runs, or ``"minimum"`` on a machine that others disturb.

    Raises:
        DeviceError: If the statistic is unknown.
    """

    def __init__(self, options: MeasureOptions, statistic: str = "median") -> None:
        if statistic not in STATISTICS:
            raise DeviceError(f"statistic must be one of {', '.join(STATISTICS)}, got {statistic!r}.")
        self.options = options
        self.statistic = statistic
        self._runners: dict[Subject, Callable[[], None]] = {}
        self._bytes = 0

    def visit(self, subject: Subject) -> float:
        """Return the milliseconds per image of one visit.

        Raises:
            DeviceError: If the device, number format or runtime is not there.
            DoesNotFitError: If the network does not fit in memory.
        """
        runner = self._runners.get(subject) or self._ready(subject)
        clock = CLOCKS[self.options.clock]
        with running(self.options):
            timing = time_briefly(runner, seconds=VISIT_SECONDS, clock=clock, wall=clock)
        return timing.of(self.statistic) / self.options.batch

    def _ready(self, subject: Subject) -> Callable[[], None]:
        with explained(self.options):
            module = subject.build()
        size = 4 * sum(parameter.numel() for parameter in module.parameters())
        size += 4 * self.options.batch * math.prod(subject.input_shape)
        with running(self.options):
            runner = make_runner(module, self.options, subject.input_shape)
        if self._bytes + size <= KEPT_BYTES:
            self._bytes += size
            self._runners[subject] = runner
        return runner


def visit_in_turn(
    visitor: Visitor,
    subjects: Iterable[Subject],
    passes: int,
    max_seconds: float = math.inf,
    progress: Progress = SILENT,
) -> dict[Subject, list[float]]:
    """Visit each subject once per pass.

    Args:
        visitor:
            What visits.
        subjects:
            Networks or blocks.
        passes:
            How often each is visited.
        max_seconds:
            Time after which no further pass begins, if each has been visited three times.
        progress:
            Is told of every visit.

    Returns:
        Milliseconds per image of the visits of each; empty for what does not fit in memory.
    """
    began = time.monotonic()
    times: dict[Subject, list[float]] = {subject: [] for subject in subjects}
    fitting = list(times)
    progress.start(
        passes * len(fitting), "visit", limit_s=max_seconds if math.isfinite(max_seconds) else None
    )
    for number in range(passes):
        if number >= MIN_PASSES and time.monotonic() - began > max_seconds:
            break
        for subject in list(fitting):
            try:
                times[subject].append(visitor.visit(subject))
            except DoesNotFitError:
                times[subject].clear()
                fitting.remove(subject)
            progress.advance()
    return times


def combined_ms(times: Sequence[float]) -> float:
    """Return the time that visits agree on.

    The geometric mean: disturbed and undisturbed visits mix, and a median jumps from the ones to the others. A visit
    further than ``FARTHEST`` from the median counts as that far, so that no single one decides.
    """
    if not min(times) > 0:
        return statistics.median(times)
    logs = [math.log(ms) for ms in times]
    centre = statistics.median(logs)
    return math.exp(statistics.fmean(max(centre - FARTHEST, min(centre + FARTHEST, value)) for value in logs))


def scatter_of(series: Iterable[Sequence[float]]) -> float:
    """Return the relative standard deviation of single visits of one thing, pooled over things; 0 if nobody knows."""
    squares, freedom = 0.0, 0
    for times in series:
        if len(times) < 2 or not min(times) > 0:
            continue
        logs = [math.log(ms) for ms in times]
        mean = statistics.fmean(logs)
        squares += sum(min(FARTHEST, abs(value - mean)) ** 2 for value in logs)
        freedom += len(times) - 1
    return math.sqrt(squares / freedom) if freedom else 0.0


def standard_error_of(scatter: float, visits: int) -> float:
    """Return the relative standard error of this many visits combined, whose single ones scatter so."""
    return scatter / math.sqrt(max(1, visits))
