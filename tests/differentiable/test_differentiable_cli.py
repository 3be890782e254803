"""The command: a search that ends as a trial of a study, and what is wrong with its options, in one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import commands
import optuna
import pytest
from click.testing import Result

from zenopt.differentiable.search import Search
from zenopt.latency.predict import predict_latency_ms
from zenopt.report.build import write_report
from zenopt.spaces.registry import get_space
from zenopt.storage import open_storage
from zenopt.study.spec import StudySpec
from zenopt.study.study import join_study
from zenopt.train.errors import DivergedError

SMALL = (
    "--method-set", "network.channels=2", "--method-set", "network.cells=1", "--set", "resolution=8",
    "--recipe-set", "batch_size=40", "--device", "cpu", "--data", "synthetic:160",
)  # fmt: skip


def run(*words: object) -> Result:
    return commands.run("differentiable", *words)


def refusal(*words: object) -> str:
    return commands.refusal("differentiable", *words)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of all cells; the accuracy is the number of skip connections."""
    path = tmp_path_factory.mktemp("table") / "known.csv"
    cells = get_space("nasbench201")().architectures()
    rows = (f"{cell},{cell.operations.count('skip_connect')}" for cell in cells)
    path.write_text("\n".join(("arch_str,accuracy", *rows)))
    return path


def test_a_search_becomes_a_trial(table: Path, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'studies.db'}"
    words = (
        "--study", "nasbench201-table", "--set", f"objective.table={table}", "--set", "objective.column=accuracy",
        *SMALL, "--method-set", "alphas.lr=0.1", "--epochs", 2, "--storage", storage, "--output", tmp_path / "run",
    )  # fmt: skip
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert "trial 0 of study nasbench201-table-differentiable" in result.output
    assert "entropy" in result.output and "  table " in result.output
    study = optuna.load_study(study_name="nasbench201-table-differentiable", storage=storage)
    (trial,) = study.trials
    structure, curve = trial.user_attrs["structure"], trial.user_attrs["search_curve"]
    assert structure in result.output and trial.value == structure.count("skip_connect")
    assert curve["architecture"][-1] == structure and len(curve["entropy"]) == 2
    assert trial.intermediate_values == {
        epoch: cell.count("skip_connect") for epoch, cell in enumerate(curve["architecture"], start=1)
    }
    assert trial.user_attrs["search_method"] == "darts-v1" and trial.user_attrs["params"] > 0
    assert [sum(values) for values in zip(*curve["operations"].values(), strict=True)] == pytest.approx(
        [1, 1]
    )
    again = run(*words, "--auto-resume", "--json")
    assert again.exit_code == 0, again.output
    facts = json.loads(again.stdout)
    assert facts["architecture"] == structure and facts["trial"] == 0 and facts["value"] == trial.value
    assert len(optuna.load_study(study_name=study.study_name, storage=storage).trials) == 1
    other = run(*words[:-1], tmp_path / "other", "--seed", 1, "--method", "gdas", "--json")
    assert json.loads(other.stdout)["trial"] == 1, "another search is another trial"
    (section,) = write_report(
        [optuna.load_study(study_name=study.study_name, storage=storage)], tmp_path / "r.html"
    )
    figures = {figure.key: figure.figure for figure in section.figures if figure.key.startswith("search-")}
    assert list(figures) == [
        f"search-{key}" for key in ("entropy", "value", "skips", "operations", "weights")
    ]
    lines = {trace.name: trace for trace in figures["search-entropy"].data if trace.name}
    assert list(lines["darts-v1, seed 0"].y) == curve["entropy"] and "gdas, seed 1" in lines
    assert len(figures["search-weights"].data[0].y) == 6


