"""Running a search: one worker in this process, or several processes that share the study."""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import optuna
from optuna.trial import TrialState

from zenopt.core.errors import StorageError, StudyError, ZenoptError
from zenopt.core.extensions import know_again, named_by_person, names_object
from zenopt.core.paths import file_name
from zenopt.storage import checkpoint, open_storage, requeue_orphans
from zenopt.storage.history import StudyHistory
from zenopt.storage.records import TrialRecord
from zenopt.study.objective import Objective, run_trial
from zenopt.study.pruners import make_pruner
from zenopt.study.sampling import make_sampler
from zenopt.study.spec import StudySpec
from zenopt.study.study import join_study, load_study

_POLL_S = 0.3
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


@dataclass(frozen=True)
class SearchResult:
    """What a run did.

    Attributes:
        done: Trials it finished.
        seconds: Wall time.
        stopped: Whether it was interrupted before its limits.
        requeued: Trials of dead workers that were taken up again.
        failures: What went wrong in workers, one line each.
        storage: The storage, still open.
        is_complete: Whether the run reached one of its limits, rather than running out of workers.
    """

    done: int
    seconds: float
    stopped: bool
    requeued: int
    failures: tuple[str, ...]
    storage: optuna.storages.BaseStorage = field(repr=False)
    is_complete: bool = True


@dataclass(frozen=True)
class _Task:
    """What a worker process needs."""

    spec: StudySpec
    url: str
    name: str
    device: str
    threads: int
    deadline: float | None
    synchronous: str
    modules: tuple[str, ...] = ()
    runs: str = "runs"


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(devices: Sequence[str]) -> int:
    """Return the number of processes for some devices: one per core, or per device where there are others."""
    return available_cores() if set(devices) == {"cpu"} else len(devices)


@contextmanager
def settings_kept() -> Iterator[None]:
    """Restore what a worker in this process sets for itself: torch's threads and Optuna's verbosity."""
    import torch

    threads, verbosity = torch.get_num_threads(), optuna.logging.get_verbosity()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        optuna.logging.set_verbosity(verbosity)


