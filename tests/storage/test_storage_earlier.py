"""A study stored by version 0.1 (commit 0b8bc30) opens, reads, resumes and reports."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from zenopt.report import write_report
from zenopt.storage import StudyHistory, open_storage, top
from zenopt.study.study import load_study, open_existing, read_status

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "study_0_1.db.gz"


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """The database: 12 completed trials, one failed, one pruned, one of a worker that was killed, one that waits."""
    path = tmp_path / "zenopt.db"
    path.write_bytes(gzip.decompress(FIXTURE.read_bytes()))
    return path


def test_it_reads(stored: Path) -> None:
    study = load_study(open_existing(str(stored)), "demo")
    stock = optuna.load_study(study_name="demo", storage=f"sqlite:///{stored}")
    assert study.trials == stock.trials
    status = read_status(study)
    assert (status.complete, status.failed, status.pruned, status.running, status.waiting) == (12, 1, 1, 1, 1)
    assert status.best is not None and (status.best.number, round(status.best.value or 0, 3)) == (11, 32.959)
    records = StudyHistory(study, ["params"]).sync()
    assert [r.value for r in records] == [t.value for t in stock.trials]
    assert [r.is_feasible for r in records[:14]] == [True] * 13 + [False]
    assert top(study, 1)[0].params == stock.trials[11].params


def test_it_resumes(stored: Path) -> None:
    before = optuna.load_study(study_name="demo", storage=f"sqlite:///{stored}").trials
    command = [
        sys.executable,
        "-m",
        "zenopt",
        "optimize",
        "--study-name",
        "demo",
        "--trials",
        "4",
        "--workers",
        "1",
    ]
    done = subprocess.run(
        [*command, "--storage", str(stored), "--quiet"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    trials = load_study(open_storage(str(stored)), "demo").trials
    assert trials[:14] == before[:14]
    assert [t.number for t in trials] == list(range(18))
    # The killed worker's trial and the one that waited are run first, under their numbers.
    assert all(t.state.is_finished() for t in trials) and trials[17].state == TrialState.COMPLETE
    assert trials[14].params["stem.width"] == 48 and trials[15].params["stem.width"] == 64


def test_it_reports(stored: Path, tmp_path: Path) -> None:
    (section,) = write_report([load_study(open_existing(str(stored)), "demo")], tmp_path / "report.html")
    assert section.data.size == 16
