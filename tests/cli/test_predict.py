"""``zenopt predict``: what a study has learned, in units of its values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

CELLS = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|",
    "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|",
)
CHAIN = "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,1)"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zenopt: Callable) -> str:
    """Cells scored by their multiply-adds, fewest first: what is predicted can be counted."""
    monkeypatch.chdir(tmp_path)
    settings = ("--set", "proxy.name=macs", "--set", "sampler.name=random", "--set", "proxy.batch_size=2")
    done = zenopt("optimize", "--study", "nasbench201", "--trials", "30", "--workers", "1", *settings)
    assert done.code == 0, done.err
    return "nasbench201"


def test_predicts_what_can_be_counted(zenopt: Callable, study: str) -> None:
    found = zenopt("predict", "--study", study, *CELLS, "--json").json
    assert found["learned_from"] == {"full": 30, "short": 0} and "reads" in found["record"]
    large, small = found["networks"]
    for own in (large, small):
        true = zenopt("describe", f"nasbench201:{own['structure']}", "--json").json["macs"]
        assert own["mean"] == pytest.approx(true, rel=0.2)
        assert own["low"] < own["mean"] < own["high"]
        assert own["learned_from"] == 30
    assert large["mean"] > small["mean"]
    shown = zenopt("predict", "--study", study, CELLS[0])
    lines = shown.out.splitlines()
    assert lines[0].split()[0] == "mean" and "90% interval" in lines[0]
    # The network comes last, where a terminal has room for a long one below the numbers.
    assert lines[2].endswith(CELLS[0])
    assert "Learned from 30 evaluations" in shown.out and f"Learning from study {study}." in shown.err


def test_a_wider_probability_is_a_wider_interval(zenopt: Callable, study: str) -> None:
    def width(probability: str) -> float:
        found = zenopt("predict", "--study", study, CELLS[0], "--probability", probability, "--json").json
        return float(found["networks"][0]["high"] - found["networks"][0]["low"])

    assert width("0.5") < width("0.9") < width("0.99")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--study", "nasbench201", CHAIN), "expected CellArchitecture, got Architecture"),
        (("--study", "nasbench201", "timm:resnet18"), "is a library's model"),
        (("--study", "nasbench201", "nonsense"), "nonsense"),
        (("--study", "other", CELLS[0]), "No study 'other'"),
        (("--study", "nasbench201", CELLS[0], "--probability", "1"), "1"),
        (("--study", "nasbench201"), "Missing argument"),
    ],
)
def test_bad_input_is_one_line(
    zenopt: Callable, study: str, arguments: tuple[str, ...], message: str
) -> None:
    done = zenopt("predict", *arguments)
    assert done.code == 2 and message in done.err and "Traceback" not in done.err


def test_a_study_of_few_trials_says_so(zenopt: Callable, study: str) -> None:
    settings = ("--set", "proxy.name=macs", "--set", "sampler.name=random", "--study-name", "few")
    zenopt("optimize", "--study", "nasbench201", "--trials", "3", "--workers", "1", *settings)
    done = zenopt("predict", "--study", "few", CELLS[0])
    assert done.code == 2 and "needs 4 trials with values to learn from, study 'few' has 3" in done.err


def test_an_interval_of_accuracies_ends_where_they_do(
    zenopt: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    values = (12.0, 99.2, 35.0, 99.9, 5.0, 97.0, 64.0, 99.5, 20.0, 88.0)
    for name, scale in (("top1", 1.0), ("share", 0.01)):
        rows = [f"{width},{value * scale:g}" for width, value in enumerate(values, start=1)]
        Path(f"{name}.csv").write_text("\n".join([f"width,{name} accuracy", *rows]))
        study = {
            "name": name,
            "resolution": 32,
            "space": {"name": "columns", "options": {"parameters": ["width"]}},
            "objective": {"kind": "table", "table": f"{name}.csv", "column": f"{name} accuracy"},
            "sampler": {"name": "random"},
            "trials": 40,
        }
        Path(f"{name}.yaml").write_text(json.dumps(study))
        done = zenopt("optimize", "--study", f"{name}.yaml", "--workers", "1")
        assert done.code == 0, done.err
        found = zenopt("predict", "--study", name, "width=3", "--probability", "0.999", "--json").json
        (own,) = found["networks"]
        assert (own["low"], own["high"]) == (0.0, 100.0 * scale)
