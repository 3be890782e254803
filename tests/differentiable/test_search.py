"""The loop: every method goes its way, and a search that was killed ends as one that was not."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from searches import run, tiny_plan

from zenopt.core.errors import CheckpointError, SpecError
from zenopt.differentiable.held_back import HeldBackSampler
from zenopt.differentiable.plan import check_recipe
from zenopt.differentiable.search import Search
from zenopt.differentiable.settings import list_methods, load_method
from zenopt.nn.weights import read_torch_file
from zenopt.train.data import DataSet
from zenopt.train.errors import TrainError
from zenopt.train.progress import Silent
from zenopt.train.recipe import load_recipe
from zenopt.train.subsets import hold_back


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = read_torch_file(folder / "last.pt")["model"]
    return found


def test_damaged_states_are_refused(patches: DataSet, tmp_path: Path) -> None:
    run(tiny_plan(epochs=1), patches, tmp_path)
    path = tmp_path / "last.pt"
    whole = read_torch_file(path)
    for change, said in (
        ({"epoch": 2}, "1 rows for 2 epochs"),
        ({"sums": [0.0]}, "rows for"),
        ({"taken": 5}, "the architecture of epoch 5"),
        ({"step": 99}, "step 99 of an epoch of 3 steps"),
        ({"curve": [{}]}, "curve"),
    ):
        torch.save({**whole, "state": {**whole["state"], **change}}, path)
        with pytest.raises(CheckpointError, match=said):
            run(tiny_plan(epochs=1), patches, tmp_path, resume="must")
    row = {**whole["state"]["curve"][0], "probabilities": {"edge01": [1.0]}}
    torch.save({**whole, "state": {**whole["state"], "curve": [row]}}, path)
    with pytest.raises(CheckpointError, match="weights of other operations"):
        run(tiny_plan(epochs=1), patches, tmp_path, resume="must")


@pytest.mark.parametrize("method", list_methods())
def test_every_method_changes_alphas_and_weights(method: str, patches: DataSet, tmp_path: Path) -> None:
    plan = tiny_plan(method, "alphas.lr=0.05")
    start = {name: value.clone() for name, value in plan.build().state_dict().items()}
    result = run(plan, patches, tmp_path / "run")
    end = weights_of(tmp_path / "run")
    assert [row.epoch for row in result.curve] == [1, 2] and result.epoch == 2 and not result.was_ended
    for name in ("alphas.edge01", "network.stem.0.weight", "network.classifier.weight"):
        assert not torch.equal(start[name], end[name]), name
    row = result.curve[-1]
    assert 0 < row.entropy < 1.61 and 0 <= row.held_back_top1 <= 100
    assert (row.expected_cost is not None) == (method == "fbnet")
    assert row.architecture == str(result.architecture)
    saved = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert saved["architecture"] == row.architecture and len(saved["curve"]) == 2
    assert (tmp_path / "run" / "metrics.csv").read_text().count("\n") == 3


class Killed(Exception):
    pass


class KillAfter(Silent):
    """Kills a search at its n-th step."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, done: int, loss: float, lr: float) -> None:
        self.left -= 1
        if not self.left:
            raise Killed


@pytest.mark.parametrize(
    ("method", "step"),
    [
        ("gdas", 2),
        *(
            pytest.param(method, 5, marks=pytest.mark.slow)
            for method in ("darts-v2", "snas", "fbnet", "drnas")
        ),
    ],
)
def test_a_killed_search_ends_as_one_that_was_not(
    method: str, step: int, patches: DataSet, tmp_path: Path
) -> None:
    quick = ("stop_by_eigenvalue.iterations=2", "stop_by_eigenvalue.images=8")
    plan = tiny_plan(method, *quick, regularisers=("beta-decay", "eigenvalue"))
    whole = run(plan, patches, tmp_path / "whole")
    with pytest.raises(Killed):
        run(plan, patches, tmp_path / "parts", checkpoint_steps=1, observer=KillAfter(step))
    parts = run(plan, patches, tmp_path / "parts", resume="must", checkpoint_steps=1)
    one, other = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    drop = {"seconds"}
    assert [row.model_dump(exclude=drop) for row in whole.curve] == [
        row.model_dump(exclude=drop) for row in parts.curve
    ]


def test_a_complete_search_is_read_again(patches: DataSet, tmp_path: Path) -> None:
    plan = tiny_plan(epochs=1)
    first = run(plan, patches, tmp_path)
    again = run(plan, patches, tmp_path, resume="auto")
    assert again.architecture == first.architecture and again.curve == first.curve
    with pytest.raises(TrainError, match="already holds a run"):
        run(plan, patches, tmp_path)
    with pytest.raises(CheckpointError, match=r"of another search: method\.alphas\.lr, seed differ"):
        run(tiny_plan("darts-v1", "alphas.lr=1", epochs=1, seed=1), patches, tmp_path, resume="must")


