"""What one job of SLURM does: a worker's share of a run, as often as it is queued."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import optuna

from zenopt.core.errors import ZenoptError
from zenopt.core.extensions import know_again
from zenopt.executors.base import Ended, Job, Post
from zenopt.executors.runs import count_of, is_stopping, notes_of
from zenopt.storage import JOIN_PATIENCE_S, WORKER_KEY, current_worker, open_storage
from zenopt.storage.orphans import put_back

#: Seconds between looks at whether the run is to end.
_LOOK_S = 5.0
#: Seconds between looks at whether the driver has noted the job, which it does right after it has submitted it.
_NOTED_S = 0.5
#: Seconds of a last trial when the job's time is over, and when the job is cancelled (SLURM kills 30 s later).
_LAST_S, _CANCELLED_S = 60.0, 15.0
_logger = logging.getLogger(__name__)


def identity_file(folder: str | Path, job: str) -> Path:
    """Return the file in which a job says which process it is."""
    return Path(folder) / f"{job}_worker.txt"


@dataclass
class Shift:
    """A worker's share of a run: what one job does, as often as it is queued.

    Attributes:
        job: What to do.
        index: Number of the worker.
        share: Its trials; ``None`` for as many as there is time for.
        folder: Working folder of the driver.
        path: Where the driver finds modules.
        launch: By which the driver knows again what it submits; ``None`` where it keeps no notes.
    """

    job: Job
    index: int
    share: int | None
    folder: str
    path: list[str]
    launch: str | None = None

    def __call__(self) -> Ended:
        """Work until the share is done; called by submitit."""
        import submitit

        own = submitit.JobEnvironment()
        self._id = str(own.job_id)
        identity_file(own.paths.folder, own.job_id).write_text(str(current_worker()), encoding="utf-8")
        os.chdir(self.folder)
        sys.path[:] = list(dict.fromkeys([*sys.path, *self.path]))
        self._stop = threading.Event()
        self._ended = Ended(self.index, "lost")
        # Signals reach the main thread, which is to be free for them. Where it ends, nothing is to wait for a trial.
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        # By submitit, a job that is cancelled would work on until it is killed in the middle of a trial.
        signal.signal(signal.SIGTERM, self._leave)
        self._thread.join()
        return self._ended

    def checkpoint(self) -> Any:
        """End in good order and come again; called by submitit before the job's time is over, or it is preempted."""
        import submitit

        # Queueing it again ends this process, which is about to end itself.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._finish(_LAST_S)
        return submitit.helpers.DelayedSubmission(
            Shift(self.job, self.index, self.share, self.folder, self.path, self.launch)
        )

    def _leave(self, signum: int, frame: FrameType | None) -> None:
        """End without a result: who has cancelled or preempted the job decides whether it comes again."""
        signal.signal(signum, signal.SIG_IGN)
        self._finish(_CANCELLED_S)
        raise SystemExit(128 + signum)

    def _finish(self, seconds: float) -> None:
        """Let the trial end, or put it back where that takes too long."""
        self._stop.set()
        self._thread.join(seconds)
        if self._thread.is_alive():
            study = self._study()
            for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
                if trial.user_attrs.get(WORKER_KEY) == str(current_worker()):
                    put_back(study, optuna.Trial(study, trial._trial_id))

    def _study(self) -> optuna.Study:
        storage = open_storage(self.job.url, synchronous=self.job.synchronous, wait_s=JOIN_PATIENCE_S)
        return optuna.load_study(study_name=self.job.study, storage=storage)

    def _work(self) -> None:
        job, identity = self.job, str(current_worker())
        try:
            study = self._study()
            if not self._is_followed(study):
                self._ended = Ended(self.index, "finished", identity=identity)
                return
            left = None if self.share is None else self.share - count_of(study, job.run, self.index)
            # One that was queued again may find that the run is over.
            self._look(study)
            threading.Thread(target=self._listen, args=(study,), daemon=True).start()

            def claim() -> bool:
                nonlocal left
                if self._stop.is_set() or (job.deadline is not None and time.time() >= job.deadline):
                    return False
                if left is not None:
                    left -= 1
                return left is None or left >= 0

            know_again(job.modules)
            device = job.devices[self.index % len(job.devices)]
            job.work(job.argument, Post(self.index, device, job.threads, job.url, claim, self._stop.is_set))
            self._ended = Ended(self.index, "finished", identity=identity)
        except ZenoptError as error:
            self._ended = Ended(self.index, "refused", str(error), type(error).__name__, identity)
        except Exception as error:
            self._ended = Ended(
                self.index, "crashed", f"failed: {type(error).__name__}: {error}", identity=identity
            )
            raise

    def _is_followed(self, study: optuna.Study) -> bool:
        """Wait until the driver has noted this job, or is gone: the next one would give its share to another."""
        while self.launch is not None:
            notes, goes_on = notes_of(study._storage, study._study_id, self.job.run)
            if notes.get("jobs", {}).get(str(self.index)) == self._id:
                return True
            if not goes_on or notes.get("launch") != self.launch or self._stop.wait(_NOTED_S):
                return False
        return True

    def _listen(self, study: optuna.Study) -> None:
        while not self._stop.wait(_LOOK_S):
            try:
                self._look(study)
            except Exception as error:
                # A database that is away for a moment must not end all later looks; the trials meet the same trouble.
                _logger.debug("Whether run %s is to end is not known: %r", self.job.run, error)

    def _look(self, study: optuna.Study) -> None:
        if is_stopping(study._storage, study._study_id, self.job.run):
            self._stop.set()
