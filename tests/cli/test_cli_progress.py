"""What a run says of itself: a line per trial, and the log file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from optuna.trial import TrialState

from zenopt.progress.search import trial_line
from zenopt.storage.records import TrialRecord


def test_a_trial_in_a_line() -> None:
    attributes = {"params": 1234, "macs": 56789, "score_seconds": 0.25}
    line = trial_line(TrialRecord(7, 1, TrialState.COMPLETE, (1.5,), attributes))
    assert line.split() == [
        "trial",
        "7",
        "complete",
        "score",
        "1.500",
        "1,234",
        "params",
        "56,789",
        "MACs",
        "0.2",
        "s",
    ]
    over = TrialRecord(8, 2, TrialState.PRUNED, None, attributes, {"params": 0.1})
    assert "over budget" in trial_line(over) and "score" not in trial_line(over)
    failed = TrialRecord(9, 3, TrialState.FAIL, None, {"error": "score is [nan]"})
    assert "failed" in trial_line(failed) and trial_line(failed).endswith("score is [nan]")
    assert trial_line(TrialRecord(9, 3, TrialState.COMPLETE, (1.0,), {"duplicate_of": 2})).endswith(
        "same as trial 2"
    )


def test_verbose_and_log_file(zenopt: Callable, spec_file: Path, tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    arguments = ["optimize", "--study", str(spec_file), "--workers", "1", "--log-file", str(log)]
    done = zenopt(*arguments, "--trials", "2", "--verbose")
    assert done.code == 0
    assert [line.split()[:2] for line in done.err.splitlines() if line.startswith("trial")] == [
        ["trial", "0"],
        ["trial", "1"],
    ]
    assert "\x1b" not in done.err
    # Quiet is for the terminal; the file grows.
    done = zenopt(*arguments, "--trials", "1", "--quiet")
    assert done.code == 0 and not done.err
    lines = log.read_text(encoding="utf-8").splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", line) for line in lines)
    numbers = re.findall(r"^\S+ \S+  trial +(\d+) ", "\n".join(lines), re.MULTILINE)
    assert numbers == ["0", "1", "2"]
    assert sum("Study tiny in" in line for line in lines) == 2
    assert "3 trials" in lines[-4] and "SuperConv" in lines[-1]


def test_a_log_file_that_cannot_be_written_is_said_first(
    zenopt: Callable, spec_file: Path, tmp_path: Path
) -> None:
    done = zenopt("optimize", "--study", str(spec_file), "--log-file", str(tmp_path / "missing" / "run.log"))
    assert done.code == 2 and "No such file or directory" in done.err and done.err.count("\n") == 1
