"""What workers of the tests do: trials that cost nothing."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import optuna

from zenopt.core.errors import StudyError
from zenopt.executors import Job, Post
from zenopt.executors.processes import Processes
from zenopt.executors.runs import RUN_KEY, mark_of
from zenopt.storage import open_storage


@dataclass(frozen=True)
class Counting:
    """Trials of a study ``s``; a worker that makes the file ``killed`` is killed in the middle of its trial.

    With every trial, workers say ``says`` on stderr. All but a worker's first trial wait for the file ``until``, or for
    the end.
    """

    run: str
    seconds: float = 0.0
    killed: str = ""
    says: str = ""
    until: str = ""


def count(task: Counting, post: Post) -> None:
    """Ask and tell while there is a trial to claim."""
    sampler = optuna.samplers.RandomSampler(seed=post.index)
    study = optuna.load_study(study_name="s", storage=open_storage(post.url), sampler=sampler)
    is_first = True
    while not post.should_stop() and post.claim():
        trial = study.ask()
        trial.set_user_attr(RUN_KEY, mark_of(task.run, post.index))
        time.sleep(task.seconds)
        while not (is_first or not task.until or Path(task.until).exists() or post.should_stop()):
            time.sleep(0.05)
        is_first = False
        if task.says:
            print(task.says, file=sys.stderr, flush=True)
        if task.killed:
            try:
                Path(task.killed).touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        study.tell(trial, trial.suggest_float("x", 0, 1))


def refuse(task: Counting, post: Post) -> None:
    """Find fault with the input."""
    raise StudyError("there is no such thing")


def say_whether_to_stop(task: Counting, post: Post) -> None:
    """Write into the file ``says`` whether there is anything to do."""
    Path(task.says).with_suffix(".part").write_text(f"{post.should_stop()} {post.claim()}", encoding="utf-8")
    Path(task.says).with_suffix(".part").rename(task.says)


def begin_and_be_killed(said: str) -> None:
    """Begin a worker process, and be killed before it has imported anything."""
    executor = Processes()
    executor.open(Job(say_whether_to_stop, Counting("r", says=said), "sqlite:///s.db", "s", "r"))
    executor.start([0])
    os.kill(os.getpid(), signal.SIGKILL)


def double(number: int) -> int:
    """Return twice a number; there is no double of 13."""
    if number == 13:
        raise StudyError("no double of 13")
    return 2 * number