def test_what_is_no_search_is_refused(patches: DataSet, tmp_path: Path) -> None:
    torch.save({"model": {}}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of a differentiable search"):
        run(tiny_plan(), patches, tmp_path, resume="must")
    torch.save({"facts": {}, "model": {}, "optimizer": {}}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="alpha_optimizer"):
        run(tiny_plan(), patches, tmp_path, resume="must")


def test_a_rule_ends_the_search(patches: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def rule(method: Any, opened: Any, architectures: list[Any], eigenvalues: list[float]) -> int | None:
        return 2 if len(architectures) == 3 else None

    monkeypatch.setattr("zenopt.differentiable.search.epoch_to_return_to", rule)
    plan = tiny_plan("darts-v1", "alphas.lr=0.5", epochs=5)
    result = run(plan, patches, tmp_path)
    assert result.was_ended and result.epoch == 2 and len(result.curve) == 3
    assert str(result.architecture) == result.curve[1].architecture != result.curve[2].architecture
    again = run(plan, patches, tmp_path, resume="must")
    assert again.epoch == 2 and len(again.curve) == 3


def test_held_back_batches_go_on_over_epochs_of_the_weights() -> None:
    """Seven images in batches of 2: three steps; the weights have four steps an epoch."""
    whole: list[list[int]] = []
    for epoch in range(3):
        sampler = HeldBackSampler(7, 2, seed=3, steps=4)
        sampler.epoch = epoch
        keys = list(sampler)
        whole += [key.indices for key in keys]
        # What changes over the search goes by the epochs of the weights.
        assert [key.epoch for key in keys] == [epoch] * 4
    assert len(whole) == 12
    for start in range(0, 12, 3):
        assert len({index for batch in whole[start : start + 3] for index in batch}) == 6
    sampler = HeldBackSampler(7, 2, seed=3, steps=4)
    sampler.epoch, sampler.first_step = 1, 2
    assert [key.indices for key in sampler] == whole[6:8]


def test_recipes_that_do_not_fit_are_refused() -> None:
    method = load_method("darts-v2")
    for override, said in (
        ("precision.amp=fp16", "fp16"),
        ("ema_decay=0.9", "ema_decay"),
        ("model.drop_path=0.1", "drop_path"),
        ("optimizer.name=adamw", "one step of SGD"),
    ):
        with pytest.raises(SpecError, match=said):
            check_recipe(load_recipe("cell-search", [override]), method)
    assert check_recipe(load_recipe("basic"), method).model.init == "default"


def test_bf16_searches_too(patches: DataSet, tmp_path: Path) -> None:
    plan = tiny_plan(epochs=1)
    recipe = load_recipe("cell-search", ["batch_size=16", "precision.amp=bf16"], epochs=1)
    object.__setattr__(plan, "recipe", recipe)
    assert run(plan, patches, tmp_path).curve[0].train_loss > 0


@pytest.mark.parametrize("order", [1, 2])
def test_steps_of_alphas_lower_the_held_back_loss(order: int, patches: DataSet, tmp_path: Path) -> None:
    plan = tiny_plan("darts-v1", "alphas.lr=0.1", f"order={order}")
    found = Search(plan, hold_back(patches, 0.5), tmp_path, torch.device("cpu"), Silent())
    found.build()
    found.open_data()
    found.sums, found.temperature = torch.zeros(6), 1.0
    pair, held_pair = (found._placed(next(iter(own))) for own in (found.batches, found.held_batches))
    losses = []
    for step in range(8):
        losses.append(found._loss(found.model.expected(), *held_pair).item())
        found._step_alphas(step, pair, held_pair)
    assert losses[-1] < losses[0] - 0.01, losses


def test_a_heavy_cost_leaves_nothing(patches: DataSet, tmp_path: Path) -> None:
    plan = tiny_plan("darts-v1", "alphas.lr=0.5", "cost.kind=macs", "cost.weight=1000")
    result = run(plan, patches, tmp_path)
    free = {"none", "skip_connect", "avg_pool_3x3"}
    assert set(result.architecture.operations) <= free
    assert result.curve[1].expected_cost < result.curve[0].expected_cost


def test_numbers_of_the_recipe_may_change_and_a_resumed_search_has_the_same(
    patches: DataSet, tmp_path: Path
) -> None:
    changing = ["loss.label_smoothing={start: 0, add: 0.2}", "optimizer.weight_decay={start: 1e-3, mul: 0.1}"]
    plan = tiny_plan()
    recipe = load_recipe("cell-search", ["batch_size=16", "augment.crop.padding=1", *changing], epochs=2)
    plan = replace(plan, recipe=check_recipe(recipe, plan.method))
    whole = run(plan, patches, tmp_path / "whole", loggers=["csv"])
    with pytest.raises(Killed):
        run(plan, patches, tmp_path / "cut", checkpoint_steps=1, observer=KillAfter(5))
    resumed = run(plan, patches, tmp_path / "cut", resume="must")
    assert [row.probabilities for row in whole.curve] == [row.probabilities for row in resumed.curve]
    rows = list(csv.DictReader((tmp_path / "whole" / "metrics.csv").open()))
    assert [float(row["loss.label_smoothing"]) for row in rows] == [0, 0.2]
    logged = list(csv.DictReader((tmp_path / "whole" / "log.csv").open()))
    assert [float(row["settings/optimizer.weight_decay"]) for row in logged] == pytest.approx([1e-3, 1e-4])
