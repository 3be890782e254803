"""How far a search has come, read from its study."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import optuna
from optuna.trial import TrialState

from zenopt.executors.runs import RUN_KEY, of_run
from zenopt.storage.history import StudyHistory
from zenopt.storage.records import TrialRecord

#: Seconds between looks at the epochs of running trainings.
_LOOK_S = 1.0
#: User attributes of the trials in :attr:`Progress.new`.
NEW_KEYS = ("params", "macs", "latency_ms", "score_seconds", "duplicate_of", "error")


@dataclass
class Progress:
    """How far a search has come; made anew for every report.

    Attributes:
        done: Trials finished by this run.
        wanted: Trials this run was asked for, or ``None``.
        elapsed_s: Seconds since the run began.
        timeout_s: Its time limit, or ``None``.
        finished: Finished trials of the study, earlier runs included.
        feasible: How many of them are within the budget.
        best: Best feasible value of the study.
        workers: Workers that are alive.
        waiting: How many of them have not begun, and why, in words; ``None`` if all have.
        new: Trials that finished since the last report, with what :data:`NEW_KEYS` names.
        epochs: Last step that each running trial has reported, where evaluations report steps.
        last_step: Step with which an evaluation ends; ``None`` where none are reported.
    """

    done: int
    wanted: int | None
    elapsed_s: float
    timeout_s: float | None
    finished: int
    feasible: int
    best: float | None
    workers: int
    waiting: str | None = None
    new: tuple[TrialRecord, ...] = ()
    epochs: tuple[int, ...] = ()
    last_step: int | None = None

    @property
    def under_way(self) -> float:
        """How much of the running trials is done, in trials."""
        return sum(self.epochs) / self.last_step if self.last_step else 0.0

    @property
    def running(self) -> str | None:
        """The epochs of the running trials in words; ``None`` where nothing is known of them."""
        if not self.epochs:
            return None
        return f"epoch {', '.join(map(str, self.epochs))} of {self.last_step}"

    @property
    def share_done(self) -> float:
        """Fraction of the run that is over, by whichever limit is nearer."""
        by_trials = (self.done + self.under_way) / self.wanted if self.wanted else 0.0
        by_time = self.elapsed_s / self.timeout_s if self.timeout_s else 0.0
        return min(1.0, max(by_trials, by_time))

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the seconds left, or ``None`` before anything is done."""
        estimates = []
        if self.timeout_s:
            estimates.append(max(0.0, self.timeout_s - self.elapsed_s))
        done = self.done + self.under_way
        if self.wanted and done:
            estimates.append(max(0.0, self.elapsed_s / done * (self.wanted - done)))
        return min(estimates, default=None)


class Watch:
    """Follows the study and reports progress.

    Attributes:
        carried: Trials of the run that were finished before it was followed: by a driver that was killed.
        wanted: Trials that are left to do, or ``None``.
        done: Trials of the run that have finished since, when the study was last read.
    """

    def __init__(
        self,
        study: optuna.Study,
        run: str,
        trials: int | None,
        timeout_s: float | None,
        start: float,
        on_progress: Callable[[Progress], None],
        last_step: int | None = None,
    ) -> None:
        self._last_step = last_step
        self._running: dict[int, int] = {}
        self._looked_s = 0.0
        self._history = StudyHistory(study, (*NEW_KEYS, RUN_KEY))
        self._run = run
        self._new: list[TrialRecord] = []
        self._is_better = max if study.directions[0] == optuna.study.StudyDirection.MAXIMIZE else min
        self._timeout_s = timeout_s
        self._start = start
        self.done = 0
        self._on_progress = on_progress
        self._best: float | None = None
        self._finished = self._feasible = 0
        self._sync()
        self._new.clear()
        self.carried, self.done = self.done, 0
        self.wanted = None if trials is None else max(0, trials - self.carried)

    def count(self) -> int:
        """Return how many trials of the run have finished, as the study says now."""
        self._sync()
        return self.done

    def report(self, workers: int, waiting: str | None = None) -> None:
        """Tell how far the run has come."""
        self._sync()
        self._look_at_running()
        elapsed_s = time.monotonic() - self._start
        self._on_progress(
            Progress(
                self.done,
                self.wanted,
                elapsed_s,
                self._timeout_s,
                self._finished,
                self._feasible,
                self._best,
                workers,
                waiting,
                tuple(self._new),
                tuple(self._running[number] for number in sorted(self._running)) if workers else (),
                self._last_step,
            )
        )
        self._new.clear()

    def step(self) -> None:
        """Report from the middle of a trial of this process, now and then: some steps take no time."""
        if self._is_time_to_look:
            self.report(1)

    @property
    def _is_time_to_look(self) -> bool:
        return self._last_step is not None and time.monotonic() - self._looked_s >= _LOOK_S

    def _look_at_running(self) -> None:
        """Read how far the running trials are, now and then."""
        if not self._is_time_to_look:
            return
        self._looked_s = time.monotonic()
        for trial_id in self._running:
            steps = self._history.study._storage.get_trial(trial_id).intermediate_values
            self._running[trial_id] = max(steps, default=0)

    def _sync(self) -> None:
        for record in self._history.sync():
            if record.state == TrialState.RUNNING and self._last_step is not None:
                self._running.setdefault(record.trial_id, 0)
            else:
                self._running.pop(record.trial_id, None)
            if not record.state.is_finished():
                continue
            self._finished += 1
            self.done += of_run(record.user_attrs.get(RUN_KEY), self._run)
            self._new.append(record)
            if record.state != TrialState.COMPLETE or not record.is_feasible or record.value is None:
                continue
            self._feasible += 1
            best = self._best
            self._best = record.value if best is None else self._is_better(best, record.value)
