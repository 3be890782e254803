"""Workers as processes of this machine."""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from zenopt.core.errors import ZenoptError
from zenopt.core.extensions import know_again
from zenopt.executors import EXECUTORS
from zenopt.executors.base import Ended, Executor, Job, Post
from zenopt.executors.interrupts import ignore_interrupts, interrupts_wait
from zenopt.executors.resources import Resources
from zenopt.storage.workers import Worker, host_name, process_start

T = TypeVar("T")
R = TypeVar("R")

#: What is left to a process that shares the trials without limit.
_NO_LIMIT = -1
#: In place of whether a process is busy: it still imports, and has touched nothing.
_NOT_BEGUN = -1


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_each(workers: int) -> int:
    """Return the torch threads of each of some workers: a share of the cores, and no more than ``OMP_NUM_THREADS``."""
    share = max(1, available_cores() // workers)
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(share, max(1, int(limit))) if limit.isdecimal() else share


@dataclass
class _Shared:
    """What worker processes share."""

    remaining: Any
    stop: Any
    messages: Any = field(repr=False)

    def claim(self, is_busy: Any) -> bool:
        with self.remaining.get_lock():
            is_busy.value = 0
            if self.remaining.value == 0:
                return False
            if self.remaining.value > 0:
                self.remaining.value -= 1
            is_busy.value = 1
            return True


@EXECUTORS.register("processes")
class Processes(Executor):
    """Spawned processes of this machine, which end with the one that started them."""

    replaces = False
    is_elsewhere = False

    def __init__(self, address: str = "", resources: Resources | None = None) -> None:
        super().__init__(address, resources)
        # Threads of torch and of the database do not survive a fork.
        self._context = multiprocessing.get_context("spawn")
        self._alive: dict[int, tuple[BaseProcess, Any, str]] = {}

    def capacity(self, devices: Sequence[str]) -> int:
        """Return one worker per core, or per device where there are others than the CPU."""
        return available_cores() if set(devices) == {"cpu"} else len(devices)

    def open(self, job: Job) -> list[str]:
        self._job = job
        self._shared = _Shared(
            self._context.Value("q", _NO_LIMIT),
            self._context.Event(),
            self._context.Queue(),
        )
        self._messages: dict[int, tuple[str, str]] = {}
        return []

    def start(self, indices: Sequence[int]) -> None:
        devices = self._job.devices
        for index in indices:
            is_busy = self._context.Value("b", _NOT_BEGUN, lock=False)
            # A job is sent with the one device that is the worker's.
            own = replace(self._job, devices=(devices[index % len(devices)],), notes=None)
            process = self._context.Process(
                target=_main, args=(own, index, self._shared, is_busy), name=f"worker {index}"
            )
            with interrupts_wait():
                process.start()
            started = process_start(process.pid or 0) or "0"
            identity = str(Worker(host_name(), process.pid or 0, started))
            self._alive[index] = (process, is_busy, identity)

    def poll(self, seconds: float) -> list[Ended]:
        for process, _, _ in self._alive.values():
            process.join(seconds / len(self._alive))
        over = [index for index, (process, _, _) in self._alive.items() if not process.is_alive()]
        try:
            while True:
                index, kind, text = self._shared.messages.get_nowait()
                self._messages[index] = (kind, text)
        except queue.Empty:
            pass
        found = []
        for index in over:
            process, is_busy, identity = self._alive.pop(index)
            kind, text = self._messages.get(index, ("", ""))
            code = process.exitcode
            is_dismissed = self._shared.stop.is_set() and is_busy.value == _NOT_BEGUN
            if code in (0, 2) or (is_dismissed and code == -signal.SIGTERM):
                reason: Any = "refused" if kind else "finished"
                found.append(Ended(index, reason, text, kind, identity))
            else:
                reason = "lost" if code is not None and code < 0 else "crashed"
                found.append(Ended(index, reason, f"ended with exit code {code}", identity=identity))
        return found

    def refill(self, left: Callable[[], int]) -> int:
        with self._shared.remaining.get_lock():
            unclaimed = left() - sum(is_busy.value == 1 for _, is_busy, _ in self._alive.values())
            self._shared.remaining.value = max(self._shared.remaining.value, unclaimed)
            return int(self._shared.remaining.value)

    def stop(self) -> None:
        self._shared.stop.set()
        # Those that still import need not be waited for. Whoever has done so says it while holding the lock.
        with self._shared.remaining.get_lock():
            for process, is_busy, _ in self._alive.values():
                if is_busy.value == _NOT_BEGUN:
                    process.terminate()

    def close(self) -> list[str]:
        for process, _, _ in self._alive.values():
            process.terminate()
        for process, _, _ in self._alive.values():
            process.join()
        killed = [identity for _, _, identity in self._alive.values()]
        self._alive.clear()
        return killed

    def map(
        self,
        function: Callable[[T], R],
        items: Iterable[T],
        workers: int | None,
        modules: tuple[str, ...] = (),
    ) -> Iterator[tuple[int, R]]:
        calls = list(enumerate(items))
        pool = ProcessPoolExecutor(workers or available_cores(), self._context, _begin_calls, (modules,))
        try:
            with interrupts_wait():
                futures = {pool.submit(function, item): index for index, item in calls}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _begin_calls(modules: tuple[str, ...]) -> None:
    ignore_interrupts()
    know_again(modules)


def _main(job: Job, index: int, shared: _Shared, is_busy: Any) -> None:
    # The parent decides and sets the stop event.
    ignore_interrupts()
    # From here on it may hold locks of a storage, and ends by itself.
    with shared.remaining.get_lock():
        is_busy.value = 0
    driver = multiprocessing.parent_process()
    assert driver is not None

    def should_stop() -> bool:
        # A worker whose parent was killed, be it while this one began, goes on with nobody to report to, so it stops.
        return bool(shared.stop.is_set()) or os.getppid() != driver.pid

    def claim() -> bool:
        has_time = job.deadline is None or time.time() < job.deadline
        return has_time and not should_stop() and shared.claim(is_busy)

    # The parent meets the same outage of the database; all workers would say it again.
    logging.getLogger("zenopt.storage.retry").setLevel(logging.ERROR)
    try:
        know_again(job.modules)
        job.work(job.argument, Post(index, job.devices[0], job.threads, job.url, claim, should_stop))
    except ZenoptError as error:
        shared.messages.put((index, type(error).__name__, str(error)))
        raise SystemExit(2) from None
