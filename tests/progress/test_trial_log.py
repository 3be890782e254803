"""The numbers of a search in loggers."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from zenopt.cli import main
from zenopt.progress.trial_log import TrialLog
from zenopt.study.spec import StudySpec
from zenopt.train.loggers import LoggerError

CHANGES = [
    "proxy.name=params", "sampler={name: zen, screening: 'off'}", "budget={params: 1.0e+5}",
]  # fmt: skip


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_trial_is_logged_and_a_resumed_study_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = [
        "optimize",
        "--study",
        "demo",
        "--workers",
        "1",
        "--quiet",
        "--logger",
        "csv",
        "--logger",
        "tensorboard",
    ]
    for change in CHANGES:
        command += ["--set", change]
    main([*command, "--trials", "4"])
    first = rows(tmp_path / "runs/demo")
    assert [row["step"] for row in first] == ["0", "1", "2", "3"]
    assert list((tmp_path / "runs/demo/tensorboard").iterdir())
    main([*command, "--trials", "3"])
    found = rows(tmp_path / "runs/demo")
    assert found[:4] == first and [row["step"] for row in found[4:]] == ["4", "5", "6"]
    for part in (found[:4], found[4:]):
        best = None
        for row in part:
            if row["value"]:
                assert row["feasible"] == "1.0" and float(row["params"]) <= 1e5
                best = max(float(row["value"]), best or 0.0)
            assert row["best"] == ("" if best is None else str(best))


def test_a_logger_that_is_missing_is_said_before_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_spec: Callable[..., StudySpec]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(LoggerError, match="pip install wandb"):
        TrialLog(["wandb"], tiny_spec(), "tiny", "sqlite:///zenopt.db")
    assert not (tmp_path / "zenopt.db").exists()
