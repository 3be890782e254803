"""The worker of a Ray cluster, on its node."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from zenopt.core.errors import ExecutorError, ZenoptError
from zenopt.core.extensions import know_again
from zenopt.executors.base import Job, Post
from zenopt.executors.luggage import lacking, unpack
from zenopt.executors.proxy import LocalFile
from zenopt.storage.workers import current_worker

#: Seconds without a sign of its driver after which a worker ends itself.
PATIENCE_S = 30.0


@dataclass(frozen=True)
class News:
    """What a worker says at the end of a lease; ``reason`` is as in ``Ended``, ``None`` where it wants another one."""

    reason: Literal["finished", "refused", "crashed"] | None = None
    text: str = ""
    error: str = ""


class Actor:
    """Works in a thread of its own, on as many trials as its driver leases it.

    Args:
        job:
            What to do.
        index:
            Number of the worker.
        device:
            Torch device.
        folder:
            The driver's working folder; the worker's, where this node has it too.
        file:
            The study's storage, where it is a file that a process elsewhere cannot open.
    """

    def __init__(self, job: Job, index: int, device: str, folder: str, file: LocalFile | None) -> None:
        # So that relative paths mean the same everywhere.
        with contextlib.suppress(OSError):
            os.makedirs(folder, exist_ok=True)
            os.chdir(folder)
        self._job = job
        self._lacking = lacking(job.files)
        self._url = job.url if file is None or file.is_here else None
        self._is_equipped = not self._lacking
        self._lease = 0
        self._is_hungry = self._is_dismissed = False
        self._news: News | None = None
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._seen = time.monotonic()
        threading.Thread(target=self._work, args=(index, device), daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()

    def hello(self) -> tuple[str, str, tuple[str, ...], bool]:
        """Return who this is, on which node, and what it waits for: files that the node lacks, and a storage's URL."""
        import ray

        return str(current_worker()), str(ray.util.get_node_ip_address()), self._lacking, self._url is None

    def reach(self, url: str) -> None:
        """Take the URL by which this node reaches the storage."""
        with self._changed:
            self._url = url
            self._changed.notify_all()

    def bring(self, files: Mapping[str, Sequence[Any]]) -> None:
        """Take files that the node lacks, as references of parts of archives, and begin."""
        import ray

        news = None
        try:
            for text, parts in files.items():
                unpack(text, (ray.get(part) for part in parts))
        except ExecutorError as error:
            news = News("refused", str(error), type(error).__name__)
        except Exception as error:
            # The driver is to hear of it: it may have lost its node.
            traceback.print_exc()
            news = News("crashed", f"did not get its files: {type(error).__name__}: {error}")
        with self._changed:
            self._news = news
            self._is_equipped = True
            self._changed.notify_all()

    def ping(self) -> None:
        """Hear that the driver lives."""
        self._seen = time.monotonic()

    def stop(self) -> None:
        """End after the trial, or the epoch of a training."""
        with self._changed:
            self._stop.set()
            self._changed.notify_all()

    def turn(self, trials: int) -> News:
        """Do so many trials more, or end where there are none; return when they are begun and done, or all is over."""
        self.ping()
        with self._changed:
            self._lease += trials
            self._is_dismissed = not trials
            self._is_hungry = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_hungry or self._news is not None)
            return self._news or News()

    def _claim(self) -> bool:
        with self._changed:
            if not self._lease and not self._stop.is_set():
                self._is_hungry = True
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._lease or self._is_dismissed or self._stop.is_set())
            is_late = self._job.deadline is not None and time.time() >= self._job.deadline
            if self._stop.is_set() or is_late or not self._lease:
                return False
            self._lease -= 1
            return True

    def _work(self, index: int, device: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: (self._is_equipped and self._url) or self._stop.is_set())
            url = self._url
            if not self._is_equipped or url is None:
                self._news = News("finished")
                self._changed.notify_all()
            if self._news is not None or url is None:
                return
        news = News("finished")
        try:
            know_again(self._job.modules)
            post = Post(index, device, self._job.threads, url, self._claim, self._stop.is_set)
            self._job.work(self._job.argument, post)
        except ZenoptError as error:
            news = News("refused", str(error), type(error).__name__)
        except Exception as error:
            # The driver shows it; the log of the node has all of it.
            traceback.print_exc()
            news = News("crashed", f"failed: {type(error).__name__}: {error}")
        finally:
            with self._changed:
                self._news = news
                self._changed.notify_all()

    def _watch(self) -> None:
        while time.monotonic() - self._seen < PATIENCE_S:
            time.sleep(1.0)
        self.stop()
        with self._changed:
            self._changed.wait_for(lambda: self._news is not None)
        # Nobody is left to end it.
        os._exit(0)
