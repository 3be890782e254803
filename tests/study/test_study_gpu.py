"""Studies on a CUDA device: workers that share it, trainings as trials, the commands around them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from gpu import DEVICE, NEEDS_GPU
from optuna.trial import TrialState
from structures import TWO_HALVINGS

from zenopt.cli import main
from zenopt.storage import open_storage
from zenopt.study.search import run_search
from zenopt.study.spec import StudySpec
from zenopt.study.study import join_study, load_study

pytestmark = NEEDS_GPU

TRAINING = {
    "objective": {"kind": "train"},
    "training": {"data": "synthetic:320", "epochs": 1, "held_back": 0.2, "rates": [2.0], "seeds": 1, "finalists": 2},
    "resolution": 32,
}  # fmt: skip


def run(arguments: list[str]) -> None:
    """Run a command in this process; it must end well."""
    try:
        main(arguments)
    except SystemExit as ended:
        assert not ended.code, arguments


def test_two_workers_share_one_gpu(tiny_spec: Callable[..., StudySpec], tmp_path: Path) -> None:
    spec = tiny_spec(proxy={"name": "zen", "batch_sizes": {"cpu": 2, "cuda": 4}})
    url = f"sqlite:///{tmp_path / 'study.db'}"
    result = run_search(spec, url, "shared", trials=8, workers=2, devices=(DEVICE, DEVICE))
    assert not result.failures
    study = load_study(open_storage(url), "shared")
    done = [trial for trial in study.get_trials() if trial.state == TrialState.COMPLETE]
    measured = [trial.user_attrs for trial in done if trial.user_attrs.get("device")]
    assert measured and {attributes["device"] for attributes in measured} == {DEVICE}
    assert join_study(spec, open_storage(url), "shared", DEVICE).proxy.batch_size == 4


def test_one_gpu_named_twice_is_two_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(["optimize", "--study", "demo", "--trials", "4", "--devices", f"{DEVICE},{DEVICE}"])  # fmt: skip
    study = load_study(open_storage("sqlite:///zenopt.db"), "demo")
    assert sum(trial.state == TrialState.COMPLETE for trial in study.get_trials()) == 4


def test_four_trainings_at_a_time_on_one_gpu(tiny_spec: Callable[..., StudySpec], tmp_path: Path) -> None:
    spec = tiny_spec(**TRAINING, sampler={"name": "random"}, budget={"params": 1_000_000})
    url = f"sqlite:///{tmp_path / 'study.db'}"
    result = run_search(spec, url, "trained", trials=6, workers=4, devices=(DEVICE,), runs=tmp_path / "runs")
    assert not result.failures
    trials = load_study(open_storage(url), "trained").get_trials()
    trained = [trial for trial in trials if trial.intermediate_values]
    assert trained and all(trial.state == TrialState.COMPLETE for trial in trained)
    assert {trial.user_attrs["device"] for trial in trained} == {DEVICE}
    assert len(list((tmp_path / "runs").rglob("last.pt"))) == len(trained)


def test_score_and_verify_on_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(["score", TWO_HALVINGS, "--resolution", "32", "--device", DEVICE])
    run(["optimize", "--study", "demo", "--trials", "3", "--device", DEVICE, "--workers", "1"])  # fmt: skip
    run(["verify", "--study", "demo", "--data", "synthetic:320", "--epochs", "1",
         "--top", "1", "--seeds", "1", "--baselines", "0", "--device", DEVICE])  # fmt: skip


def test_the_doctor_names_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run(["doctor"])
    told = " ".join(capsys.readouterr().out.split())
    assert torch.cuda.get_device_name(0) in told and "GiB free" in told
