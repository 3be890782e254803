"""Processes that do not hear Ctrl-C, which reaches a whole process group: whoever started them ends them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

# Windows has no masks; there a process that is told to end while it begins still says so at length.
_HAS_MASKS = hasattr(signal, "pthread_sigmask")


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C wait, here and in the processes that are spawned meanwhile: they import for seconds before they work.

    What is spawned calls :func:`ignore_interrupts` as soon as it can.
    """
    if not _HAS_MASKS:
        yield
        return
    # To start it, multiprocessing would end the wait.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_interrupts() -> None:
    """Ignore Ctrl-C in this process, also one that has waited."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _HAS_MASKS:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
