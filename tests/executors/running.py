"""A run of a study on an executor, as the tests of executors follow it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jobs
import optuna

from zenopt.executors import Ended, Job
from zenopt.executors.runs import RUN_KEY, Run, begin_run, of_run
from zenopt.executors.supervise import supervise


class Killed(Exception):
    """The driver is no more."""


def run(
    study: optuna.Study,
    executor: Any,
    folder: Path,
    *,
    wanted: int,
    work: Callable[..., None] = jobs.count,
    stop: threading.Event | None = None,
    report: Callable[[int], None] = lambda alive: None,
    is_killed: Callable[[], bool] = lambda: False,
    **task: Any,
) -> tuple[list[Ended], Run]:
    """Run two workers; where ``is_killed`` says so, end as a driver that is killed does: without a word."""
    own = begin_run(study, wanted)

    def tell(alive: int) -> None:
        report(alive)
        if is_killed():
            raise Killed

    def done() -> int:
        finished = [trial for trial in study.get_trials() if trial.state.is_finished()]
        return sum(of_run(trial.user_attrs.get(RUN_KEY), own.id) for trial in finished)

    job = Job(
        work,
        jobs.Counting(own.id, **task),
        f"sqlite:///{folder}/s.db",
        "s",
        own.id,
        folder=str(folder),
        notes=own,
    )
    try:
        executor.open(job)
        ended = supervise(
            executor,
            study,
            workers=2,
            devices=("cpu",),
            wanted=wanted,
            done=done,
            stop=stop or threading.Event(),
            report=tell,
        )
    except Killed:
        own._over.set()
        raise
    except BaseException:
        executor.close()
        own.end()
        raise
    executor.close()
    own.end()
    return ended, own
