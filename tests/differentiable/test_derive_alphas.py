"""``zenopt derive --alphas``: what a search stands for, from its folder."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import commands
import pytest
import torch
from searches import run, tiny_plan

from zenopt.core.costs import count
from zenopt.core.errors import CheckpointError
from zenopt.differentiable.files import EpochRow
from zenopt.spaces.nasbench201.architecture import CellArchitecture
from zenopt.train.data import DataSet
from zenopt.verify.derive import derive_alphas

CELL = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|{}~0|none~1|skip_connect~2|"
CELLS = tuple(CELL.format(name) for name in ("none", "skip_connect", "nor_conv_1x1"))


def written(folder: Path, rows: int = 3, **state: object) -> Path:
    """Write the folder of a search of ten epochs that was cut off, and return it."""
    curve = [
        EpochRow(
            epoch=index + 1, step=10, lr=0.1, temperature=1.0, train_loss=1.0, train_top1=50.0, held_back_loss=1.0,
            held_back_top1=40.0 + index, entropy=1.0, expected_cost=None, eigenvalue=None, skips=1, value=None,
            architecture=CELLS[index], probabilities={}, seconds=1.0,
        ).model_dump()
        for index in range(rows)
    ]  # fmt: skip
    content = {
        "facts": {
            "space": "nasbench201", "options": {}, "resolution": 32, "classes": list("abcdefghij"),
            "recipe": {"epochs": 10},
        },
        "model": {}, "optimizer": {}, "alpha_optimizer": {},
        "state": {
            "epoch": rows, "step": 0, "sums": [0.0] * 6, "seconds": 1.0, "curve": curve, "taken": None, **state
        },
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    torch.save(content, folder / "last.pt")
    return folder


def test_it_is_the_architecture_of_the_search(patches: DataSet, tmp_path: Path) -> None:
    result = run(tiny_plan(epochs=1), patches, tmp_path / "run")
    found, epoch = derive_alphas(tmp_path / "run")
    assert epoch == 1 and found.best[0].structure == str(result.architecture)
    done = commands.run("derive", "--alphas", tmp_path / "run")
    assert done.exit_code == 0 and done.stdout == f"{result.architecture}\n"
    assert "held-back top-1 (%) of the search network, after epoch 1 of 1" in done.stderr


def test_any_epoch_may_be_named_and_a_search_may_be_cut_off(tmp_path: Path) -> None:
    folder = str(written(tmp_path / "run"))
    assert commands.run("derive", "--alphas", folder, "--quiet").stdout == f"{CELLS[2]}\n"
    output = tmp_path / "found.csv"
    done = commands.run("derive", "--alphas", folder, "--epoch", 2, "--output", output, "--json")
    found = json.loads(done.stdout)
    (item,) = found["architectures"]
    assert (found["alphas"], found["epoch"], found["by"]) == (folder, 2, "alphas")
    assert item["structure"] == CELLS[1] and item["value"] == 41.0
    assert item["params"] == count(CellArchitecture.parse(CELLS[1]), 32, 10).params
    (row,) = csv.DictReader(output.open())
    assert row["structure"] == CELLS[1]


def test_a_rule_that_ended_the_search_has_chosen_the_epoch(tmp_path: Path) -> None:
    found, epoch = derive_alphas(written(tmp_path / "run", taken=1))
    assert epoch == 1 and found.best[0].structure == CELLS[0] and "chosen after 3" in found.label
    assert derive_alphas(tmp_path / "run", 3)[0].best[0].structure == CELLS[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--epoch", "4"), "has done 3 epochs; it has no epoch 4"),
        (("--epoch", "0"), "0 is not in the range"),
        (("--study", "demo"), "--study is of a study; --alphas names a differentiable search"),
        (("--top", "3"), "--top is of a study"),
        (("--by", "score"), "--by is of a study"),
        (("--output", "x.md"), "must end in"),
    ],
)
def test_bad_options_are_one_line(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    assert message in commands.refusal("derive", "--alphas", written(tmp_path / "run"), *words)


def test_epochs_are_of_a_search() -> None:
    assert "--alphas" in commands.refusal("derive", "--epoch", "3")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no last.pt"),
        ({"model": {}}, "not a checkpoint of a differentiable search"),
        ({"facts": {}}, "last.pt"),
    ],
)
def test_folders_of_something_else_are_said(tmp_path: Path, content: object, message: str) -> None:
    if content is not None:
        torch.save(content, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=message):
        derive_alphas(tmp_path)


def test_searches_that_do_not_fit_are_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="still in its first epoch"):
        derive_alphas(written(tmp_path / "a", rows=0))
    with pytest.raises(CheckpointError, match="3 rows for 5 epochs"):
        derive_alphas(written(tmp_path / "b", epoch=5))
    folder = written(tmp_path / "c")
    content = torch.load(folder / "last.pt", weights_only=True)
    del content["facts"]["resolution"]
    torch.save(content, folder / "last.pt")
    with pytest.raises(CheckpointError, match="does not say what was searched"):
        derive_alphas(folder)
