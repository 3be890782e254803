"""What a report shows of a search that learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna

from zenopt.report.build import write_report
from zenopt.report.cards import learned
from zenopt.study.search import run_search
from zenopt.study.spec import StudySpec
from zenopt.study.study import load_study


def test_inputs_and_evidence_are_shown(tmp_path: Path, tiny_spec: Callable[..., StudySpec]) -> None:
    spec = tiny_spec(
        space={"name": "nasbench201", "options": {"operations": ["skip_connect", "nor_conv_3x3"]}},
        proxy={"name": "synflow-expected"},
        sampler={"name": "surrogate", "surrogate": {"begin": 3}},
        budget={},
        resolution=32,
    )
    result = run_search(spec, "memory:", "learns", trials=6, workers=1)
    study: optuna.Study = load_study(result.storage, "learns")
    write_report([study], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "What the search has learned" in page and "among 64 candidates" in page
    assert "began with the ranking by" in page and "nats" in page


def test_other_samplers_and_strange_records() -> None:
    assert learned({}) == ""
    text = learned({"record": "<b>", "learned_from": 3, "candidates": "many"})
    assert "&lt;b&gt;" in text and "<b>" not in text and "3 trials" in text