def test_what_the_table_does_not_list_is_recorded_without_a_value(tmp_path: Path) -> None:
    few = tmp_path / "few.csv"
    few.write_text("arch_str,accuracy\n|none~0|+|none~0|none~1|+|none~0|none~1|none~2|,1\n")
    storage = f"sqlite:///{tmp_path / 'studies.db'}"
    result = run(
        "--study", "nasbench201-table", "--set", f"objective.table={few}", "--set", "objective.column=accuracy",
        *SMALL, "--epochs", 1, "--storage", storage, "--output", tmp_path / "run", "--study-name", "mine",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "no value (the table does not list it): trial 0 of study mine" in result.output
    over = run(
        "--study", "nasbench201", "--set", "budget.params=1000", *SMALL, "--epochs", 1, "--storage", storage,
        "--output", tmp_path / "over", "--study-name", "tight",
    )  # fmt: skip
    assert over.exit_code == 0 and "over budget.params by" in over.output, over.output


@pytest.mark.slow
def test_costs_are_latencies_where_a_study_names_a_device(tmp_path: Path) -> None:
    result = run(
        "--study", "nasbench201", "--set", "latency.device=v100-fp16-b64", "--set", "resolution=128", "--method",
        "fbnet", *SMALL[:4], *SMALL[6:], "--epochs", 1, "--storage", f"sqlite:///{tmp_path / 's.db'}",
        "--output", tmp_path / "run", "--data", "synthetic:40", "--recipe-set", "batch_size=8",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    saved = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert saved["method"]["cost"]["kind"] == "latency_ms"
    latency = predict_latency_ms(
        get_space("nasbench201")().parse(saved["architecture"]), "v100-fp16-b64", 128, 10
    )
    assert 0.1 * latency < saved["curve"][0]["expected_cost"] < 10 * latency


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    result = run("--study", "nasbench201", *SMALL, "--epochs", 1, "--dry-run", "--json", "--method", "fbnet")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["alphas"] == 30 and facts["estimated_seconds"] > 0
    assert facts["train_images"] == 128 and facts["held_back_images"] == 32


def test_a_study_that_cannot_take_the_result_is_said_before_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, output = f"sqlite:///{tmp_path / 'studies.db'}", tmp_path / "run"
    own = ("--study", "nasbench201", *SMALL, "--epochs", 1, "--output", output)
    assert "nowhere" in refusal(*own, "--storage", f"sqlite:///{tmp_path}/nowhere/studies.db")
    optuna.create_study(study_name="foreign", storage=storage).ask()
    assert "--study-name" in refusal(*own, "--storage", storage, "--study-name", "foreign")
    join_study(StudySpec.load("nasbench201"), open_storage(storage), "own", "cpu")
    other = (*own, "--set", "budget.params=2e6", "--storage", storage, "--study-name", "own")
    assert "budget.params" in refusal(*other)
    # Nothing was searched, and a study of the wrong data is not made.
    assert "classes" in refusal(*own, "--storage", storage, "--study-name", "new", "--set", "num_classes=7")
    assert not (output / "last.pt").exists()
    # Nor of a search that is refused late, or fails in its first epoch.
    new = (*own, "--storage", storage, "--study-name", "new")
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert "wandb" in refusal(*new, "--logger", "wandb")
    monkeypatch.setattr(Search, "_pairs", lambda self: (_ for _ in ()).throw(DivergedError("lost")))
    monkeypatch.setattr("zenopt.differentiable.search.estimated_seconds", lambda *_: 1.0)
    assert refusal(*new) == "lost"
    assert sorted(study.study_name for study in optuna.get_all_study_summaries(storage)) == ["foreign", "own"]


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    own = ("--study", "nasbench201", *SMALL, "--dry-run")
    for words, said in (
        (("--study", "nasbench201", *SMALL), "--output is needed"),
        ((*own, "--method", "darts"), "known: darts-v1"),
        ((*own, "--method-set", "alphas.rate=1"), "alphas.rate: unknown key"),
        ((*own, "--method-set", "network.channels=9999"), "from 1 to 1024 channels"),
        ((*own, "--regulariser", "dropout"), "known: beta-decay, eigenvalue, skips"),
        ((*own, "--method-set", "cost.kind=latency_ms"), "needs a study that names a device"),
        ((*own, "--recipe-set", "ema_decay=0.9"), "ema_decay"),
        ((*own, "--set", "num_classes=7"), "has 10 classes, the study's networks have 7"),
        (("--study", "cifar-small", *SMALL, "--dry-run"), "has no search network"),
        (("--study", "nasbench201-table", *SMALL, "--dry-run"), "objective.table=PATH"),
    ):
        assert said in refusal(*words), words
