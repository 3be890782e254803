"""Real processes: killed, interrupted, several at once. Nothing told is lost, nothing is scored twice."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from zenopt.storage import open_storage

ARGUMENTS = ("optimize", "--study", "tiny.yaml", "--quiet")


def finished(folder: Path) -> int:
    """Finished trials in the database, read as an outsider; 0 while there is no database."""
    try:
        with sqlite3.connect(f"file:{folder / 'zenopt.db'}?mode=ro", uri=True, timeout=5) as connection:
            query = "select count(*) from trials where state in ('COMPLETE', 'PRUNED', 'FAIL')"
            return int(connection.execute(query).fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def wait_for(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def trials_of(folder: Path) -> list[optuna.trial.FrozenTrial]:
    study = optuna.load_study(study_name="tiny", storage=open_storage(f"sqlite:///{folder / 'zenopt.db'}"))
    return study.get_trials()


@pytest.mark.skipif(os.name == "nt", reason="kill -9 needs POSIX signals")
def test_a_killed_study_resumes_as_if_it_had_not_been(
    start: Callable, spec_file: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "tiny.yaml").write_text(spec_file.read_text())
    process = start(*ARGUMENTS, "--trials", "14", "--workers", "1", cwd=whole)
    assert process.wait(timeout=600) == 0

    for kill_after in (3, 8):
        process = start(*ARGUMENTS, "--trials", "14", "--workers", "1", cwd=tmp_path)
        wait_for(lambda after=kill_after: finished(tmp_path) >= after)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = {trial.number: trial.values for trial in trials_of(tmp_path) if trial.state.is_finished()}
    left = 14 - len(before)
    if left > 0:
        assert start(*ARGUMENTS, "--trials", str(left), "--workers", "1", cwd=tmp_path).wait(timeout=600) == 0

    resumed = [trial for trial in trials_of(tmp_path) if trial.number < 14]
    uninterrupted = trials_of(whole)
    assert [trial.number for trial in resumed] == list(range(14))
    assert all(trial.state == optuna.trial.TrialState.COMPLETE for trial in resumed)
    assert all(resumed[number].values == values for number, values in before.items() if number < 14)
    for ours, theirs in zip(resumed, uninterrupted, strict=True):
        assert ours.user_attrs["structure"] == theirs.user_attrs["structure"]
        assert ours.values == theirs.values


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_ends_with_a_summary(start: Callable, spec_file: Path, tmp_path: Path, workers: str) -> None:
    process = start(
        "optimize", "--study", "tiny.yaml", "--trials", "5000", "--workers", workers, cwd=tmp_path
    )
    wait_for(lambda: finished(tmp_path) >= 2)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 130, err
    assert "interrupted" in out and "Best: trial" in out
    assert "Traceback" not in err
    assert not [trial for trial in trials_of(tmp_path) if not trial.state.is_finished()]


def begun_by(parent: int) -> int:
    """Count the processes that a process has spawned to work."""
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state = (process / "stat").read_text().rpartition(")")[2].split()
            found += int(state[1]) == parent and b"spawn_main" in (process / "cmdline").read_bytes()
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs to see other processes")
def test_ctrl_c_reaches_no_worker_that_only_imports(start: Callable, spec_file: Path, tmp_path: Path) -> None:
    process = start("optimize", "--study", "tiny.yaml", "--trials", "5000", "--workers", "2", cwd=tmp_path)
    wait_for(lambda: begun_by(process.pid) == 2)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 130, err
    assert "0 trials in" in out and "interrupted" in out
    assert "Traceback" not in err and "exit code" not in err


def test_workers_share_the_trials_and_score_nothing_twice(
    start: Callable, spec_file: Path, tmp_path: Path
) -> None:
    process = start(*ARGUMENTS, "--trials", "21", "--workers", "3", cwd=tmp_path)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    trials = trials_of(tmp_path)
    assert [trial.number for trial in trials] == list(range(21))
    assert {trial.state for trial in trials} == {optuna.trial.TrialState.COMPLETE}
    scored = Counter(
        trial.user_attrs["structure"] for trial in trials if "duplicate_of" not in trial.user_attrs
    )
    assert max(scored.values()) == 1


@pytest.mark.slow
def test_two_commands_share_a_study(start: Callable, spec_file: Path, tmp_path: Path) -> None:
    processes = [start(*ARGUMENTS, "--trials", "8", "--workers", "1", cwd=tmp_path) for _ in range(2)]
    for process in processes:
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
    assert sorted(trial.number for trial in trials_of(tmp_path)) == list(range(16))
