from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import optuna
import pytest

from zenopt.cli import main


def run(*arguments: str) -> int:
    try:
        main([*arguments])
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def test_writes_a_report(
    study: optuna.Study, url: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    output = tmp_path / "report.html"
    assert run("report", "--study", "cifar", "--storage", url, "-o", str(output), "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["trials"] == [300]
    assert output.stat().st_size > 1e6


def test_compares(
    study: optuna.Study, latency_study: optuna.Study, url: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    output, other = str(tmp_path / "report.html"), latency_study.study_name
    assert run("report", "--study", "cifar", "--compare", other, "--storage", url, "-o", output) == 0
    assert "60 trials" in capsys.readouterr().out
    assert run("report", "--study", "cifar", other, "--storage", url, "-o", output) == 2
    assert "--compare" in capsys.readouterr().err


def test_writes_single_figures(study: optuna.Study, url: str, tmp_path: Path) -> None:
    common = ("report", "--study", "cifar", "--storage", url)
    picture = tmp_path / "best.svg"
    assert run(*common, "--figure", "network", "-o", str(picture)) == 0
    assert f"trial {study.best_trial.number}" in str(ET.parse(picture).getroot().attrib["aria-label"])
    assert run(*common, "--figure", "network-trial-3", "-o", str(tmp_path / "three.svg")) == 0
    assert "trial 3" in (tmp_path / "three.svg").read_text(encoding="utf-8")
    assert run(*common, "--figure", "best-time", "-o", str(tmp_path / "best.json")) == 0
    assert json.loads((tmp_path / "best.json").read_text(encoding="utf-8"))["data"]


@pytest.mark.parametrize(
    ("figure", "output", "message"),
    [
        ("nonsense", "x.svg", "figures are network, network-trial-N, best-trials"),
        ("network", "x.png", "written as .svg"),
        ("network-trial-9999", "x.svg", "no trial 9999"),
        ("network-trial-x", "x.svg", "no trial x"),
        ("best-time", "x.gif", "written as .svg, .png"),
    ],
)
def test_bad_figures_are_one_line(
    study: optuna.Study,
    url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    figure: str,
    output: str,
    message: str,
) -> None:
    output = str(tmp_path / output)
    assert run("report", "--study", "cifar", "--storage", url, "--figure", figure, "-o", output) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_images_without_kaleido_say_what_to_do(
    study: optuna.Study,
    url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)
    output = str(tmp_path / "x.png")
    assert run("report", "--study", "cifar", "--storage", url, "--figure", "best-time", "-o", output) == 2
    assert "pip install 'zenopt[figures]'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x.pdf", "x.svg", "report", "x.png"])
def test_a_report_is_html(
    study: optuna.Study, url: str, tmp_path: Path, capsys: pytest.CaptureFixture, name: str
) -> None:
    output = tmp_path / name
    assert run("report", "--study", "cifar", "--storage", url, "-o", str(output)) == 2
    error = capsys.readouterr().err
    assert "name it .html" in error and name in error and error.count("\n") == 1
    assert not output.exists()


def test_unwritable_output(
    study: optuna.Study, url: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    output = str(tmp_path / "missing" / "report.html")
    assert run("report", "--study", "cifar", "--storage", url, "-o", output) == 2
    assert "No such file or directory" in capsys.readouterr().err


def test_missing_storage_is_not_created(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "none.db"
    assert run("report", "--study", "x", "--storage", f"sqlite:///{path}") == 2
    assert not path.exists()
