"""Following a study that other processes run: what is new, how fast it goes, who works on it."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState

from zenopt.storage.history import StudyHistory
from zenopt.storage.orphans import DEFAULT_GRACE_S
from zenopt.storage.records import TrialRecord
from zenopt.storage.workers import WORKER_KEY, Worker

_KEYS = (WORKER_KEY, "params", "macs", "latency_ms")
#: Seconds over which the speed is averaged.
_SPEED_WINDOW_S = 60.0
_SHOWN = 8


@dataclass(frozen=True)
class Look:
    """A study at one moment.

    Attributes:
        finished: Trials that ended, in whatever state.
        feasible: Candidates: completed within the budget.
        settled: Candidates, and what was found to be over budget.
        failed: Trials that failed.
        workers: Processes with a trial under way.
        dead: How many of them are known to be gone.
        rate: Trials per second over the last minute, or ``None`` before there is anything to compare with.
        still_s: Seconds since the last look at which a trial was new or had changed.
        best: The candidate with the best score.
        improvements: The latest candidates that were the best when they ended, newest first; with several objectives,
            that joined the front.
        front: With several objectives, how many candidates no other one dominates; else ``None``.
    """

    finished: int
    feasible: int
    settled: int
    failed: int
    workers: int
    dead: int
    rate: float | None
    still_s: float
    best: TrialRecord | None
    improvements: tuple[TrialRecord, ...]
    front: int | None = None

    @property
    def feasible_share(self) -> float | None:
        """Share of settled trials within the budget."""
        return self.feasible / self.settled if self.settled else None

    @property
    def is_idle(self) -> bool:
        """Whether nobody works on the study: no worker, or workers elsewhere that have given no sign for minutes."""
        return self.alive == 0 or self.still_s > DEFAULT_GRACE_S

    @property
    def alive(self) -> int:
        """Workers not known to be gone."""
        return self.workers - self.dead

    def seconds_to(self, trials: int | None) -> float | None:
        """Return the seconds until the study has so many trials, or ``None`` where nobody can tell."""
        if trials is None or not self.rate or self.finished >= trials:
            return None
        return (trials - self.finished) / self.rate


class Follower:
    """Looks at a study again and again, reading only what is new.

    Args:
        study:
            A study.

    Example:
        .. code-block:: python

            follower = Follower(study)
            while True:
                print(follower.look().finished)
                time.sleep(2)
    """

    def __init__(self, study: optuna.Study) -> None:
        self._history = StudyHistory(study, _KEYS)
        self._signs = [1.0 if item == StudyDirection.MAXIMIZE else -1.0 for item in study.directions]
        # What no candidate so far dominates, more being better; of one objective, the best.
        self._front: list[tuple[float, ...]] = []
        self._finished = self._feasible = self._settled = self._failed = 0
        self._running: dict[int, TrialRecord] = {}
        self._best: TrialRecord | None = None
        self._improvements: deque[TrialRecord] = deque(maxlen=_SHOWN)
        self._speed: deque[tuple[float, int]] = deque()
        self._changed_at = time.monotonic()

    def look(self) -> Look:
        """Read what is new and return how the study stands."""
        now = time.monotonic()
        for record in sorted(self._history.sync(), key=lambda record: record.number):
            self._take(record)
            self._changed_at = now
        workers = {str(record.user_attrs.get(WORKER_KEY)) for record in self._running.values()}
        return Look(
            finished=self._finished,
            feasible=self._feasible,
            settled=self._settled,
            failed=self._failed,
            workers=len(workers),
            dead=sum(_is_dead(worker) for worker in workers),
            rate=self._rate(now),
            still_s=now - self._changed_at,
            best=self._best,
            improvements=tuple(reversed(self._improvements)),
            front=len(self._front) if len(self._signs) > 1 else None,
        )

    def _take(self, record: TrialRecord) -> None:
        if not record.state.is_finished():
            if record.state == TrialState.RUNNING:
                self._running[record.trial_id] = record
            else:
                self._running.pop(record.trial_id, None)
            return
        self._running.pop(record.trial_id, None)
        self._finished += 1
        self._failed += record.state == TrialState.FAIL
        if record.state == TrialState.FAIL:
            return
        self._settled += not record.is_feasible
        if record.state != TrialState.COMPLETE or not record.is_feasible or record.values is None:
            return
        self._settled += 1
        self._feasible += 1
        point = tuple(sign * value for sign, value in zip(self._signs, record.values, strict=True))
        if self._best is None or point[0] > self._signs[0] * (self._best.value or 0.0):
            self._best = record
        if any(_is_as_good(member, point) for member in self._front):
            return
        self._front = [member for member in self._front if not _is_as_good(point, member)]
        self._front.append(point)
        self._improvements.append(record)

    def _rate(self, now: float) -> float | None:
        self._speed.append((now, self._finished))
        while len(self._speed) > 2 and now - self._speed[1][0] >= _SPEED_WINDOW_S:
            self._speed.popleft()
        start, before = self._speed[0]
        return (self._finished - before) / (now - start) if now > start else None


def _is_as_good(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return all(ours >= theirs for ours, theirs in zip(first, second, strict=True))


def _is_dead(text: str) -> bool:
    """Return whether a worker of this machine has ended; of another machine nobody here can tell."""
    worker = Worker.parse(text)
    return worker is not None and worker.is_here and not worker.is_alive_here()
