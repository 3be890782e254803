"""Settings that change from epoch to epoch."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from structures import TWO_HALVINGS
from torch import nn
from training import Stop, StopAfter

from zenopt.core.errors import CheckpointError, SpecError
from zenopt.nn.modules import DropPath
from zenopt.train import engine
from zenopt.train.data import DataSet
from zenopt.train.distributed import World
from zenopt.train.engine import RunResult, fit
from zenopt.train.errors import TrainError
from zenopt.train.loader import Key, TrainBatches
from zenopt.train.networks import NetworkSource
from zenopt.train.optim import build_optimizer, set_numbers
from zenopt.train.plan import make_plan
from zenopt.train.recipe import Optimizer, Recipe, load_recipe
from zenopt.train.regularise import set_dropout

SOURCE = NetworkSource.from_structure(TWO_HALVINGS, 16)
BASE = ["batch_size=16", "augment.crop.padding=1", "optimizer.lr=0.4", "schedule.warmup_epochs=0"]
EVERYTHING = [
    "loss.label_smoothing={start: 0, add: 0.1, max: 0.15}",
    "loss.auxiliary={weight: {start: 0.4, mul: 0.5}, ratio: 4}",
    "optimizer.weight_decay={start: 1e-3, every: 2, mul: 0.1}",
    "optimizer.momentum={start: 0.5, add: 0.2, max: 0.9}",
    "optimizer.clip_norm={start: 4, mul: 0.5}",
    "model.dropout={start: 0, add: 0.1}",
    "model.drop_path={start: 0, add: 0.1}",
    "model.drop_path_ramp=none",
    "augment.cutout={start: 1, add: 2}",
    "augment.mixup={start: 0.1, add: 0.1}",
]


def recipe_of(*overrides: str, epochs: int = 3) -> Recipe:
    return load_recipe("basic", [*BASE, *overrides], epochs=epochs)


def run(data: DataSet, recipe: Recipe, output: Path, world: World, **options: Any) -> RunResult:
    torch.manual_seed(0)
    return fit(
        SOURCE.build(len(data.classes)), data, recipe, output=output, resolution=16, identity=SOURCE.facts(),
        world=world, **options,
    )  # fmt: skip


def model_of(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(folder / "last.pt", weights_only=True)["model"]
    return found


def is_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_every_epoch_has_its_numbers_in_training_history_and_logs(
    patches: DataSet, tmp_path: Path, alone: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, float]] = []
    step = engine._Run._step

    def watched(own: Any, number: int, parts: Any) -> float:
        if number == 0:
            linear = [module for module in own.network.modules() if isinstance(module, nn.Linear)][-1]
            groups = own.optimizer.param_groups
            seen.append(
                {
                    "smoothing": own.objective._smoothing,
                    "auxiliary": own.objective._auxiliary.weight,
                    "decay": groups[0]["weight_decay"],
                    "norms": groups[1]["weight_decay"],
                    "momentum": groups[0]["momentum"],
                    "clip": own.now.optimizer.clip_norm,
                    "dropped": linear.dropped,
                    "paths": {m.drop_path for m in own.network.modules() if isinstance(m, DropPath)}.pop(),
                }
            )
        return step(own, number, parts)

    monkeypatch.setattr(engine._Run, "_step", watched)
    run(patches, recipe_of(*EVERYTHING), tmp_path, alone, loggers=["csv"])
    expected = {
        "smoothing": [0, 0.1, 0.15],
        "auxiliary": [0.4, 0.2, 0.1],
        "decay": [1e-3, 1e-3, 1e-4],
        "norms": [0, 0, 0],
        "momentum": [0.5, 0.7, 0.9],
        "clip": [4, 2, 1],
        "dropped": [0, 0.1, 0.2],
        "paths": [0, 0.1, 0.2],
    }
    assert {name: [own[name] for own in seen] for name in expected} == {
        name: pytest.approx(values) for name, values in expected.items()
    }
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [float(row["augment.cutout"]) for row in rows] == [1, 3, 5]
    assert [float(row["loss.auxiliary.weight"]) for row in rows] == pytest.approx(expected["auxiliary"])
    logged = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [float(row["settings/loss.label_smoothing"]) for row in logged] == pytest.approx([0, 0.1, 0.15])


def test_a_stopped_run_resumes_to_the_same_bits(patches: DataSet, tmp_path: Path, alone: World) -> None:
    recipe = recipe_of(*EVERYTHING, epochs=2)
    whole = run(patches, recipe, tmp_path / "whole", alone)
    with pytest.raises(Stop):
        run(patches, recipe, tmp_path / "cut", alone, observer=StopAfter(8), checkpoint_steps=2)
    resumed = run(patches, recipe, tmp_path / "cut", alone, resume="must")
    assert is_equal(model_of(tmp_path / "whole"), model_of(tmp_path / "cut"))
    for one, other in zip(whole.history, resumed.history, strict=True):
        assert {**one, "seconds": 0, "images_per_second": 0} == {
            **other,
            "seconds": 0,
            "images_per_second": 0,
        }
    other = recipe_of(*EVERYTHING, "loss.label_smoothing={start: 0, add: 0.1, max: 0.2}", epochs=2)
    with pytest.raises(CheckpointError, match=r"loss\.label_smoothing\.max"):
        run(patches, other, tmp_path / "cut", alone, resume="must")


def test_changing_by_nothing_is_a_constant(patches: DataSet, tmp_path: Path, alone: World) -> None:
    constant = recipe_of("loss.label_smoothing=0.2", "model.drop_path=0.3", epochs=2)
    idle = recipe_of(
        "loss.label_smoothing={start: 0.2, add: 0}", "model.drop_path={start: 0.3, mul: 1}", epochs=2
    )
    for name, recipe in (("one", constant), ("other", idle)):
        run(patches, recipe, tmp_path / name, alone)
    assert is_equal(model_of(tmp_path / "one"), model_of(tmp_path / "other"))
    assert constant.at_epoch(1) is constant and idle.at_epoch(1) == constant


def test_the_ramp_of_aw_nas_can_be_spelled_out(patches: DataSet, tmp_path: Path, alone: World) -> None:
    """Drop-path that rises by its share of the run, as an option and as a number that changes."""
    run(
        patches,
        recipe_of("model.drop_path=0.5", "model.drop_path_ramp=epoch", epochs=2),
        tmp_path / "one",
        alone,
    )
    spelled = recipe_of("model.drop_path={start: 0, add: 0.25}", "model.drop_path_ramp=none", epochs=2)
    run(patches, spelled, tmp_path / "other", alone)
    assert is_equal(model_of(tmp_path / "one"), model_of(tmp_path / "other"))


def test_batches_take_the_numbers_of_their_epoch(patches: DataSet) -> None:
    def pixels(recipe: Recipe, epoch: int) -> torch.Tensor:
        batches = TrainBatches(patches.train, 4, recipe, 16, "none")
        return batches[Key((0, epoch, 0), list(range(16)), slice(0, 16), epoch)].images

    growing = recipe_of("augment.cutout={start: 2, add: 4}", "augment.flip=0")
    for epoch, side in ((0, 2), (1, 6), (2, 10)):
        constant = recipe_of(f"augment.cutout={side}", "augment.flip=0")
        assert torch.equal(pixels(growing, epoch), pixels(constant, epoch))
    policy = "augment.policy=randaugment"
    harder = recipe_of(policy, "augment.randaugment.magnitude={start: 3, add: 6}")
    assert torch.equal(pixels(harder, 1), pixels(recipe_of(policy), 1))  # 9 is the default
    assert not torch.equal(pixels(harder, 2), pixels(recipe_of(policy), 2))


def test_only_what_decays_changes_its_decay() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    for name in ("sgd", "adamw", "rmsprop"):
        optimizer = build_optimizer([network], Optimizer(name=name, weight_decay=0.0), 64)
        set_numbers(optimizer, Optimizer(name=name, weight_decay=0.5))
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0]


def test_dropout_is_set_again_without_dropping_twice() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 4, bias=False))
    nn.init.ones_(network[1].weight)  # type: ignore[arg-type]
    for rate in (0.9, 0.5, 0.0):
        set_dropout(network, rate)
    assert torch.equal(network(torch.ones(64, 4)), torch.full((64, 4), 4.0))
    assert len(network[1]._forward_pre_hooks) == 1


def test_a_plan_says_what_changes(patches: DataSet, alone: World) -> None:
    recipe = recipe_of("loss.label_smoothing={start: 0, every: 10, add: 0.05}", epochs=30)
    plan = make_plan(SOURCE, recipe, "basic", patches, alone)
    line = "loss.label_smoothing from 0, plus 0.05 every 10 epochs"
    assert plan.facts()["changes"] == [line] and any(line in own for own in plan.lines())


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("optimizer.lr={start: 0.1, add: 1}", ["optimizer.lr", "cannot change over a run"]),
        ("batch_size={start: 8, add: 8}", ["batch_size", "cannot change over a run"]),
        ("loss.label_smoothing={start: 0, add: 1, mul: 2}", ["either the key add or the key mul"]),
        ("loss.label_smoothing={start: 0, add: 0.1, evry: 2}", ["did you mean 'every'?"]),
        ("loss.label_smoothing={start: 0, add: 0.5}", ["would be 1 after 2 epochs", "give it a max"]),
        ("optimizer={name: adamw, momentum: {start: 0.5, add: 0.1}}", ["momentum", "name: sgd"]),
        ("model={drop_path: {start: 0, add: 0.1}, drop_path_ramp: epoch}", ["drop_path_ramp: none"]),
    ],
)
def test_mistakes_are_said_in_one_line(override: str, parts: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        recipe_of(override)
    assert all(part in str(caught.value) for part in parts), caught.value
    assert "\n" not in str(caught.value)


def test_a_network_without_drop_path_of_its_own_refuses_one_that_changes(
    patches: DataSet, tmp_path: Path, alone: World
) -> None:
    recipe = recipe_of("model.drop_path={start: 0, add: 0.1}", "model.init=default")
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
    with pytest.raises(TrainError, match=r"model\.drop_path cannot change over this training"):
        fit(
            network, patches, recipe, output=tmp_path, resolution=16, identity={}, world=alone
        )  # fmt: skip
