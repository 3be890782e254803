"""Running a search: one worker in this process, or many that share the study, wherever an executor runs them."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import FrameType

import optuna

from zenopt.core.errors import StorageError, StudyError
from zenopt.core.extensions import named_by_person, names_object
from zenopt.core.paths import file_name
from zenopt.executors import Ended, Executor, Job, Post, make_executor
from zenopt.executors.processes import threads_each
from zenopt.executors.runs import begin_run
from zenopt.executors.supervise import failures_of, supervise
from zenopt.storage import checkpoint, open_storage, requeue_orphans
from zenopt.study.files import files_of
from zenopt.study.sampling import make_sampler
from zenopt.study.spec import StudySpec
from zenopt.study.study import join_study, load_study
from zenopt.study.watching import NEW_KEYS, Progress, Watch
from zenopt.study.worker import Search, work

__all__ = ["NEW_KEYS", "Progress", "SearchResult", "run_search", "settings_kept"]


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
class Beginning:
    """What a run begins with.

    Attributes:
        spec: The resolved spec.
        requeued: Trials of dead workers that are taken up again.
        workers: Most workers at a time; ``None`` where a cluster decides.
        carried: Trials of the same run that were finished before its driver was killed.
    """

    spec: StudySpec
    requeued: int
    workers: int | None
    carried: int = 0


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
    on: str = "processes",
    resources: str = "",
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_ready: Callable[[Beginning], None] = lambda beginning: None,
) -> SearchResult:
    """Create or join a study and add trials to it.

    A first Ctrl-C lets every worker finish its trial; a second one stops at once. Either way every finished trial is
    stored, and unfinished ones are taken up by the next run. Where this process is killed, the next call for as many
    trials goes on with this run: it adds only what is missing.

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
            Most workers at a time. Processes have their share of the cores as torch threads, and by default there is
            one per core, or per device where devices other than the CPU are given; on a cluster as many as have room.
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
        on:
            Where the workers are: ``"processes"``, ``"ray"``, ``"ray:ADDRESS"``, ``"slurm"``, or ``"module:Class"`` of
            an :class:`~zenopt.executors.Executor`.
        resources:
            What each worker takes there, e.g. ``"cpu=2,gpu=0.25"``.
        on_progress:
            Called after trials, a few times per second.
        on_ready:
            Called once before the first trial.

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
    executor = checked_executor(url, workers, devices, on, resources)
    is_shared = not url.startswith("memory:")
    if workers is None:
        room = executor.capacity(devices) if is_shared else 1
        workers = None if executor.is_elsewhere else room
    if workers is not None and trials is not None:
        workers = min(workers, trials)
    is_here = on == "processes" and workers == 1
    devices = executor.devices(devices)
    spec.check()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    start = time.monotonic()
    # A sampler that cannot be made leaves no empty study behind.
    make_sampler(spec)
    folder = folder_of(spec, name, runs)
    if storage is None:
        storage = open_storage(url, synchronous=synchronous)
    spec = join_study(spec, storage, name, devices[0], linked=linked)
    study = load_study(storage, name)
    # What is queued says itself what is left of it.
    run = begin_run(study, None if spec.sampler.name == "queue" else trials)
    job = Job(
        work,
        Search(spec, name, run.id, synchronous, str(folder)),
        url=url,
        study=name,
        run=run.id,
        devices=devices,
        threads=threads_each(workers or 1),
        deadline=None if timeout_s is None else time.time() + timeout_s,
        modules=() if is_here else _modules(spec),
        files=() if is_here else files_of(spec),
        synchronous=synchronous,
        folder=str(folder),
        notes=run,
    )
    ended: list[Ended] = []
    try:
        left_behind = () if is_here else executor.open(job)
        requeued = len(requeue_orphans(study, dead=left_behind))
        watch = Watch(study, run.id, trials, timeout_s, start, on_progress, spec.evaluator()(spec).last_step)
        on_ready(Beginning(spec, requeued, workers, watch.carried))
        with _graceful_interrupt() as stop:
            if is_here:
                _work_here(job, storage, watch, stop)
            else:
                ended = supervise(
                    executor,
                    study,
                    workers=workers,
                    devices=devices,
                    wanted=watch.wanted,
                    done=watch.count,
                    stop=stop,
                    report=lambda alive: watch.report(alive, executor.waiting()),
                )
        watch.report(0)
    finally:
        killed = executor.close()
        if killed and executor.is_elsewhere:
            # Others would wait for signs of life of them.
            requeue_orphans(study, dead=killed)
        run.end()
        # A notebook goes on for hours: the file is to be whole now.
        checkpoint(storage)
    if ended and all(item.reason == "refused" for item in ended):
        raise (StorageError if ended[0].error == "StorageError" else StudyError)(ended[0].text)
    seconds = time.monotonic() - start
    is_complete = (watch.wanted is not None and watch.done >= watch.wanted) or (
        timeout_s is not None and seconds >= timeout_s
    )
    failures = tuple(failures_of(ended))
    return SearchResult(watch.done, seconds, stop.is_set(), requeued, failures, storage, is_complete)


def folder_of(spec: StudySpec, name: str, runs: str | Path) -> Path:
    """Return the folder in which the workers of a study write files."""
    # Only evaluations that keep files need one of their own, and a name that can be one.
    return Path(runs) / file_name(name, "The study's name") if spec.evaluator().keeps_files else Path(runs)


def _work_here(job: Job, storage: optuna.storages.BaseStorage, watch: Watch, stop: threading.Event) -> None:
    """Work in this process, with the storage that is open."""
    remaining = count() if watch.wanted is None else iter(range(watch.wanted))

    def claim() -> bool:
        return (job.deadline is None or time.time() < job.deadline) and next(remaining, None) is not None

    post = Post(0, job.devices[0], job.threads, job.url, claim, stop.is_set)
    work(job.argument, post, storage, lambda: watch.report(1), watch.step)


def _modules(spec: StudySpec) -> tuple[str, ...]:
    """Return what a worker must import: what people have named, and where the space's blocks are from."""
    # What the spec names is loaded here already, or the space would not have been built.
    modules = [name.partition(":")[0] for name in spec.objects().values() if names_object(name)]
    foreign = sorted(set(spec.build_space().foreign_modules().values()))
    return tuple(dict.fromkeys([*named_by_person(), *modules, *foreign]))


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


def checked_executor(
    url: str, workers: int | None, devices: Sequence[str], on: str = "processes", resources: str = ""
) -> Executor:
    """Return what begins the workers of a run, once it is sure that they can be begun; see :func:`run_search`.

    Raises:
        ZenoptError: If there is no such executor or device, or workers cannot share the storage.
    """
    executor = make_executor(on, resources)
    if executor.is_elsewhere or (workers or 1) > 1:
        executor.check(url, devices)
    if not executor.is_elsewhere:
        from zenopt.proxies.devices import resolve_device

        for device in executor.devices(devices):
            resolve_device(device)
    return executor
