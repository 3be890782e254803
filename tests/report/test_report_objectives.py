"""Studies with several objectives: front and hypervolume, report, comparison, terminal."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import plotly.graph_objects as go
import pytest
from report_pages import figures_of
from report_studies import make_study
from rich.console import Console

import zenopt
from zenopt.cli import main
from zenopt.cli.watch import render
from zenopt.core.errors import StudyError
from zenopt.core.pareto import hypervolume
from zenopt.report import write_report
from zenopt.report.following import Follower
from zenopt.report.importances import importances, read_parameters
from zenopt.report.objectives import VOLUME_POINTS, hypervolume_history, objective_box, spread
from zenopt.report.reading import StudyData, read_study


@pytest.fixture(scope="module")
def data(multi_study: optuna.Study) -> StudyData:
    return read_study(multi_study, 0.0)


def test_front_agrees_with_optuna(data: StudyData, multi_study: optuna.Study) -> None:
    best = {trial.number: trial.values for trial in multi_study.best_trials}
    assert set(data.numbers[data.front].tolist()) == set(best)
    for position in data.front:
        assert data.objectives[position].tolist() == best[int(data.numbers[position])]
    scores = data.values[data.front]
    assert scores.tolist() == sorted(scores, reverse=True)
    assert data.top(3) == data.front[:3].tolist()
    assert data.directions == (True, False, False)


def test_the_best_are_those_of_the_first_fronts(data: StudyData) -> None:
    candidates = np.flatnonzero(data.scored)
    assert set(data.best_of(candidates, len(data.front))) == set(data.front)
    assert set(data.best_of(candidates, len(data.front) + 5)) > set(data.front)


def test_hypervolume_by_hand(tmp_path: Path) -> None:
    """Four trials: (0, 4), (2, 2), (1, 3) and (4, 0) in score and, lower being better, 10 less the second."""
    study = make_study(
        f"sqlite:///{tmp_path}/hand.db",
        "hand",
        8,
        preset="latency01ms",
        overrides=("objectives=[score, latency_ms]", "sampler.screening=off"),
    )
    data = read_study(study, 0.0)
    kept = np.flatnonzero(data.scored)[:4]
    data.objectives[:] = np.nan
    data.objectives[kept] = [(0, 6), (2, 8), (1, 7), (4, 10)]
    joined, shares = hypervolume_history(data)
    assert joined.tolist() == kept.tolist()
    # Of the box from 0 to 4 in both: nothing, then 2 x 2, then 1 more, then nothing new at the other end.
    assert shares * 16 == pytest.approx([0, 4, 5, 5])
    assert hypervolume_history(data, (np.array([0.0, -14.0]), np.array([4.0, -6.0])))[1][0] == 0
    assert spread(np.arange(10), 4).tolist() == [0, 3, 6, 9]
    assert spread(np.arange(3), 4).tolist() == [0, 1, 2]


def test_the_estimate_is_near_the_exact_volume(data: StudyData) -> None:
    joined, shares = hypervolume_history(data)
    assert np.all(np.diff(shares) >= 0)
    assert set(data.front) <= set(joined)
    low, high = objective_box([data])
    exact = hypervolume((data.points(data.front) - low) / (high - low), (0, 0, 0))
    assert shares[-1] == pytest.approx(exact, abs=4 * 0.5 / VOLUME_POINTS**0.5)


def test_report(multi_study: optuna.Study, data: StudyData, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    section = write_report([multi_study], path, top=3)[0]
    keys = [figure.key for figure in section.figures]
    assert keys[:5] == [
        "front-score-latency-ms", "front-score-params", "front-latency-ms-params",
        "hypervolume-trials", "hypervolume-time",
    ]  # fmt: skip
    # Costs that are objectives are not drawn twice; the rest is.
    assert "score-macs" in keys and "score-latency-ms" not in keys and "best-time" not in keys
    assert {"stage-width", "importances"} <= set(keys)
    assert section.front is not None and section.front.size == len(data.front)
    assert section.front.header == ("trial", "score ↑", "latency_ms ↓", "params ↓", "MACs")
    numbers = [network.number for network in section.networks]
    ends = data.numbers[data.front[[0, -1]]].tolist()
    assert [numbers[0], numbers[-1]] == ends and len(numbers) == 3
    text = path.read_text(encoding="utf-8")
    assert "The Pareto front" in text and 'id="best"' not in text
    figures = figures_of(text)
    front = next(t for t in go.Figure(figures["front-score-params"]).data if t.name == "Pareto front")
    assert sorted(numbers_of(front.customdata)) == sorted(data.numbers[data.front])


def test_importances_know_the_front(multi_study: optuna.Study, data: StudyData) -> None:
    sample = read_parameters(multi_study, data)
    assert len(sample.trials) == data.scored.sum()
    assert sum(importances(data, sample).values()) == pytest.approx(1.0)


def test_comparison_shares_one_box(
    multi_study: optuna.Study, study: optuna.Study, url: str, tmp_path: Path
) -> None:
    objectives = ("objectives=[score, latency_ms, params]", "sampler.screening=off")
    other = make_study(
        f"sqlite:///{tmp_path}/other.db", "multi", 40, preset="latency01ms", seed=1, overrides=objectives
    )
    output = tmp_path / "report.html"
    arguments = ["--storage", url, "--compare", f"sqlite:///{tmp_path}/other.db#multi", "-o", str(output)]
    assert run("report", "--study", "multi", *arguments) == 0
    text = output.read_text(encoding="utf-8")
    assert f"multi in sqlite:///{tmp_path}/other.db" in text
    figures = figures_of(text)
    traces = go.Figure(figures["compare-hypervolume-trials"]).data
    datas = [read_study(found, 0.0) for found in (multi_study, other)]
    box = objective_box(datas)
    for trace, data in zip(traces, datas, strict=True):
        assert numbers_of(trace.y)[-1] == pytest.approx(hypervolume_history(data, box)[1][-1])
    # With a study of one objective only the scores compare.
    assert run("report", "--study", "multi", "--storage", url, "--compare", "cifar", "-o", str(output)) == 0
    assert "compare-hypervolume" not in output.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("sqlite:///other.db", "write URL#NAME"),
        ("sqlite:///other.db#", "write URL#NAME"),
        ("sqlite:///none.db#multi", "does not exist"),
        ("none", "stored studies"),
    ],
)
def test_bad_comparisons_are_told(
    multi_study: optuna.Study, url: str, capsys: pytest.CaptureFixture, other: str, message: str
) -> None:
    assert run("report", "--study", "multi", "--storage", url, "--compare", other) == 2
    assert message in capsys.readouterr().err


def test_watch(multi_study: optuna.Study, data: StudyData, url: str, capsys: pytest.CaptureFixture) -> None:
    look = Follower(multi_study).look()
    assert look.front == len(data.front)
    assert look.best is not None and look.best.number == data.numbers[data.front[0]]
    joined, _ = hypervolume_history(data)
    assert look.improvements[0].number == data.numbers[joined[-1]]
    assert run("watch", "--study", "multi", "--storage", url, "--timeout", "0") == 0
    newest, facts = capsys.readouterr().out.splitlines()
    assert "on the front: trial" in newest and " ms, " in newest
    assert f"front {len(data.front)}" in facts
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(look, "multi", None, ("score", "latency_ms", "params")))
    lines = console.export_text().splitlines()
    assert all(len(line) <= 80 for line in lines) and any(" ms " in line for line in lines[2:4])


def test_studies_lists_the_front(
    multi_study: optuna.Study, data: StudyData, url: str, capsys: pytest.CaptureFixture
) -> None:
    assert run("studies", "--storage", url) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("multi"))
    assert f"(front of {len(data.front)})" in line


def test_python(multi_study: optuna.Study, study: optuna.Study, data: StudyData, url: str) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed (the extra 'frame')")
    result = zenopt.load_result("multi", url)
    assert f"{len(data.front)} networks on the front of score, latency_ms, params" in repr(result)
    assert [item.trial for item in result.pareto] == data.numbers[data.front].tolist()
    assert result.best == result.pareto[0] == result.top(2)[0]
    frame = result.frame()
    assert frame[frame["front"]]["number"].tolist() == sorted(data.numbers[data.front])
    assert result.plot_hypervolume("time").layout.yaxis.tickformat == ".0%"
    assert "Pareto front" in result.plot_pareto("latency_ms").layout.title.text
    assert result.front("macs")
    with pytest.raises(StudyError, match="single objective"):
        zenopt.load_result("cifar", url).plot_hypervolume()


def numbers_of(array: Any) -> np.ndarray:
    """Return an array as plotly's JSON has it: a list, or bytes in base 64."""
    if isinstance(array, dict):
        return np.frombuffer(base64.b64decode(array["bdata"]), array["dtype"])
    return np.asarray(array)


def run(*arguments: str) -> int:
    try:
        main([*arguments])
    except SystemExit as error:
        return int(error.code or 0)
    return 0
