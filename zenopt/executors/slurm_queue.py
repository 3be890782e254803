"""What SLURM says of jobs: whether it takes such ones, and how those are that it took."""

from __future__ import annotations

import logging
import os
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from zenopt.core.errors import ExecutorError
from zenopt.core.text import one_line
from zenopt.core.words import plural

#: Name of the jobs.
JOB_NAME = "zenopt"
#: States of jobs that do not come again by themselves; ``GONE``: SLURM knows them no more.
_FINAL = (
    *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("BOOT_FAIL", "DEADLINE", "PREEMPTED", "REVOKED", "GONE"),
)
#: Seconds between two questions, at first and later, and for an answer.
_SOON_S, _LATER_S, _ANSWER_S = 2.0, 10.0, 60.0
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Status:
    """How a job is, in SLURM's words; ``reason`` says why it waits."""

    state: str = "PENDING"
    reason: str = ""

    @property
    def is_final(self) -> bool:
        """Whether it is over."""
        return self.state in _FINAL


class Queue:
    """Jobs in SLURM's queue. ``squeue`` is asked: ``sacct`` answers only where a cluster keeps accounts."""

    def __init__(self) -> None:
        self._found: dict[str, Status] = {}
        self._began_s = self._asked_s = 0.0
        self._is_heard = True

    def follow(self, jobs: Sequence[str]) -> None:
        """Follow jobs that SLURM has taken."""
        self._found.update(dict.fromkeys(jobs, Status()))
        self.hurry()

    def hurry(self) -> None:
        """Ask soon again: something is about to change."""
        self._began_s, self._asked_s = time.monotonic(), 0.0

    def status(self, job: str) -> Status:
        """Return how a job was when SLURM was asked last, a few seconds ago at most."""
        now = time.monotonic()
        if now - self._asked_s > min(_LATER_S, _SOON_S + (now - self._began_s) / 10):
            self._asked_s = now
            self._ask()
        return self._found[job]

    def waiting(self, jobs: Collection[str]) -> str | None:
        """Return in words how many of some jobs wait, and for what."""
        pending = [self._found[job] for job in jobs if self._found[job].state == "PENDING"]
        if not pending:
            return None
        reasons = Counter(status.reason for status in pending if status.reason)
        return plural(len(pending), "job") + (f" ({', '.join(reasons)})" if reasons else "")

    def _ask(self) -> None:
        command = ["squeue", "--noheader", "--array", "--states=all", f"--name={JOB_NAME}"]
        try:
            lines = _answer([*command, f"--user={os.getuid()}", "--format=%i|%T|%r"]).splitlines()
        except ExecutorError as error:
            if self._is_heard:
                _logger.warning("SLURM does not say how the jobs are (%s); they go on by themselves.", error)
            self._is_heard = False
            return
        self._is_heard = True
        rows = (line.strip().split("|", 2) for line in lines if line.count("|") >= 2)
        now = {job: Status(state, "" if reason == "None" else reason) for job, state, reason in rows}
        self._found = {job: now.get(job, Status("GONE")) for job in self._found}


def check_script(script: str) -> None:
    """Ask SLURM whether it would take a job.

    Raises:
        ExecutorError: If not, with its reason.
    """
    _answer(["sbatch", "--test-only"], script)


def cancel(jobs: Sequence[str], *, pending_only: bool = False) -> None:
    """End jobs, or only those that have not begun.

    Raises:
        ExecutorError: If SLURM does not answer.
    """
    if jobs:
        # Some may be over already, of which it complains.
        _called(["scancel", *(["--state=PENDING"] if pending_only else []), *jobs])


def _answer(command: Sequence[str], text: str = "") -> str:
    found = _called(command, text)
    if found.returncode:
        raise ExecutorError(complaint(found.stderr) or f"{command[0]} ended with {found.returncode}")
    return found.stdout


def _called(command: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=_ANSWER_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ExecutorError(f"{command[0]}: no answer in {_ANSWER_S:g} s") from None
    except OSError as error:
        raise ExecutorError(one_line(f"{command[0]}: {error}", 200)) from None


def complaint(text: str) -> str:
    """Return what a command of SLURM complains of, in one line."""
    lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in text.strip().splitlines()]
    parts = [line.removeprefix("allocation failure: ").strip() for line in lines if line.strip()]
    return one_line("; ".join(dict.fromkeys(parts)), 300)
