"""Workers as an array of SLURM jobs, by submitit. A job needs no driver: what is left of its share, the study says."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from zenopt.core.errors import ExecutorError, StorageError, StudyError
from zenopt.core.text import one_line, shortened_path
from zenopt.executors import EXECUTORS
from zenopt.executors.base import Ended, Executor, Job
from zenopt.executors.proxy import absolute_url
from zenopt.executors.resources import Resources, minutes_of
from zenopt.executors.shift import Shift, identity_file
from zenopt.executors.slurm_queue import JOB_NAME, Queue, cancel, check_script, complaint
from zenopt.storage import Worker, parse_url
from zenopt.storage.workers import host_name, process_start

_DEFAULT_TIME = "4h"
#: Minutes of the shortest job: SLURM may tell it up to two and a half minutes before the end that it is to end.
_LEAST_MIN = 4
#: Seconds after which a job that is over and has left no result is lost, and between looks at what jobs write.
_SETTLE_S, _READ_S = 10.0, 1.0
#: Seconds between attempts to take jobs from the queue.
_CANCEL_S = 2.0
#: Lines of a job that are shown at a time.
_LINES = 40
#: Beginnings of lines that say nothing of a worker.
_CHATTER = ("submitit ", "srun: got ", "srun: forcing ", "srun: Job step aborted", "srun: Force ")
_logger = logging.getLogger(__name__)


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
        if self._minutes < _LEAST_MIN:
            raise ExecutorError(
                f"--resources: time must be {_LEAST_MIN}m or more: workers stop about two minutes before."
            )
        self._jobs: dict[int, Any] = {}
        self._queue = Queue()
        # Since when jobs are over without a result, and how much of what they wrote was shown.
        self._over: dict[int, float] = {}
        self._shown: dict[int, int] = {}
        self._read_s = self._cancelled_s = 0.0
        self._unclaimed: int | None = None
        self._is_stopping = False
        self._is_heard = True

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
            try:
                check_script(self.describe(1, "runs"))
            except ExecutorError as error:
                asked = f" with --resources {self.resources}" if self.resources else ""
                raise ExecutorError(f"--on slurm: SLURM takes no job{asked} ({error}).") from None

    def devices(self, devices: Sequence[str]) -> Sequence[str]:
        return ("cuda:0",) if self.resources.gpu else ("cpu",)

    def capacity(self, devices: Sequence[str]) -> int:
        raise ExecutorError("--on slurm: say with --workers how many jobs the array is to have.")

    def open(self, job: Job) -> list[str]:
        self._notes = job.notes
        self._job = replace(job, url=absolute_url(job.url), threads=self.resources.threads, notes=None)
        self._folder = str(Path(job.folder).resolve() / "slurm")
        self._made = self._executor(self._folder)
        kept = {} if job.notes is None else job.notes.notes.get("jobs", {})
        self._keepers = {} if job.notes is None else dict(job.notes.notes.get("keepers", {}))
        if job.notes is not None:
            # Jobs that an earlier driver had submitted, but not noted, when it was killed.
            job.notes.note(launch=None)
        kind = self._submitit.LocalJob if self._is_local else self._submitit.SlurmJob
        earlier = {int(index): kind(self._folder, job_id, tasks=[0]) for index, job_id in kept.items()}
        self._queue.follow([item.job_id for item in earlier.values()])
        self._jobs = {index: item for index, item in earlier.items() if not self._is_over(item)}
        self._shown = {index: _size(item.paths.stderr) for index, item in self._jobs.items()}
        return []

    def running(self) -> set[int]:
        return set(self._jobs)

    def begun(self) -> int:
        # By its number a job finds what it has done of its share: no other is to have it, though it be over.
        return 0 if self._notes is None else int(self._notes.notes.get("begun", 0))

    def start(self, indices: Sequence[int]) -> None:
        left = self._unclaimed
        launch = None if self._notes is None else secrets.token_hex(4)
        if self._notes is not None:
            self._notes.note(launch=launch)
        shifts = []
        for position, index in enumerate(indices):
            share = None if left is None else left // len(indices) + (position < left % len(indices))
            shifts.append(Shift(self._job, index, share, os.getcwd(), list(sys.path), launch))
        try:
            jobs = self._made.submit_array(shifts)
        except self._submitit.core.utils.FailedJobError as error:
            raise ExecutorError(f"--on slurm: SLURM took no jobs ({complaint(str(error))}).") from None
        self._jobs.update(zip(indices, jobs, strict=True))
        self._queue.follow([job.job_id for job in jobs])
        self._unclaimed = None if left is None else 0
        for job in jobs if self._is_local else ():
            # By which a job is known while it has not said itself which process it is.
            pid = job._process.pid
            self._keepers[job.job_id] = str(Worker(host_name(), pid, process_start(pid) or "0"))
        if self._notes is not None:
            kept = {str(index): job.job_id for index, job in self._jobs.items()}
            keepers = {job: keeper for job, keeper in self._keepers.items() if job in kept.values()}
            self._notes.note(jobs=kept, begun=max(indices) + 1, keepers=keepers)

    def poll(self, seconds: float) -> list[Ended]:
        time.sleep(seconds)
        # So that a network file system looks anew: https://stackoverflow.com/questions/3112546
        os.utime(self._folder)
        if (
            self._is_stopping
            and time.monotonic() - self._cancelled_s > _CANCEL_S
            and self.waiting() is not None
        ):
            # Also those that queue themselves again only now.
            self._cancel(pending_only=True)
            self._cancelled_s = time.monotonic()
            self._queue.hurry()
        over = [index for index, job in self._jobs.items() if self._is_settled(index, job)]
        if over or time.monotonic() - self._read_s > _READ_S:
            self._read_s = time.monotonic()
            for index, job in self._jobs.items():
                self._show(index, job)
        return [self._ended(index, self._jobs.pop(index)) for index in over]

    def waiting(self) -> str | None:
        return None if self._is_local else self._queue.waiting([job.job_id for job in self._jobs.values()])

    def refill(self, left: Callable[[], int]) -> int:
        # Jobs have their shares for good: what is missing shows when the last one is over.
        self._unclaimed = 0 if self._jobs else max(0, left())
        return self._unclaimed

    def stop(self) -> None:
        self._is_stopping = True
        if self._notes is not None:
            self._notes.ask_to_stop()
        self._queue.hurry()

    def close(self) -> list[str]:
        if not self._is_local:
            self._cancel()
        for job in self._jobs.values() if self._is_local else ():
            worker, keeper = self._processes(job)
            if worker is not None:
                os.kill(worker.pid, signal.SIGTERM)
            elif keeper is not None:
                os.kill(keeper.pid, signal.SIGINT)
        return []

    def _cancel(self, *, pending_only: bool = False) -> None:
        """End jobs; say once where SLURM does not answer."""
        jobs = [job.job_id for job in self._jobs.values()]
        try:
            cancel(jobs, pending_only=pending_only)
        except ExecutorError as error:
            if self._is_heard:
                text = (
                    f"SLURM does not end the jobs ({error}); when it answers again: scancel {' '.join(jobs)}"
                )
                _logger.warning("%s", one_line(text, 300))
            self._is_heard = False

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
            "name": JOB_NAME,
            "timeout_min": self._minutes,
            "cpus_per_task": own.threads,
            "gpus_per_node": int(own.gpu) or None,
            "slurm_additional_parameters": {"requeue": True},
        }
        found.update({f"slurm_{name}": text for name, text in own.others.items() if name != "time"})
        return {name: value for name, value in found.items() if value is not None}

    def _worker(self, job: Any) -> Worker | None:
        try:
            return Worker.parse(identity_file(self._folder, job.job_id).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def _is_over(self, job: Any) -> bool:
        """Return whether a job runs no more and does not come again."""
        if job.paths.result_pickle.exists():
            return True
        if not self._is_local:
            return self._queue.status(job.job_id).is_final
        if job._process is not None:
            return bool(job.done())
        # Of a driver that was killed, which processes outlive.
        return not any(self._processes(job))

    def _processes(self, job: Any) -> tuple[Worker | None, Worker | None]:
        """Return the worker of a job of this machine and the process that keeps it, where they are alive."""
        found = self._worker(job), Worker.parse(self._keepers.get(job.job_id))
        worker, keeper = (
            own if own is not None and own.is_here and own.is_alive_here() else None for own in found
        )
        return worker, keeper

    def _is_settled(self, index: int, job: Any) -> bool:
        """Return whether a job is over and its result there, or too late."""
        if not self._is_over(job):
            self._over.pop(index, None)
            return False
        since = self._over.setdefault(index, time.monotonic())
        is_there = self._is_local or self._is_stopping or job.paths.result_pickle.exists()
        return is_there or time.monotonic() - since > _SETTLE_S

    def _show(self, index: int, job: Any) -> None:
        """Show what a job has written on stderr since the last time."""
        path, begin = job.paths.stderr, self._shown.get(index, 0)
        if _size(path) <= begin:
            return
        with open(path, "rb") as file:
            file.seek(begin)
            # A line that is not whole comes later.
            text = file.read().rpartition(b"\n")[0]
        self._shown[index] = begin + len(text) + bool(text)
        lines = text.decode(errors="replace").splitlines()
        lines = [line for line in lines if line.strip() and not line.startswith(_CHATTER)]
        for line in lines[:_LINES]:
            _logger.warning("worker %d (job %s): %s", index, job.job_id, line)
        if len(lines) > _LINES:
            _logger.warning(
                "worker %d (job %s): %d more lines in %s", index, job.job_id, len(lines) - _LINES, path
            )

    def _ended(self, index: int, job: Any) -> Ended:
        worker = self._worker(job)
        identity = None if worker is None else str(worker)
        if job.paths.result_pickle.exists():
            try:
                ended: Ended = job.result()
                return ended
            except self._submitit.core.utils.FailedJobError as error:
                # Its last line but the ruler and the paths of the logs is the error of the job.
                trace = str(error).rpartition("\n-----")[0].strip().splitlines()
                why = trace[-1] if trace else type(error).__name__
        else:
            why = "no result" if self._is_local else self._queue.status(job.job_id).state
        if self._is_stopping:
            return Ended(index, "finished", identity=identity)
        log = f"; {shortened_path(str(job.paths.stderr))}" if _size(job.paths.stderr) else ""
        text = f"of job {job.job_id} was lost ({one_line(why, 200)}{log})"
        return Ended(index, "lost", text, identity=identity)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
