"""``zenopt derive``: the best of a study as text, chosen as an export chooses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import zenopt as package
from zenopt.core.errors import StudyError
from zenopt.core.score import Score
from zenopt.core.statistics import average_ranks
from zenopt.study.evaluators.base import Evaluator


class Trainer(Evaluator):
    """Stands for an evaluator that works for hours: it must not be asked again."""

    keeps_files = True

    @classmethod
    def direction(cls, spec):  # type: ignore[no-untyped-def]
        return "maximize"

    @classmethod
    def label(cls, spec):  # type: ignore[no-untyped-def]
        return "accuracy"

    @classmethod
    def evaluate(cls, architecture, *, seed, settings, repeats=None, report=None):  # type: ignore[no-untyped-def]
        assert not Path("over").exists()
        value = float(package.count(architecture, 32, 10).params)
        return Score(value, source="accuracy", values=(value,), resolution=32, seed=seed, device="cpu")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def study(zenopt: Callable) -> str:
    """Cells whose scores are pure chance: the best of the search is a lucky draw."""
    settings = ("--set", "proxy.name=random", "--set", "sampler.name=random")
    done = zenopt("optimize", "--study", "nasbench201", "--trials", "12", "--workers", "1", *settings)
    assert done.code == 0, done.err
    return "nasbench201"


def test_it_is_what_an_export_chooses(zenopt: Callable, study: str) -> None:
    asked = ("--study", study, "--repeats", "3")
    bundle = zenopt("export-best", *asked, "--top", "5", "--output", "bundle", "--json").json
    done = zenopt("derive", *asked)
    assert done.code == 0 and done.out == f"{bundle['structure']}\n" and "random, scored again" in done.err
    assert zenopt("derive", *asked, "--quiet").err == ""
    found = zenopt("derive", *asked, "--top", "3", "--output", "best.csv", "--json").json
    assert found["by"] == "score" and found["study"] == study
    ours, theirs = found["architectures"], bundle["candidates"][:3]
    assert [item["structure"] for item in ours] == [item["structure"] for item in theirs]
    assert [item["value"] for item in ours] == [item["mean"] for item in theirs]
    assert [item["search"] for item in ours] == [item["search"] for item in theirs]
    assert ours[0]["params"] == bundle["costs"]["params"]
    assert len(Path("best.csv").read_text().splitlines()) == 4
    # No bundle, no note on the study.
    assert sorted(path.name for path in Path().iterdir() if path.is_dir()) == ["bundle"]
    result = package.load_result(study)
    assert [item.structure for item in result.derive(3, repeats=3)] == [item["structure"] for item in ours]


@pytest.mark.slow
def test_what_a_study_expects_of_networks_it_never_evaluated(zenopt: Callable) -> None:
    space = {"name": "nasbench201", "options": {"operations": ["skip_connect", "nor_conv_3x3"]}}
    study = {
        "name": "cells",
        "space": space,
        "resolution": 16,
        "num_classes": 10,
        "proxy": {"name": "params"},
    }
    result = package.optimize({**study, "sampler": {"name": "rejection"}}, n_trials=16, workers=1)
    seen = {candidate.structure for candidate in result.top(16)}
    found = zenopt("derive", "--predicted", "--top", "64", "--json").json
    assert found["by"] == "prediction" and found["value"] == "predicted params"
    every = found["architectures"]
    assert len(every) == 64 > len(seen)
    values = [item["value"] for item in every]
    assert values == sorted(values, reverse=True)
    # Six convolutions are the most there are, whether or not the search met them.
    assert every[0]["structure"].count("nor_conv_3x3") >= 5 > every[-1]["structure"].count("nor_conv_3x3")
    beside = zenopt("derive", "--predicted", "--beside", "layers", "--top", "64", "--json").json[
        "architectures"
    ]
    ranks = average_ranks([item["value"] for item in beside]) + average_ranks(
        [item["layers"] for item in beside]
    )
    assert all(ranks[:-1] >= ranks[1:])
    assert zenopt("derive", "--predicted", "--top", "2", "--output", "two.txt").code == 0
    assert Path("two.txt").read_text().split() == [item["structure"] for item in every[:2]]
    for options, message in (
        (("--beside", "macs"), "--beside needs --predicted"),
        (("--predicted", "--by", "score"), "--predicted and --by exclude each other"),
        (("--predicted", "--repeats", "2"), "--predicted and --repeats exclude each other"),
        (("--predicted", "--candidates", "9"), "--predicted and --candidates exclude each other"),
        (("--predicted", "--beside", "beauty"), "--beside is one of"),
    ):
        refused = zenopt("derive", *options)
        assert refused.code == 2 and message in refused.err
    package.optimize({**study, "name": "few", "sampler": {"name": "rejection"}}, n_trials=2, workers=1)
    few = zenopt("derive", "--study", "few", "--predicted")
    assert few.code == 2 and "needs 4 trials with values" in few.err


def test_rows_of_a_table_have_a_best_too(zenopt: Callable) -> None:
    Path("rows.csv").write_text("width,top1\n1,50\n2,70\n3,60\n")
    package.optimize(
        {
            "name": "rows",
            "space": {"name": "columns", "options": {"parameters": ["width"]}},
            "resolution": 32,
            "objective": {"kind": "table", "table": "rows.csv", "column": "top1"},
            "sampler": {"name": "random"},
        },
        n_trials=12,
    )
    done = zenopt("derive", "--top", "2")
    assert done.out.splitlines() == ["width=2", "width=3"] and "table top1\n" in done.err
    # A bundle needs a network.
    assert zenopt("export-best", "--output", "x").code == 2


def test_what_takes_hours_is_not_done_again(zenopt: Callable) -> None:
    kind = f"{Trainer.__module__}:Trainer"
    spec = {**package.StudySpec.of_space("nasbench201").model_dump(), "objective": {"kind": kind}}
    package.optimize({**spec, "sampler": {"name": "random"}}, n_trials=4)
    Path("over").touch()
    found = zenopt("derive", "--top", "4", "--json").json
    assert found["by"] == "search" and found["value"] == "accuracy"
    values = [item["value"] for item in found["architectures"]]
    assert values == sorted((item["params"] for item in found["architectures"]), reverse=True)
    assert "accuracy, as searched" in zenopt("derive").err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--study", "other"), "No study 'other'"),
        (("--by", "training"), "no finished second stage"),
        (("--top", "0"), "0 is not in the range"),
        (("--output", "x.md"), "must end in"),
        (("--storage", "sqlite:///none.db"), "none.db"),
    ],
)
def test_bad_input_is_one_line(
    zenopt: Callable, study: str, arguments: tuple[str, ...], message: str
) -> None:
    done = zenopt("derive", *arguments)
    assert done.code == 2 and message in done.err and "Traceback" not in done.err and not done.out


def test_an_empty_study_says_so(zenopt: Callable, study: str) -> None:
    none = ("--set", "budget.params=10", "--study-name", "none", "--set", "sampler.name=random")
    zenopt("optimize", "--study", "nasbench201", "--trials", "2", "--workers", "1", *none)
    done = zenopt("derive", "--study", "none")
    assert done.code == 2 and "no feasible trial among 2" in done.err
    with pytest.raises(StudyError, match="no feasible trial"):
        package.load_result("none").derive()
    assert json.loads(zenopt("derive", "--study", study, "--json").out)["by"] == "score"
