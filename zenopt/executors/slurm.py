"""Workers as an array of SLURM jobs, by submitit. A job needs no driver: what is left of its share, the study says."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import optuna

from zenopt.core.errors import ExecutorError, StorageError, StudyError, ZenoptError
from zenopt.core.extensions import know_again
from zenopt.core.text import one_line
from zenopt.executors import EXECUTORS
from zenopt.executors.base import Ended, Executor, Job, Post
from zenopt.executors.proxy import reachable_url
from zenopt.executors.resources import Resources, minutes_of
from zenopt.executors.runs import count_of, is_stopping
from zenopt.storage import JOIN_PATIENCE_S, WORKER_KEY, current_worker, open_storage, parse_url
from zenopt.storage.orphans import put_back

#: Seconds between looks at whether the run is to end, and of a last trial when the job's time is over.
_LOOK_S, _LAST_S = 5.0, 60.0
_DEFAULT_TIME = "4h"
_ACTIVE = ("PENDING", "RUNNING", "REQUEUED", "CONFIGURING", "COMPLETING", "SUSPENDED", "UNKNOWN")


@EXECUTORS.register("slurm")
class SlurmJobs(Executor):
    """An array of jobs that are queued again before their time is over; ``slurm:local``: processes in their place."""

    takes: ClassVar[tuple[str, ...] | None] = ("time", "partition", "mem", "account", "qos", "constraint")

    def __init__(self, address: str = "", resources: Resources | None = None) -> None:
        super().__init__(address, resources)
        try:
            import submitit
        except ImportError:
            raise ExecutorError(
                "--on slurm needs submitit, which is not installed; run: pip install 'zenopt[slurm]'"
            ) from None
        if address not in ("", "local"):
            raise ExecutorError(f"--on slurm:{address}: write slurm, or slurm:local to try it without SLURM.")
        self._submitit: Any = submitit
        self._is_local = address == "local"
        own = self.resources
        if own.gpu != int(own.gpu) or (own.cpu or 1) != int(own.cpu or 1):
            raise ExecutorError(
                "--resources: SLURM hands out whole cores and GPUs; fractions are for --on ray."
            )
        self._minutes = minutes_of("time", own.others.get("time", _DEFAULT_TIME))
        self._jobs: dict[int, Any] = {}
        self._unclaimed: int | None = None
        self._is_stopping = False

    def check(self, url: str, devices: Sequence[str]) -> None:
        if url.startswith("memory:"):
            raise StudyError(
                "A study in memory has one worker, here; jobs need a database or a journal file."
            )
        target = parse_url(url)
        if target.kind == "sqlite" and not self._is_local:
            raise StorageError(
                f"storage {target.display!r}: SQLite is for one machine, SLURM has several; use postgresql://, "
                "mysql://, journal:///FILE on a shared file system, or grpc:// of zenopt serve-storage"
            )
        if not self._is_local:
            self._executor("runs")

    def devices(self, devices: Sequence[str]) -> Sequence[str]:
        return ("cuda:0",) if self.resources.gpu else ("cpu",)

    def capacity(self, devices: Sequence[str]) -> int:
        raise ExecutorError("--on slurm: say with --workers how many jobs the array is to have.")

    def open(self, job: Job) -> list[str]:
        url, _ = reachable_url(job.url, job.synchronous, "", is_local=True)
        self._notes = job.notes
        self._job = replace(job, url=url, threads=self.resources.threads, notes=None)
        self._folder = str(Path(job.folder).resolve() / "slurm")
        self._made = self._executor(self._folder)
        kept = {} if job.notes is None else job.notes.notes.get("jobs", {})
        kind = self._submitit.LocalJob if self._is_local else self._submitit.SlurmJob
        for index, job_id in kept.items():
            earlier = kind(self._folder, job_id, tasks=[0])
            if earlier.state in _ACTIVE:
                self._jobs[int(index)] = earlier
        return []

    def running(self) -> set[int]:
        return set(self._jobs)

    def start(self, indices: Sequence[int]) -> None:
        left = self._unclaimed
        with self._made.batch():
            for position, index in enumerate(indices):
                share = None if left is None else left // len(indices) + (position < left % len(indices))
                shift = Shift(self._job, index, share, os.getcwd(), list(sys.path))
                self._jobs[index] = self._made.submit(shift)
        self._unclaimed = None if left is None else 0
        if self._notes is not None:
            self._notes.note(jobs={str(index): job.job_id for index, job in self._jobs.items()})

    def poll(self, seconds: float) -> list[Ended]:
        deadline = time.monotonic() + seconds
        over = [index for index, job in self._jobs.items() if job.done()]
        while not over and self._jobs and time.monotonic() < deadline:
            time.sleep(min(0.1, seconds))
            over = [index for index, job in self._jobs.items() if job.done()]
        return [self._ended(index, self._jobs.pop(index)) for index in over]

    def refill(self, left: Callable[[], int]) -> int:
        # Jobs have their shares for good: what is missing shows when the last one is over.
        self._unclaimed = 0 if self._jobs else max(0, left())
        return self._unclaimed

    def stop(self) -> None:
        self._is_stopping = True
        if self._notes is not None:
            self._notes.ask_to_stop()
        for job in self._jobs.values():
            if job.state == "PENDING":
                job.cancel(check=False)

    def close(self) -> list[str]:
        for job in self._jobs.values():
            job.cancel(check=False)
        return []

    def describe(self, workers: int | None, runs: str) -> str:
        from submitit.slurm.slurm import _make_sbatch_string

        if workers is None:
            self.capacity(())
        if self._is_local:
            return super().describe(workers, runs)
        parameters = {name.removeprefix("slurm_"): value for name, value in self._parameters().items()}
        parameters["time"] = parameters.pop("timeout_min")
        text: str = _make_sbatch_string(
            f"{sys.executable} -u -m submitit.core._submit {Path(runs).resolve() / 'slurm'}",
            folder=Path(runs).resolve() / "slurm",
            job_name=parameters.pop("name"),
            map_count=workers,
            **parameters,
        )
        return text.rstrip()

    def _executor(self, folder: str) -> Any:
        try:
            made = self._submitit.AutoExecutor(
                folder, cluster="local" if self._is_local else "slurm", slurm_max_num_timeout=1000
            )
        except RuntimeError as error:
            raise ExecutorError(
                f"--on slurm: this machine submits no SLURM jobs ({one_line(str(error), 120)}); try it with "
                "--on slurm:local, or see with --dry-run what would be submitted."
            ) from None
        parameters = self._parameters()
        if self._is_local:
            parameters = {name: value for name, value in parameters.items() if not name.startswith("slurm_")}
        made.update_parameters(**parameters)
        return made

    def _parameters(self) -> dict[str, Any]:
        own = self.resources
        found: dict[str, Any] = {
            "name": "zenopt",
            "timeout_min": self._minutes,
            "cpus_per_task": own.threads,
            "gpus_per_node": int(own.gpu) or None,
            "slurm_additional_parameters": {"requeue": True},
        }
        found.update({f"slurm_{name}": text for name, text in own.others.items() if name != "time"})
        return {name: value for name, value in found.items() if value is not None}

    def _ended(self, index: int, job: Any) -> Ended:
        if self._is_stopping:
            return Ended(index, "finished")
        try:
            ended: Ended = job.result()
        except (
            self._submitit.core.utils.UncompletedJobError,
            self._submitit.core.utils.FailedJobError,
        ) as error:
            last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            return Ended(index, "lost", f"of job {job.job_id} was lost ({one_line(last[0], 200)})")
        return ended


@dataclass
class Shift:
    """A worker's share of a run: what one job does, as often as it is queued.

    Attributes:
        job: What to do.
        index: Number of the worker.
        share: Its trials; ``None`` for as many as there is time for.
        folder: Working folder of the driver.
        path: Where the driver finds modules.
    """

    job: Job
    index: int
    share: int | None
    folder: str
    path: list[str]

    def __call__(self) -> Ended:
        """Work until the share is done; called by submitit."""
        os.chdir(self.folder)
        sys.path[:] = list(dict.fromkeys([*sys.path, *self.path]))
        self._stop = threading.Event()
        self._ended = Ended(self.index, "lost")
        # Signals reach the main thread, which is to be free for them.
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        self._thread.join()
        return self._ended

    def checkpoint(self) -> Any:
        """End in good order and come again; called by submitit before the job's time is over, or it is preempted."""
        import submitit

        self._stop.set()
        self._thread.join(_LAST_S)
        if self._thread.is_alive():
            study = self._study()
            for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
                if trial.user_attrs.get(WORKER_KEY) == str(current_worker()):
                    put_back(study, optuna.Trial(study, trial._trial_id))
        return submitit.helpers.DelayedSubmission(
            Shift(self.job, self.index, self.share, self.folder, self.path)
        )

    def _study(self) -> optuna.Study:
        storage = open_storage(self.job.url, synchronous=self.job.synchronous, wait_s=JOIN_PATIENCE_S)
        return optuna.load_study(study_name=self.job.study, storage=storage)

    def _work(self) -> None:
        job, identity = self.job, str(current_worker())
        try:
            study = self._study()
            left = None if self.share is None else self.share - count_of(study, job.run, self.index)
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

    def _listen(self, study: optuna.Study) -> None:
        while not self._stop.wait(_LOOK_S):
            if is_stopping(study._storage, study._study_id, self.job.run):
                self._stop.set()
