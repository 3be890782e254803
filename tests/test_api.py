"""Searching from Python."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import optuna
import plotly.graph_objects as go
import pytest
import torch

import zenopt
from zenopt.core.errors import StorageError, StudyError, ZenoptError
from zenopt.export.bundle import read_bundle
from zenopt.report.reading import StudyData
from zenopt.storage import open_storage
from zenopt.study.exported import read_export
from zenopt.study.search import Progress
from zenopt.study.spec import StudySpec
from zenopt.study.study import join_study

TRIALS = 16


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('api')}/studies.db"


@pytest.fixture
def result(url: str, tiny_spec: Callable[..., StudySpec]) -> zenopt.Result:
    """A finished study; the search itself runs once."""
    try:
        return zenopt.load_result("tiny", url)
    except ZenoptError:
        return zenopt.optimize(tiny_spec(), url, n_trials=TRIALS)


def test_importing_zenopt_is_light() -> None:
    code = (
        "import sys, zenopt; assert 'optimize' in dir(zenopt); "
        "heavy = {'torch', 'optuna', 'plotly', 'pydantic', 'numpy'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'optimise'"):
        zenopt.optimise  # noqa: B018


def test_a_search_and_its_best(result: zenopt.Result) -> None:
    assert result.name == "tiny"
    data = result.data
    assert data.size == TRIALS
    best = result.best
    assert best.score == max(data.values[data.scored])
    assert best.structure == str(best.architecture)
    counts = zenopt.count(best.architecture, 8, 10)
    assert (best.costs["params"], best.costs["macs"]) == (counts.params, counts.macs)
    assert best.costs["params"] <= 40_000
    assert f"{TRIALS} trials" in repr(result)
    top = result.top(5)
    assert top[0] == best
    assert [item.score for item in top] == sorted((item.score for item in top), reverse=True)
    assert len({item.structure for item in top}) == len(top) == 5


def test_the_front_is_what_nothing_beats(result: zenopt.Result) -> None:
    front = result.pareto
    assert front == result.front("params")
    everyone = result.top(TRIALS)
    for item in front:
        better = [
            other
            for other in everyone
            if other.score > item.score and other.costs["params"] <= item.costs["params"]
        ]
        assert not better
    assert front[-1].score == result.best.score
    assert min(item.costs["params"] for item in everyone) == front[0].costs["params"]
    with pytest.raises(StudyError, match=r"no cost 'latency_ms'; it has params, macs"):
        result.front("latency_ms")
    with pytest.raises(StudyError, match=r"no figure of the cost 'flops'; it has params, macs, layers"):
        result.plot_pareto("flops")


def test_the_frame_has_a_row_per_trial(result: zenopt.Result) -> None:
    pd = pytest.importorskip("pandas")
    frame = result.frame()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == TRIALS
    assert list(frame.columns[:4]) == ["number", "state", "value", "feasible"]
    kept = frame[(frame.state == "COMPLETE") & frame.feasible]
    assert kept.value.max() == result.best.score
    assert frame.set_index("number").loc[result.best.trial, "structure"] == result.best.structure
    assert (kept.seconds >= 0).all()


def test_no_pandas_is_said_so(result: zenopt.Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ZenoptError, match="needs the package pandas"):
        result.frame()


@pytest.mark.parametrize(
    ("draw", "shows"),
    [
        (lambda r: r.plot_history(), "best so far"),
        (lambda r: r.plot_history("time"), "best so far"),
        (lambda r: r.plot_feasible(), "within budget"),
        (lambda r: r.plot_pareto(), "Pareto front"),
        (lambda r: r.plot_pareto("macs"), "Pareto front"),
        (lambda r: r.plot_closed_form(), "candidate"),
        (lambda r: r.plot_timeline(), "candidate"),
    ],
)
def test_figures(result: zenopt.Result, draw: Callable[[zenopt.Result], go.Figure], shows: str) -> None:
    figure = draw(result)
    assert isinstance(figure, go.Figure)
    assert shows in [trace.name for trace in figure.data]
    assert figure.layout.title.text


def test_figures_draw_the_study(result: zenopt.Result) -> None:
    (front,) = [trace for trace in result.plot_pareto().data if trace.name == "Pareto front"]
    assert list(front.y) == [item.score for item in result.pareto]
    (best,) = [trace for trace in result.plot_history().data if trace.name == "best so far"]
    assert best.y[-1] == result.best.score


def test_figures_that_need_more_trials_say_so(url: str, tiny_spec: Callable[..., StudySpec]) -> None:
    spec = tiny_spec()
    storage = open_storage(url)
    join_study(spec, storage, "empty", "cpu")
    empty = zenopt.load_result("empty", url)
    assert "nothing within the budget yet" in repr(empty)
    with pytest.raises(StudyError, match=r"'empty' has no candidate within the budget \(0 trials\)"):
        _ = empty.best
    with pytest.raises(StudyError, match="too few candidates"):
        empty.plot_stages()
    with pytest.raises(StudyError, match="too few candidates"):
        empty.plot_importances()
    with pytest.raises(StudyError, match="too few candidates"):
        empty.plot_parallel()
    with pytest.raises(StudyError, match="too few candidates"):
        empty.plot_timeline()
    with pytest.raises(StudyError, match="has no trials yet"):
        empty.export("never")
    assert "result.refresh()" in empty._repr_html_() and "<svg" not in empty._repr_html_()


class _Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in ("rect", "line", "path", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "line", "path", "circle"):
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_notebooks_show_cards(result: zenopt.Result) -> None:
    study, best = _Tags(result._repr_html_()), _Tags(result.best._repr_html_())
    assert study.open == best.open == []
    words = " ".join(study.words)
    for shown in (
        f"Study {result.name}",
        result.best.structure,
        f"trial {result.best.trial}",
        "result.export(",
    ):
        assert shown in words
    words = " ".join(best.words)
    for shown in (f"Trial {result.best.trial}", result.best.structure, f"{result.best.costs['params']:,}"):
        assert shown in words
    assert "build_network(candidate.architecture, num_classes=10)" in words
    # The picture brings its own style: a notebook has none for it.
    picture = result.best._repr_html_().partition("<svg")[2]
    assert "<style>" in picture and "<svg" not in picture
    assert "spec" not in repr(result.best)


def test_parallel_coordinates(url: str, tiny_spec: Callable[..., StudySpec]) -> None:
    many = zenopt.optimize(tiny_spec(proxy={"name": "zen-closed-form"}), url, "many", n_trials=40)
    figure = many.plot_parallel()
    assert {trace.name for trace in figure.data} == {"the best tenth", "the better half", "the rest"}
    axes = figure.layout.xaxis.ticktext
    assert axes[0].startswith("score") and "params" in axes and any("stage" in axis for axis in axes)
    # One line a candidate: as many points as axes, and a gap.
    drawn = sum(len(trace.x) for trace in figure.data) / (len(axes) + 1)
    assert drawn == many.data.scored.sum()
    best = next(trace for trace in figure.data if trace.name == "the best tenth")
    assert best.customdata[0][0] == many.best.trial and best.y[0] == 1.0


def test_export_and_report(url: str, tiny_spec: Callable[..., StudySpec], tmp_path: Path) -> None:
    # What was exported is what cards of a study show from then on.
    result = zenopt.optimize(tiny_spec(), url, "exported", n_trials=8)
    folder = result.export(tmp_path / "bundle", top=2, repeats=2)
    bundle = read_bundle(folder)
    assert bundle.trial in {item.trial for item in result.top(2)}
    assert len(bundle.scores["values"]) == 2  # type: ignore[index]
    with pytest.raises(ZenoptError, match="already"):
        result.export(folder, top=1, repeats=1)
    recorded = read_export(result.study)
    assert recorded is not None and (recorded.trial, recorded.repeats) == (bundle.trial, 2)
    assert result.report(tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_a_study_goes_on(url: str, tiny_spec: Callable[..., StudySpec]) -> None:
    first = zenopt.optimize(tiny_spec(), url, "on", n_trials=3)
    assert first.data.size == 3
    seen: list[Progress] = []
    second = zenopt.optimize(tiny_spec(), url, study_name="on", n_trials=2, progress=seen.append)
    assert second.run is not None
    assert (second.run.done, second.data.size) == (2, 5)
    # Read once, until asked to look again.
    assert first.data.size == 3
    assert first.refresh().data.size == 5
    assert seen[-1].done == 2
    with pytest.raises(StudyError, match="differ"):
        zenopt.optimize(tiny_spec(), url, "on", n_trials=1, overrides=["budget.params=3e4"])


def test_a_study_in_memory_from_a_dict(
    tiny_spec: Callable[..., StudySpec], capsys: pytest.CaptureFixture[str]
) -> None:
    content = tiny_spec(trials=4).model_dump(mode="json")
    result = zenopt.optimize(content, "memory:", overrides=["seed=3"], progress=True)
    assert result.data.size == 4
    assert isinstance(result.data, StudyData)
    assert np.isfinite(result.best.score)
    assert "Study tiny in memory:" in capsys.readouterr().err


def test_overrides_are_assignments_or_a_mapping(tiny_spec: Callable[..., StudySpec]) -> None:
    content = tiny_spec(trials=4).model_dump(mode="json")
    for overrides in (
        {"budget.params": 3e4, "trials": 1, "latency": None},
        ["budget.params=3e4", "trials=1", "latency=null"],
    ):
        for spec in (content, tiny_spec()):
            spec = zenopt.optimize(spec, "memory:", overrides=overrides, progress=False, n_trials=1).spec
            assert (spec.budget.params, spec.trials, spec.latency) == (30_000, 1, None)
    with pytest.raises(
        ZenoptError, match=r"--set: budget\.parameters: unknown key \(did you mean 'params'\?\)"
    ):
        zenopt.optimize("demo", overrides={"budget.parameters": 3})
    with pytest.raises(ZenoptError, match=r"--set: budget\.params: .* got a Tensor"):
        zenopt.optimize("demo", overrides={"budget.params": torch.zeros(3)})


def test_several_objectives_have_a_front(tiny_spec: Callable[..., StudySpec], tmp_path: Path) -> None:
    result = zenopt.optimize(tiny_spec(objectives=["score", "params"]), "memory:", n_trials=8)
    front = result.pareto
    assert front[0] == result.best
    assert [item.score for item in front] == sorted((item.score for item in front), reverse=True)
    sizes = [item.costs["params"] for item in front]
    assert sizes == sorted(sizes, reverse=True)
    assert result.top(2) == front[:2]
    assert "on the front of score, params" in repr(result)
    assert read_bundle(result.export(tmp_path / "bundle", top=1, repeats=1)).trial == result.best.trial
    frame = result.frame()
    assert frame[frame["front"]]["number"].tolist() == sorted(item.trial for item in front)


def test_the_callers_settings_are_kept(tiny_spec: Callable[..., StudySpec]) -> None:
    before = torch.get_num_threads(), optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    try:
        zenopt.optimize(tiny_spec(), "memory:", n_trials=1)
        assert (torch.get_num_threads(), optuna.logging.get_verbosity()) == (1, optuna.logging.ERROR)
    finally:
        torch.set_num_threads(before[0])
        optuna.logging.set_verbosity(before[1])


def test_errors_are_named(tmp_path: Path) -> None:
    with pytest.raises(ZenoptError, match="Unknown study preset 'cifar'"):
        zenopt.optimize("cifar", "memory:", n_trials=1)
    with pytest.raises(StorageError, match="does not exist"):
        zenopt.load_result("tiny", f"sqlite:///{tmp_path}/none.db")
    with pytest.raises(StudyError, match="memory has one worker"):
        zenopt.optimize("demo", "memory:", n_trials=4, workers=2)


@pytest.mark.slow
def test_several_workers(url: str, tiny_spec: Callable[..., StudySpec]) -> None:
    result = zenopt.optimize(tiny_spec(), url, "shared", n_trials=4, workers=2)
    assert result.data.size == 4
