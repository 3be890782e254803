"""Short trainings in reports and on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import plotly.graph_objects as go
import pytest
from report_pages import content_of, figures_of, make_trainings
from report_studies import make_study

from zenopt.cli import main
from zenopt.cli.report import _summary as summary_of
from zenopt.cli.trainings import describe_trainings
from zenopt.export.bundle import Bundle
from zenopt.report import write_report
from zenopt.report.reading import read_study
from zenopt.report.training_figures import training_table
from zenopt.report.trainings import parent_of, read_trainings
from zenopt.storage.tables import engine_of
from zenopt.study.exported import read_export, record_export
from zenopt.study.study import load_study

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(trained_study: optuna.Study, capsys: pytest.CaptureFixture[str]) -> Run:
    engine = engine_of(trained_study._storage)
    assert engine is not None

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            main([*arguments, "--storage", str(engine.url)])
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def test_reading(trained_study: optuna.Study) -> None:
    (found,) = read_trainings(trained_study)
    assert (found.name, found.parent, found.kind) == ("small-trained", "small", "second stage")
    assert len(found.networks) == 5 and found.count == 6
    best = found.networks[0]
    assert best.finished == (60.0, 61.0) and best.mean == 60.5
    assert best.runs[0].epochs == (1, 2, 3) and best.facts["params"] > 0
    assert found.networks[-1].finished == ()
    assert found.winner is not None and found.winner.structure == best.structure
    assert found.winner.test_top1 == 59.25
    linked = load_study(trained_study._storage, "small-trained")
    assert parent_of(linked) == "small" and read_trainings(linked) == [found]
    assert found.summary() == "5 networks, 6 trainings, 1 pruned"


def test_a_study_that_only_has_such_a_name(trained_study: optuna.Study, tmp_path: Path) -> None:
    study = make_study(f"sqlite:///{tmp_path}/other.db", "a", 30)
    optuna.create_study(storage=study._storage, study_name="a-trained").add_trial(
        optuna.trial.create_trial(value=1.0)
    )
    assert read_trainings(study) == []


def test_the_report_shows_winner_and_best(trained_study: optuna.Study, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    (section,) = write_report([trained_study], path, top=2)
    winner, best = section.chosen
    data = read_study(trained_study, 0.0)
    assert (winner.key, best.key) == ("winner", "best")
    assert best.network.number == trained_study.best_trial.number != winner.network.number
    assert "60.50 % on held-back images (mean of 2 seeds)" in winner.reason
    assert ("accuracy, test images", "59.25 %") in winner.network.facts
    text = path.read_text(encoding="utf-8")
    assert "Winner and best score" in text and "Networks by accuracy" in text
    figures = figures_of(text)
    assert {"trained-score", "trained-curves", "trained-agreement"} <= set(figures)
    curves = go.Figure(figures["trained-curves"])
    assert len(curves.data) == 6 and {trace.name for trace in curves.data} == {"class 0", "class 1"}
    # A click on a curve opens the trial of the search.
    assert curves.data[-1].customdata[0][0] == winner.network.number
    assert str(winner.network.number) in content_of(text)["studies"][0]["pictures"]
    assert data.structures[winner.network.number] == winner.network.structure


def test_the_linked_studys_own_report(trained_study: optuna.Study, tmp_path: Path, run: Run) -> None:
    path = tmp_path / "report.html"
    code, out, err = run("report", "--study", "small-trained", "-o", str(path))
    assert code == 0, err
    assert "small-trained with 6 trainings (second stage)" in out
    text = path.read_text(encoding="utf-8")
    assert set(figures_of(text)) == {"trained-score", "trained-curves", "trained-agreement"}
    assert "Winner of the second stage" in text and "Best score over trials" not in text
    assert "data-trials" not in text.split("<script")[0]


@pytest.mark.parametrize(
    ("kind", "count", "words"),
    [("trainings", 18, "one with 18 trainings"), ("second stage", 1, "one with 1 training (second stage)")],
)
def test_a_studys_own_trainings_are_named_once(kind: str, count: int, words: str) -> None:
    section: Any = SimpleNamespace(
        name="one", shows_search=False, trainings=[SimpleNamespace(count=count, kind=kind)]
    )
    assert summary_of(section) == words


def test_comparing_second_stages(trained_study: optuna.Study, tmp_path: Path, run: Run) -> None:
    other = make_study(f"sqlite:///{tmp_path}/other.db", "other", 60, seed=3)
    make_trainings(other, 4, has_winner=False)
    path = tmp_path / "report.html"
    others = [f"sqlite:///{tmp_path}/other.db#other", f"sqlite:///{tmp_path}/other.db#other-trained"]
    code, _, err = run("report", "--study", "small", "--compare", *others, "-o", str(path))
    assert code == 0, err
    text = path.read_text(encoding="utf-8")
    assert "best accuracy, %" in text and "60.50" in text
    assert len(go.Figure(figures_of(text)["compare-accuracy"]).data) == 3


def test_status(run: Run) -> None:
    code, out, _ = run("status", "--study", "small")
    assert code == 0 and "Best: trial" in out
    assert "Winner: class class 0, top-1 60.50 % on held-back images (mean of 2 seeds), 59.25 %" in out
    code, out, _ = run("status", "--study", "small-trained")
    assert code == 0 and out.startswith("Study small-trained, second stage of small: 5 networks")
    code, out, _ = run("status", "--study", "small-trained", "--json")
    found = json.loads(out)["trainings"][0]
    assert found["networks"][0]["mean"] == 60.5 and found["winner"]["test_top1"] == 59.25


def test_export_of_a_linked_study_is_that_of_the_search(run: Run) -> None:
    # Its weights are only named here, so that what is exported can be seen from the message.
    code, _, err = run("export-best", "--study", "small-trained", "--output", "none")
    assert code == 2 and "exporting from small" in err and "weights of the winner of 'small'" in err


def test_rates_are_told_apart(tmp_path: Path) -> None:
    study = make_study(f"sqlite:///{tmp_path}/a.db", "a", 40)
    linked = make_trainings(study, 4)
    best = linked.best_trial
    linked.add_trial(
        optuna.trial.create_trial(
            value=99.0, intermediate_values={1: 99.0}, user_attrs={**best.user_attrs, "learning_rate": 8.0}
        )
    )
    (found,) = read_trainings(study)
    assert [network.learning_rate for network in found.networks[:2]] == [8.0, 0.5]
    assert found.networks[0].structure == found.networks[1].structure
    assert len(found.different()) == len(found.networks) - 1
    # One lucky rate is not what was chosen.
    assert found.best is found.networks[1] and found.is_winner(found.networks[1])


def test_scores_are_those_of_the_search(trained_study: optuna.Study, tmp_path: Path) -> None:
    (section,) = write_report([trained_study], tmp_path / "report.html", top=1)
    by_structure = {t.user_attrs["structure"]: t.value for t in trained_study.trials if t.value is not None}
    for network in section.trainings[0].networks:
        assert network.score == by_structure[network.structure]


def test_a_study_whose_trials_are_trainings(tmp_path: Path) -> None:
    overrides = ("objective.kind=train", "training.data=synthetic", "sampler.screening=off")
    study = make_study(f"sqlite:///{tmp_path}/a.db", "a", 30, overrides=overrides)
    (empty,) = read_trainings(study)
    assert (empty.kind, empty.networks) == ("trainings", ())
    first = study.best_trial
    for seed, accuracy in ((0, 50.0), (1, 54.0)):
        attributes = {**first.user_attrs, "training_seed": seed, "learning_rate": 0.1, "label": None}
        curve = {1: 30.0, 2: accuracy}
        study.add_trial(
            optuna.trial.create_trial(value=accuracy, intermediate_values=curve, user_attrs=attributes)
        )
    structure = first.user_attrs["structure"]
    chosen = {
        "candidate": {"structure": structure, "label": "all"},
        "learning_rate": 0.1,
        "top1": [50.0, 54.0],
    }
    for expected in (None, 51.25):
        content = {"verified": [{**chosen, "expected": expected}], "test_top1": 53.0, "weights": "last.pt"}
        study.set_user_attr("zenopt:winner", content)
        (section,) = write_report([study], tmp_path / "report.html", top=1)
        assert section.chosen[0].title == "Winner of the trainings"
        because = "Of all networks it trained best" if expected is None else "expects most of it, 51.25 %"
        assert f"{because}: 52.00 % on held-back images (mean of 2 seeds)" in section.chosen[0].reason
    (found,) = section.trainings
    assert "(mean of 2 seeds) (51.25 % expected, the most)" in " ".join(describe_trainings(found).split())
    assert [network.mean for network in found.networks] == [52.0]
    curves = next(figure for figure in section.figures if figure.key == "trained-curves")
    assert len(curves.figure.data) == 2
    # An accuracy is on no scale of Zen-scores: no line where both are equal, and nothing drawn at its closed form.
    formula = next(figure for figure in section.figures if figure.key == "closed-form")
    assert [trace.name for trace in formula.figure.data] == ["candidate"]
    assert not any("closed form" in figure.caption for figure in section.figures if "score-" in figure.key)
    # Without classes there is no column of them.
    header, rows = training_table(found, {})
    assert header[0] == "accuracy, %" and all(len(row) == len(header) for row in rows)
    assert (
        "top-1 accuracy"
        in next(f for f in section.figures if f.key == "best-trials").figure.layout.yaxis.title.text
    )


def test_why_another_network_was_exported(tmp_path: Path) -> None:
    study = make_study(f"sqlite:///{tmp_path}/a.db", "a", 80)
    ranked = sorted((t for t in study.trials if t.value is not None), key=lambda trial: -trial.value)
    lucky, better = ranked[0], ranked[1]
    rows = [
        {"trial": trial.number, "structure": "", "search": trial.value, "mean": mean, "std": 0.1}
        for trial, mean in ((better, 80.0), (lucky, 79.0))
    ]
    bundle = Bundle(
        better.user_attrs["structure"], 32, 100, study="a", trial=better.number,
        scores={"values": [1.0] * 8}, candidates=tuple(rows),
    )  # fmt: skip
    record_export(study, bundle)
    found = read_export(load_study(study._storage, "a"))
    assert found is not None and (found.trial, found.repeats) == (better.number, 8)
    (section,) = write_report([study], tmp_path / "report.html", top=2)
    exported, best = section.chosen
    assert (exported.key, exported.network.number) == ("exported", better.number)
    assert "8 fresh draws" in exported.reason and f"trial {lucky.number}, was partly luck" in exported.reason
    assert [row[0] for row in exported.rows] == [str(better.number), str(lucky.number)]
    assert best.network.number == lucky.number and "not what `export-best` writes" in best.reason
    # The best itself: one network, and the page says so.
    record_export(
        study,
        Bundle(lucky.user_attrs["structure"], 32, 100, trial=lucky.number, candidates=tuple(rows[::-1])),
    )
    (section,) = write_report([study], tmp_path / "report.html", top=2)
    assert [item.title for item in section.chosen] == ["Best network, exported"]
