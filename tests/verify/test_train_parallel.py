"""Independent jobs in several processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from zenopt.train.errors import TrainError
from zenopt.verify.parallel import run_jobs


def square(number: int) -> tuple[int, int, int]:
    return number * number, os.getpid(), torch.get_num_threads()


def fail_at_three(number: int) -> int:
    if number == 3:
        raise TrainError("three is too many.")
    return number


def die(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def leave_a_mark(path: Path) -> Path:
    path.write_text("done")
    return path


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_jobs(workers: int) -> None:
    told: list[tuple[int, int, int]] = []
    found = run_jobs(square, [3, 1, 2, 5], workers=workers, on_result=told.append)
    assert [item[0] for item in found] == [9, 1, 4, 25]
    assert sorted(told) == sorted(found)
    others = {item[1] for item in found} - {os.getpid()}
    assert len(others) == 0 if workers == 1 else 1 <= len(others) <= 2


def test_errors_of_a_job_are_raised_here(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="three is too many"):
        run_jobs(fail_at_three, [1, 2, 3, 4], workers=2)


def test_a_process_that_dies_is_named_and_not_waited_for() -> None:
    with pytest.raises(TrainError, match="A training process died"):
        run_jobs(die, [0, 1, 2], workers=2)


def test_a_single_job_needs_no_process(tmp_path: Path) -> None:
    assert run_jobs(leave_a_mark, [tmp_path / "mark"], workers=8) == [tmp_path / "mark"]
    assert run_jobs(square, [], workers=8) == []
