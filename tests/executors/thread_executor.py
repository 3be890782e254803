"""A fourth executor, as a user would write one: workers are threads of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from zenopt.core.errors import ZenoptError
from zenopt.executors import Ended, Executor, Job, Post


class Threads(Executor):
    """Threads of this process."""

    is_elsewhere = False

    def open(self, job: Job) -> list[str]:
        self._job, self._left, self._busy = job, None, 0
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._alive: dict[int, threading.Thread] = {}
        self._ended: dict[int, Ended] = {}
        return []

    def start(self, indices: Sequence[int]) -> None:
        for index in indices:
            self._alive[index] = threading.Thread(target=self._run, args=(index,))
            self._alive[index].start()

    def poll(self, seconds: float) -> list[Ended]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._ended:
            time.sleep(0.01)
        ended = [self._ended.pop(index) for index in list(self._ended)]
        for item in ended:
            self._alive.pop(item.index).join()
        return ended

    def refill(self, left: Callable[[], int]) -> int:
        with self._lock:
            self._left = left()
            return self._left

    def stop(self) -> None:
        self._stop.set()

    def close(self) -> list[str]:
        self._stop.set()
        for thread in self._alive.values():
            thread.join()
        return []

    def _claim(self) -> bool:
        with self._lock:
            if self._left is not None:
                self._left -= 1
            return not self._stop.is_set() and (self._left is None or self._left >= 0)

    def _run(self, index: int) -> None:
        job = self._job
        post = Post(index, job.devices[0], 1, job.url, self._claim, self._stop.is_set)
        try:
            job.work(job.argument, post)
            self._ended[index] = Ended(index, "finished")
        except ZenoptError as error:
            self._ended[index] = Ended(index, "refused", str(error), type(error).__name__)
