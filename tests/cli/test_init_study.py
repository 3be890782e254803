"""``zenopt init-study``: a file that ``zenopt optimize`` takes as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from zenopt.spaces.registry import list_spaces
from zenopt.study.spec import StudySpec

CELLS = (
    "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
    "|skip_connect~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
    "|nor_conv_1x1~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "space",
    [
        pytest.param(name, marks=() if name == "nasbench201" else pytest.mark.slow)
        for name in list_spaces()
        if name != "columns"
    ],
)
def test_optimize_takes_it_unchanged(zenopt: Callable, space: str) -> None:
    done = zenopt("init-study", "--space", space, "--objective", "params", "--output", "made.yaml")
    assert done.code == 0 and f"made.yaml: a study of {space} by params" in done.out
    assert "zenopt optimize --study made.yaml" in done.err and "Fill in" not in done.err
    found = zenopt("optimize", "--study", "made.yaml", "--trials", "2", "--workers", "1", "--json")
    assert found.code == 0, found.err
    assert found.json["study"] == f"{space}-params" and found.json["complete"] == 2


def test_a_table_once_it_is_there(zenopt: Callable) -> None:
    done = zenopt("init-study", "--space", "nasbench201", "--objective", "table", "--output", "made.yaml")
    assert "Fill in objective.column and objective.table." in done.err
    run = ("optimize", "--study", "made.yaml", "--trials", "3", "--workers", "1", "--json")
    missing = zenopt(*run)
    assert missing.code == 2 and "results.csv" in missing.err
    rows = "".join(f"{cell},{value}\n" for value, cell in enumerate(CELLS))
    Path("results.csv").write_text(f"arch_str,accuracy\n{rows}")
    found = zenopt(*run)
    assert found.code == 0 and found.json["best"]["value"] == 2.0, found.err


def test_rows_of_a_table_alone(zenopt: Callable) -> None:
    Path("rows.csv").write_text("width,depth,top1\n1,2,50\n2,2,60\n2,3,70\n")
    given = ("--set", "objective.table=rows.csv", "--set", "objective.column=top1")
    arguments = ("--space", "columns", "--objective", "table", "--sampler", "aging", *given)
    done = zenopt("init-study", *arguments, "--output", "made.yaml")
    assert "Fill in space.options.parameters." in done.err
    found = zenopt("optimize", "--study", "made.yaml", "--trials", "3", "--workers", "1", "--json")
    assert found.code == 0 and found.json["best"]["value"] == 70.0, found.err


def test_on_stdout_and_as_json(zenopt: Callable) -> None:
    done = zenopt("init-study", "--space", "darts", "--objective", "train", "--sampler", "tpe")
    Path("made.yaml").write_text(done.out)
    assert StudySpec.load("made.yaml").sampler.name == "tpe" and "training.data" in done.err
    found = zenopt(
        "init-study", "--space", "darts", "--objective", "train", "--sampler", "tpe", "--json"
    ).json
    assert found["text"] == done.out and found["fill_in"] == ["training.data"] and found["output"] is None


def test_what_is_there_is_kept(zenopt: Callable) -> None:
    Path("mine.yaml").write_text("# mine")
    arguments = ("init-study", "--space", "darts", "--output", "mine.yaml")
    done = zenopt(*arguments)
    assert done.code == 2 and "--force" in done.err and Path("mine.yaml").read_text() == "# mine"
    assert zenopt(*arguments, "--force").code == 0 and StudySpec.load("mine.yaml").space.name == "darts"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--space", "nowhere"), "Unknown space"),
        (("--objective", "table"), "Missing option '--space'"),
        (("--space", "darts", "--objective", "zeen"), "Unknown evaluator 'zeen'"),
        (("--space", "darts", "--output", "x.txt"), "must end in .yaml or .yml"),
        (("--space", "darts", "--set", "trials=0"), "trials"),
        (("--space", "columns"), "needs networks"),
    ],
)
def test_bad_input_is_one_line(
    zenopt: Callable, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    done = zenopt("init-study", *arguments)
    assert done.code == 2 and message in done.err and "Traceback" not in done.err and not done.out
    assert list(tmp_path.iterdir()) == []
