"""Following the workers of a run: starting as many as there is room for, replacing those that are lost, to the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import optuna

from zenopt.executors.base import Ended, Executor
from zenopt.storage import Worker, requeue_orphans

_POLL_S = 0.3
#: Seconds after which a lost worker of another machine is taken for gone: until then it may still tell its trial.
GONE_S = 10.0


def supervise(
    executor: Executor,
    study: optuna.Study,
    *,
    workers: int | None,
    devices: Sequence[str],
    wanted: int | None,
    done: Callable[[], int],
    stop: threading.Event,
    report: Callable[[int], None],
) -> list[Ended]:
    """Run workers until the trials are done, there is nothing more to do, or all workers have failed.

    Args:
        executor:
            Opened.
        study:
            The study, whose trials of lost workers go back to the queue.
        workers:
            Most workers at a time; ``None`` for as many as there is room for.
        devices:
            Devices of the workers, as the command line has them.
        wanted:
            Trials of this run, or ``None``.
        done:
            Returns how many of them are finished.
        stop:
            Set when the run is to end.
        report:
            Called a few times per second with the number of workers alive.

    Returns:
        The workers, as they ended.
    """
    alive = executor.running()
    ended: list[Ended] = []
    lost: list[tuple[Ended, float]] = []
    began = executor.begun()
    losses, done_before = 0, done()
    is_over = is_stopping = False
    # What workers of an earlier driver have lost before they were followed shows when they have ended.
    lacks_some = bool(alive)

    def left() -> int:
        return 0 if wanted is None else wanted - done()

    unclaimed = None if wanted is None else executor.refill(left)

    def may_start() -> bool:
        if is_over or is_stopping or not (unclaimed is None or unclaimed > 0):
            return False
        if executor.replaces or not began:
            # Where worker after worker is lost and nothing gets done, another one will not help either.
            return losses <= 2 * max(1, most) + 2
        return not alive and any(item.reason == "finished" for item in ended)

    while True:
        if stop.is_set() and not is_stopping:
            is_stopping = True
            executor.stop()
        most = workers or executor.capacity(devices)
        room = most - len(alive)
        if not alive and not lost and lacks_some and wanted is not None:
            # What the lost ones have left may show only when all others have ended.
            lacks_some = False
            unclaimed = executor.refill(left)
            is_over &= not unclaimed
        if unclaimed is not None:
            room = min(room, unclaimed)
        if room > 0 and not lost and may_start():
            numbers = range(began, began + room)
            executor.start(numbers)
            began += room
            alive.update(numbers)
        news = executor.poll(_POLL_S)
        if not alive and lost:
            time.sleep(_POLL_S)
        now = time.monotonic()
        for item in news:
            alive.discard(item.index)
            ended.append(item)
            if item.reason in ("finished", "refused"):
                is_over = True
            else:
                lost.append((item, now))
        lost_now = sum(item.reason == "lost" for item in news)
        if lost_now:
            count = done()
            losses, done_before = lost_now + (losses if count == done_before else 0), count
        gone = [item for item, since in lost if _is_gone(item, now - since)]
        if gone:
            # A worker that was killed leaves its trial running: put it back, and let the others finish the count.
            dead = [item.identity for item in gone if item.identity is not None]
            is_over &= not requeue_orphans(study, dead=dead)
            lost = [pair for pair in lost if pair[0] not in gone]
            lacks_some = True
            if wanted is not None and not lost:
                unclaimed = executor.refill(left)
                is_over &= not unclaimed
        report(len(alive))
        if not alive and not lost and not may_start() and not (lacks_some and wanted is not None):
            return ended


def _is_gone(item: Ended, seconds: float) -> bool:
    worker = Worker.parse(item.identity)
    if worker is None:
        return True
    return not worker.is_alive_here() if worker.is_here else seconds > GONE_S


def failures_of(ended: Sequence[Ended]) -> list[str]:
    """Return what is to be said of workers that did not end as they should."""
    found = []
    for item in sorted(ended, key=lambda item: item.index):
        if item.reason == "refused":
            found.append(f"worker {item.index} stopped: {item.text}")
        elif item.reason != "finished":
            found.append(f"worker {item.index} {item.text}")
    return found
