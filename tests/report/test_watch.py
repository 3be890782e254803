from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from report_studies import make_study
from rich.console import Console

from zenopt.cli import main
from zenopt.cli.watch import _cost, render
from zenopt.report.following import Follower
from zenopt.storage import current_worker
from zenopt.storage.records import TrialRecord


def run(*arguments: str) -> int:
    try:
        main([*arguments])
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def _running(worker: str) -> optuna.trial.FrozenTrial:
    return optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs={"worker": worker})


def test_look_agrees_with_optuna(study: optuna.Study) -> None:
    look = Follower(study).look()
    states = [trial.state for trial in study.trials]
    assert look.finished == 299
    assert look.feasible == states.count(TrialState.COMPLETE)
    assert look.settled == look.feasible + states.count(TrialState.PRUNED)
    assert look.failed == states.count(TrialState.FAIL)
    assert look.best is not None and look.best.number == study.best_trial.number
    assert look.improvements[0].number == look.best.number
    assert (look.workers, look.dead, look.alive) == (1, 0, 1)


def test_look_reads_what_is_new(tmp_path: Path) -> None:
    study = make_study(f"sqlite:///{tmp_path}/watch.db", "watch", 30)
    follower = Follower(study)
    first = follower.look()
    study.add_trial(_running(str(current_worker())))
    second = follower.look()
    # The worker of the test itself is one more.
    assert second.workers == first.workers + 1
    assert second.finished == first.finished
    study.tell(30, 1e6)
    third = follower.look()
    assert third.finished == first.finished + 1
    assert third.best is not None and third.best.value == 1e6
    assert third.improvements[0].number == 30
    assert third.workers == first.workers
    assert third.rate is not None and third.rate > 0
    assert third.seconds_to(third.finished + 10) == pytest.approx(10 / third.rate)
    assert third.seconds_to(third.finished) is None


def test_dead_workers_of_this_machine_are_seen(tmp_path: Path) -> None:
    study = make_study(f"sqlite:///{tmp_path}/dead.db", "dead", 12)
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    worker = current_worker()
    gone = f"{worker.host}:{child.pid}:{worker.start}"
    study.add_trial(_running(gone))
    look = Follower(study).look()
    assert (look.workers, look.dead) == (2, 1)
    assert not look.is_idle


def test_a_study_without_workers_is_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(f"sqlite:///{tmp_path}/idle.db", "idle", 12)
    follower = Follower(study)
    assert not follower.look().is_idle
    # The worker elsewhere has shown nothing for long.
    later = time.monotonic() + 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert follower.look().is_idle
    study.tell(11, state=TrialState.FAIL)
    assert follower.look().alive == 0


def test_plain_lines_in_a_pipe(study: optuna.Study, url: str, capsys: pytest.CaptureFixture) -> None:
    assert run("watch", "--study", "cifar", "--storage", url, "--timeout", "0") == 0
    output = capsys.readouterr().out
    better, facts = output.splitlines()
    assert f"better: trial {study.best_trial.number}" in better
    assert "trials 299" in facts and "workers 1" in facts
    assert "\x1b" not in output


def test_until_idle_ends(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    url = f"sqlite:///{tmp_path}/idle.db"
    study = make_study(url, "idle", 12)
    study.tell(11, state=TrialState.FAIL)
    assert run("watch", "--study", "idle", "--storage", url, "--until-idle", "--interval", "0.1") == 0
    assert capsys.readouterr().out.count("trials 12") == 2


def test_the_screen_fits_80_columns(study: optuna.Study) -> None:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(Follower(study).look(), "cifar", 1000))
    lines = console.export_text().splitlines()
    assert all(len(line) <= 80 for line in lines)
    text = "\n".join(lines)
    assert f"{study.best_value:.3f}" in text and "299/1,000" in text
    assert "SuperConvK3BNRELU" in text and "…" in text
    assert "The latest that were better than all before them:" in text


def test_unknown_studies_are_one_line(url: str, study: optuna.Study, capsys: pytest.CaptureFixture) -> None:
    assert run("watch", "--study", "none", "--storage", url) == 2
    assert "stored studies" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("params", "text"), [(999_600, "1M"), (999_400, "999k"), (25_040_000, "25M"), (812, "812"), (999.7, "1k")]
)
def test_costs_are_rounded_before_their_unit_is_chosen(params: float, text: str) -> None:
    assert _cost(TrialRecord(0, 0, TrialState.COMPLETE, (1.0,), {"params": params}), "params") == text
