"""The report as a file: what stands in it, checked without a browser."""

from __future__ import annotations

import re
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import optuna
import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs
from report_pages import content_of, unpack

from zenopt.report import write_report
from zenopt.report.figures import POINTS
from zenopt.report.reading import read_study
from zenopt.storage import open_storage
from zenopt.study.spec import StudySpec
from zenopt.study.study import join_study, load_study

_VOID = {"meta", "link", "br", "hr", "img", "input", "rect", "line", "path", "circle"}


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.ids: list[str] = []
        self.links: list[str] = []
        self.resources: list[str] = []
        self.plots: list[str] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.pictures = 0
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag not in _VOID:
            self.open.append(tag)
        if "id" in found:
            self.ids.append(str(found["id"]))
        if tag == "a":
            self.links.append(str(found["href"]))
        if tag in ("img", "script", "link", "iframe", "source"):
            self.resources += [str(found[key]) for key in ("src", "href") if key in found]
        if "data-figure" in found:
            self.plots.append(str(found["data-figure"]))
        self.pictures += tag == "svg"

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        else:
            self.words.append(data)

    @cached_property
    def content(self) -> dict[str, Any]:
        return content_of(self.text)

    @property
    def figures(self) -> dict[str, Any]:
        return self.content["figures"]


@pytest.fixture(scope="module")
def page(study: optuna.Study, tmp_path_factory: pytest.TempPathFactory) -> _Page:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report([study], path, top=3)
    return _Page(path.read_text(encoding="utf-8"))


def test_is_one_well_formed_file(page: _Page) -> None:
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert page.resources == ["data:,"]
    assert "default-src 'none'" in page.text
    for link in page.links:
        assert link.startswith("#") and link[1:] in page.ids
    assert unpack(page.text, "plotly") == get_plotlyjs()


def test_holds_every_figure(page: _Page) -> None:
    assert page.plots == [
        "best-trials", "best-time", "feasible", "timeline", "score-params", "score-macs", "score-layers",
        "closed-form", "stage-width", "stage-bottleneck", "stage-depth", "stage-kernel", "stage-type", "importances",
        "parallel",
    ]  # fmt: skip
    assert set(page.figures) == set(page.plots)
    for figure in page.figures.values():
        # Plotly checks every name and value.
        assert go.Figure(figure).data


def test_says_what_was_found(page: _Page, study: optuna.Study) -> None:
    text = " ".join(page.words)
    best = study.best_trial
    assert f"{best.value:.4f}" in text
    assert best.user_attrs["structure"] in text
    assert f"{best.user_attrs['params']:,}" in text
    assert "1 trial under way" in text
    assert "score is not finite: nan" in text
    # The best, and three side by side.
    assert page.pictures == 4


def test_budget_and_front_are_drawn(page: _Page, study: optuna.Study) -> None:
    figure = go.Figure(page.figures["score-params"])
    assert [shape.x0 for shape in figure.layout.shapes] == [1e6]
    traces = {trace.name: trace for trace in figure.data}
    assert set(traces) == {"candidate", "over budget", "Pareto front", "budget"}
    assert "Pareto front" in {trace.name for trace in go.Figure(page.figures["score-macs"]).data}


def test_large_studies_are_sampled_and_say_so(
    study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zenopt.report.figures.POINTS", 220)
    assert POINTS > 220
    section = write_report([study], tmp_path / "report.html")[0]
    figure = next(figure for figure in section.figures if figure.key == "score-macs")
    candidates = next(trace for trace in figure.figure.data if trace.name == "candidate")
    scored = read_study(study, 0.0).scored.sum()
    assert len(candidates.x) == 220 < scored
    assert f"220 of {scored} points" in figure.caption


def test_several_studies(study: optuna.Study, latency_study: optuna.Study, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report([study, latency_study], path, top=2)
    page = _Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert {
        "compare-trials",
        "compare-time",
        "compare-params",
        "s0-best-trials",
        "s1-score-latency-ms",
    } <= set(page.plots)
    assert set(page.figures) == set(page.plots)
    # A name is text, never markup.
    assert "<b>latency" not in page.text
    assert "<b>latency</b> & co" in " ".join(page.words)
    assert "not on one scale" in " ".join(page.words)
    # A click opens a trial of the study whose figure it is; common figures say it of each trace.
    for key, study_index in re.findall(r'data-figure="(s\d-[^"]*)" data-study="(\d)"', page.text):
        assert key.startswith(f"s{study_index}-")
    common = go.Figure(page.figures["compare-trials"])
    assert [trace.meta["study"] for trace in common.data] == [0, 1]
    assert [found["name"] for found in page.content["studies"]] == ["cifar", "<b>latency</b> & co"]
    limits = go.Figure(page.figures["s1-score-latency-ms"]).layout.shapes
    assert limits[0].x0 == pytest.approx(0.1 * 0.85)


def test_a_study_without_trials(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/empty.db")
    spec = StudySpec.load("demo")
    join_study(spec, storage, "empty", "cpu")
    section = write_report([load_study(storage, "empty")], tmp_path / "report.html")[0]
    assert section.networks == ()
    page = _Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert "no candidate within the budget yet" in " ".join(page.words)