@settings_kept()
def run_search(
    spec: StudySpec,
    url: str,
    name: str,
    *,
    trials: int | None = None,
    timeout_s: float | None = None,
    workers: int | None = None,
    devices: Sequence[str] = ("cpu",),
    synchronous: str = "NORMAL",
    runs: str | Path = "runs",
    storage: optuna.storages.BaseStorage | None = None,
    linked: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_ready: Callable[[StudySpec, int, int], None] = lambda spec, requeued, workers: None,
) -> SearchResult:
    """Create or join a study and add trials to it.

    A first Ctrl-C lets every worker finish its trial; a second one stops at once. Either way every finished trial is
    stored, and unfinished ones are taken up by the next run.

    Args:
        spec:
            What to search.
        url:
            Storage URL.
        name:
            Name of the study in the storage.
        trials:
            Trials to add, shared by the workers.
        timeout_s:
            Seconds after which no further trial begins.
        workers:
            Processes, each with its share of the cores as torch threads; by default one per core, or per device where
            devices other than the CPU are given.
        devices:
            Torch devices, shared out round-robin.
        synchronous:
            SQLite's durability: ``"NORMAL"`` or ``"FULL"``.
        runs:
            Folder of the trainings, where trials are trained; each study has its own in it.
        storage:
            The storage, where it is open already; several workers open the URL, too.
        linked:
            See :func:`~zenopt.study.study.join_study`.
        on_progress:
            Called after trials, a few times per second.
        on_ready:
            Called once before the first trial, with the resolved spec, the number of trials taken up from dead workers,
            and the number of workers.

    Raises:
        ZenoptError: If the study cannot be created, joined or continued.
    """
    if trials is None and timeout_s is None:
        raise StudyError(
            "Give a number of trials (--trials, or trials in the study file), a timeout, or both."
        )
    if timeout_s is not None and not timeout_s > 0:
        raise StudyError(f"The timeout must be a positive number of seconds, got {timeout_s!r}.")
    for what, number in (("trials", trials), ("workers", workers)):
        if number is not None and number < 1:
            raise StudyError(f"The number of {what} must be at least 1, got {number}.")
    is_shared = not url.startswith("memory:")
    if workers is None:
        workers = default_workers(devices) if is_shared else 1
    if workers > 1 and not is_shared:
        raise StudyError("A study in memory has one worker; use a storage file or database for more.")
    if trials is not None:
        workers = min(workers, trials)
    _check_devices(devices)
    spec.check()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    start = time.monotonic()
    # A sampler that cannot be made leaves no empty study behind.
    make_sampler(spec)
    if storage is None:
        storage = open_storage(url, synchronous=synchronous)
    spec = join_study(spec, storage, name, devices[0], linked=linked)
    study = load_study(storage, name)
    requeued = len(requeue_orphans(study))
    task = _Task(
        spec,
        url,
        name,
        devices[0],
        max(1, available_cores() // workers),
        None if timeout_s is None else start + timeout_s,
        synchronous,
        _modules(spec) if workers > 1 else (),
        # Only evaluations that keep files need a folder, and a name that can be one.
        str(Path(runs) / file_name(name, "The study's name")) if spec.evaluator().keeps_files else str(runs),
    )
    on_ready(spec, requeued, workers)
    last_step = spec.evaluator()(spec).last_step
    watch = _Watch(study, trials, timeout_s, start, on_progress, last_step)
    try:
        with _graceful_interrupt() as stop:
            if workers == 1:
                failures = _run_here(task, storage, trials, stop, watch)
            else:
                failures = _run_processes(task, study, devices, workers, trials, stop, watch)
        watch.report(0)
    finally:
        # A notebook goes on for hours: the file is to be whole now.
        checkpoint(storage)
    seconds = time.monotonic() - start
    is_complete = (trials is not None and watch.done >= trials) or (
        timeout_s is not None and seconds >= timeout_s
    )
    return SearchResult(watch.done, seconds, stop.is_set(), requeued, tuple(failures), storage, is_complete)


class _Watch:
    """Follows the study and reports progress."""

    def __init__(
        self,
        study: optuna.Study,
        wanted: int | None,
        timeout_s: float | None,
        start: float,
        on_progress: Callable[[Progress], None],
        last_step: int | None = None,
    ) -> None:
        self._history = StudyHistory(study, NEW_KEYS)
        self._new: list[TrialRecord] = []
        self._is_better = max if study.directions[0] == optuna.study.StudyDirection.MAXIMIZE else min
        self._wanted = wanted
        self._timeout_s = timeout_s
        self._start = start
        self._on_progress = on_progress
        self._last_step = last_step
        self._running: dict[int, int] = {}
        self._looked_s = 0.0
        self._best: float | None = None
        self._finished = self._feasible = 0
        self._sync()
        self._new.clear()
        self._before = self._finished

    @property
    def done(self) -> int:
        return self._finished - self._before

    def report(self, workers: int) -> None:
        self._sync()
        self._look_at_running()
        elapsed_s = time.monotonic() - self._start
        self._on_progress(
            Progress(
                self.done,
                self._wanted,
                elapsed_s,
                self._timeout_s,
                self._finished,
                self._feasible,
                self._best,
                workers,
                tuple(self._new),
                tuple(self._running[number] for number in sorted(self._running)) if workers else (),
                self._last_step,
            )
        )
        self._new.clear()

    def _sync(self) -> None:
        for record in self._history.sync():
            self._running.pop(record.trial_id, None)
            if record.state == TrialState.RUNNING:
                self._running[record.trial_id] = 0
            if not record.state.is_finished():
                continue
            self._finished += 1
            self._new.append(record)
            if record.state != TrialState.COMPLETE or not record.is_feasible or record.value is None:
                continue
            self._feasible += 1
            best = self._best
            self._best = record.value if best is None else self._is_better(best, record.value)

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


def _run_here(
    task: _Task,
    storage: optuna.storages.BaseStorage,
    trials: int | None,
    stop: threading.Event,
    watch: _Watch,
) -> list[str]:
    remaining = [trials]

    def claim() -> bool:
        if remaining[0] is None:
            return True
        remaining[0] -= 1
        return remaining[0] >= 0

    _work(task, 0, storage, claim, stop.is_set, lambda: watch.report(1), watch.step)
    return []


def _modules(spec: StudySpec) -> tuple[str, ...]:
    """Return what a worker must import: what people have named, and where the space's blocks are from."""
    # What the spec names is loaded here already, or the space would not have been built.
    modules = [name.partition(":")[0] for name in spec.objects().values() if names_object(name)]
    foreign = sorted(set(spec.build_space().foreign_modules().values()))
    return tuple(dict.fromkeys([*named_by_person(), *modules, *foreign]))


def _work(
    task: _Task,
    index: int,
    storage: optuna.storages.BaseStorage,
    claim: Callable[[], bool],
    should_stop: Callable[[], bool],
    after_trial: Callable[[], None] = lambda: None,
    after_step: Callable[[], None] = lambda: None,
) -> None:
    """Add trials until there is no time, no trial left to claim, or a request to stop."""
    import torch

    torch.set_num_threads(task.threads)
    study = load_study(storage, task.name, make_sampler(task.spec, index), make_pruner(task.spec))
    objective = Objective(task.spec, study, task.device, should_stop, Path(task.runs), after_step)
    while not should_stop() and (task.deadline is None or time.monotonic() < task.deadline) and claim():
        if run_trial(study, objective, only_queued=task.spec.sampler.name == "queue") is None:
            return
        after_trial()


@dataclass
class _Shared:
    """What worker processes share."""

    remaining: Any
    stop: Any
    messages: Any = field(repr=False)

    def claim(self) -> bool:
        with self.remaining.get_lock():
            if self.remaining.value == 0:
                return False
            if self.remaining.value > 0:
                self.remaining.value -= 1
            return True


def _worker_main(task: _Task, index: int, shared: _Shared) -> None:
    # Ctrl-C reaches the whole process group; the parent decides and sets the stop event.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    try:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # The parent meets the same outage of the database; all workers would say it again.
        logging.getLogger("zenopt.storage.retry").setLevel(logging.ERROR)
        know_again(task.modules)
        storage = open_storage(task.url, synchronous=task.synchronous)
        # A worker whose parent was killed goes on with nobody to report to, so it stops.
        _work(task, index, storage, shared.claim, lambda: shared.stop.is_set() or os.getppid() != parent)
    except ZenoptError as error:
        shared.messages.put((index, type(error).__name__, str(error)))
        raise SystemExit(2) from None


def _run_processes(
    task: _Task,
    study: optuna.Study,
    devices: Sequence[str],
    workers: int,
    trials: int | None,
    stop: threading.Event,
    watch: _Watch,
) -> list[str]:
    # Threads of torch and of the database do not survive a fork.
    context = multiprocessing.get_context("spawn")
    shared = _Shared(context.Value("q", -1 if trials is None else trials), context.Event(), context.Queue())
    processes = []
    for index in range(workers):
        own = _Task(**{**task.__dict__, "device": devices[index % len(devices)]})
        process = context.Process(target=_worker_main, args=(own, index, shared), name=f"worker {index}")
        process.start()
        processes.append(process)
    alive = list(processes)
    try:
        while alive:
            if stop.is_set():
                shared.stop.set()
            for process in alive:
                process.join(_POLL_S / len(alive))
            ended = [process for process in alive if not process.is_alive()]
            alive = [process for process in alive if process.is_alive()]
            if any(process.exitcode not in (0, 2) for process in ended):
                # A crashed worker leaves its trial running: put it back, and let the others finish the count.
                requeued = len(requeue_orphans(study))
                with shared.remaining.get_lock():
                    if shared.remaining.value >= 0:
                        shared.remaining.value += requeued
            watch.report(len(alive))
    finally:
        for process in alive:
            process.terminate()
        for process in alive:
            process.join()
    messages = {}
    try:
        while True:
            index, kind, text = shared.messages.get_nowait()
            messages[index] = (kind, text)
    except queue.Empty:
        pass
    if messages and all(process.exitcode == 2 for process in processes):
        kind, text = next(iter(messages.values()))
        raise (StorageError if kind == "StorageError" else StudyError)(text)
    failures = []
    for index, process in enumerate(processes):
        if index in messages:
            failures.append(f"worker {index} stopped: {messages[index][1]}")
        elif process.exitcode:
            failures.append(f"worker {index} ended with exit code {process.exitcode}")
    return failures


@contextmanager
def _graceful_interrupt() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C (or SIGTERM) into an event; the second interrupts as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_devices(devices: Sequence[str]) -> None:
    from zenopt.proxies.devices import resolve_device

    for device in devices:
        resolve_device(device)
