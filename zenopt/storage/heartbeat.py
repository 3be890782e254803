"""Signs of life of the trials that this process runs, for workers on other machines to see."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

_logger = logging.getLogger(__name__)


class Heartbeat:
    """Beat for every running trial once per interval, from one daemon thread.

    Unlike Optuna's heartbeat this does not need ``study.optimize``, and short trials cost nothing: the thread
    first beats when a trial has been running for up to one interval. It ends when nothing has run for one.

    Args:
        beat:
            Called with a trial id; records that its worker is alive.
        interval_s:
            Seconds between beats; None for no beats at all.
    """

    def __init__(self, beat: Callable[[int], None], interval_s: float | None) -> None:
        self.interval_s = interval_s
        self._beat = beat
        self._trial_ids: set[int] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._pid = 0

    def add(self, trial_id: int) -> None:
        """Begin to beat for a trial."""
        if self.interval_s is None:
            return
        with self._lock:
            if self._pid != os.getpid():
                # First use, or first use after a fork, where threads do not survive and other trials are not ours.
                self._pid = os.getpid()
                self._trial_ids = set()
                self._wake = threading.Event()
                threading.Thread(
                    target=self._run, args=(self._wake,), name="zenopt-heartbeat", daemon=True
                ).start()
            self._trial_ids.add(trial_id)

    def remove(self, trial_id: int) -> None:
        """Stop beating for a trial."""
        with self._lock:
            self._trial_ids.discard(trial_id)

    def stop(self) -> None:
        """End the thread; the next trial that is added starts a new one."""
        with self._lock:
            self._pid = 0
            self._wake.set()

    def _run(self, wake: threading.Event) -> None:
        while not wake.wait(self.interval_s):
            with self._lock:
                trial_ids = sorted(self._trial_ids)
                if not trial_ids and wake is self._wake:
                    # A thread that waits for ever would keep its storage, and the connections of that, for ever.
                    self._pid = 0
                    return
            for trial_id in trial_ids:
                try:
                    self._beat(trial_id)
                except Exception as error:
                    # A database that is away for a moment must not end the thread, and with it all later beats; the
                    # worker itself meets and reports the same trouble.
                    _logger.debug("No heartbeat for trial id %d: %r", trial_id, error)
