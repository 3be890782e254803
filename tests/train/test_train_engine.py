from __future__ import annotations

import csv
import errno
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from structures import TWO_HALVINGS
from training import Stop, StopAfter

from zenopt.nn.weights import load_weights, read_torch_file
from zenopt.train import checkpoint
from zenopt.train.data import DataSet, MemoryImages
from zenopt.train.distributed import World
from zenopt.train.engine import fit
from zenopt.train.errors import CheckpointError, DivergedError, TrainError
from zenopt.train.loggers import LoggerError
from zenopt.train.networks import NetworkSource
from zenopt.train.progress import Silent
from zenopt.train.recipe import Recipe, load_recipe
from zenopt.train.subsets import share_of

TINY = TWO_HALVINGS
SOURCE = NetworkSource.from_structure(TINY, 16)


def run(data: DataSet, recipe: Recipe, output: Path, world: World, **options: Any):  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    return fit(
        SOURCE.build(len(data.classes)),
        data,
        recipe,
        output=output,
        resolution=16,
        identity=SOURCE.facts(),
        world=world,
        **options,
    )


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


def weights(path: Path) -> dict[str, torch.Tensor]:
    return read_torch_file(path)["model"]


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


def test_a_run_learns_and_leaves_its_files(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World
) -> None:
    recipe = short.model_copy(update={"epochs": 6})
    result = run(patches, recipe, tmp_path, alone)
    assert result.metrics["best"]["top1"] >= 75  # chance is 25
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == [str(epoch) for epoch in range(1, 7)]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["top1"] == result.metrics["top1"] and metrics["epochs"] == 6 and metrics["steps"] == 36
    assert metrics["best"]["top1"] == max(float(row["top1"]) for row in rows)
    assert files(tmp_path) == {"best.pt", "last.pt", "metrics.csv", "metrics.json"}
    network = SOURCE.build(4)
    load_weights(network, tmp_path / "best.pt")


FULL = [
    "ema_decay=0.9",
    "augment.mixup=0.2",
    "augment.erasing={}",
    "model.drop_path=0.3",
    "optimizer.clip_norm=1",
]


@pytest.mark.parametrize("stop", [1, 6, 8, 17])
def test_a_stopped_run_resumes_to_the_same_bits(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World, stop: int
) -> None:
    content = short.model_dump(mode="json")
    recipe = load_recipe(
        "basic", [*FULL, *(f"{key}={json.dumps(content[key])}" for key in ("epochs", "batch_size"))]
    )
    whole = run(patches, recipe, tmp_path / "whole", alone)
    with pytest.raises(Stop):
        run(patches, recipe, tmp_path / "cut", alone, observer=StopAfter(stop), checkpoint_steps=2)
    resumed = run(patches, recipe, tmp_path / "cut", alone, resume="auto", checkpoint_steps=2)
    for name in ("last.pt", "best.pt"):
        assert_equal(weights(tmp_path / "whole" / name), weights(tmp_path / "cut" / name))
    one, other = (read_torch_file(tmp_path / name / "last.pt") for name in ("whole", "cut"))
    assert_equal(one["ema"]["state"], other["ema"]["state"])
    keys = ("epoch", "train_loss", "test_loss", "top1", "lr")
    assert [[row[k] for k in keys] for row in whole.history] == [
        [row[k] for k in keys] for row in resumed.history
    ]


def test_resuming_is_asked_for_and_checked(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World
) -> None:
    with pytest.raises(CheckpointError, match="no run to resume"):
        run(patches, short, tmp_path, alone, resume="must")
    run(patches, short, tmp_path, alone)
    with pytest.raises(TrainError, match="already holds a run"):
        run(patches, short, tmp_path, alone)
    with pytest.raises(CheckpointError, match=r"seed differ"):
        run(patches, short, tmp_path, alone, resume="must", seed=5)
    other = short.model_copy(update={"epochs": 9})
    with pytest.raises(CheckpointError, match=r"recipe\.epochs differ"):
        run(patches, other, tmp_path, alone, resume="must")
    fewer = DataSet("three", ("a", "b", "c"), patches.train, patches.test, "none")
    with pytest.raises(CheckpointError, match="with 4 classes, the data here has 3"):
        run(fewer, short, tmp_path, alone, resume="must")
    # A finished run resumes to itself.
    before = (tmp_path / "last.pt").read_bytes()
    again = run(patches, short, tmp_path, alone, resume="must")
    assert again.evaluation is None and again.metrics["epochs"] == 3
    assert (tmp_path / "last.pt").read_bytes() == before


def test_a_loss_that_is_no_number_stops_the_run(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World
) -> None:
    hot = load_recipe("basic", ["optimizer.lr=1e18", "schedule.warmup_epochs=0", "batch_size=16", "epochs=2"])
    with pytest.raises(
        TrainError, match=r"no longer a number at epoch 1, step \d+ .*no checkpoint was written"
    ):
        run(patches, hot, tmp_path / "first", alone)
    # With an epoch behind it, the message names the checkpoint, which is left as it was.
    run(patches, short, tmp_path / "second", alone)
    saved = read_torch_file(tmp_path / "second" / "last.pt")
    saved["state"].update(epoch=2, history=saved["state"]["history"][:2])
    saved["model"]["classifier.bias"].fill_(float("nan"))
    checkpoint.save(tmp_path / "second" / "last.pt", saved)
    before = (tmp_path / "second" / "last.pt").read_bytes()
    with pytest.raises(TrainError, match=r"epoch 3, step 1 .*last good checkpoint is .*last\.pt"):
        run(patches, short, tmp_path / "second", alone, resume="must")
    assert (tmp_path / "second" / "last.pt").read_bytes() == before


def test_weights_that_are_no_numbers_are_not_kept(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World
) -> None:
    class Spoil(Silent):
        """Spoils a weight after the last step of the second epoch, as an overflowing update does."""

        def step(self, done: int, loss: float, lr: float) -> None:
            if done == 6 and (tmp_path / "last.pt").exists():
                with torch.no_grad():
                    network.classifier.weight[0, 0] = float("inf")

    torch.manual_seed(0)
    network = SOURCE.build(4)
    with pytest.raises(
        TrainError, match=r"weights are no longer numbers in epoch 2; the last good checkpoint is"
    ):
        fit(
            network,
            patches,
            short,
            output=tmp_path,
            resolution=16,
            identity=SOURCE.facts(),
            world=alone,
            observer=Spoil(),
        )
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "last.pt").values())


def test_statistics_that_are_no_numbers_are_not_kept(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World
) -> None:
    class Overflow(Silent):
        def step(self, done: int, loss: float, lr: float) -> None:
            if done == 6:
                norm = next(
                    module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)
                )
                norm.running_var.fill_(float("inf"))

    torch.manual_seed(0)
    network = SOURCE.build(4)
    with pytest.raises(
        DivergedError, match=r"no longer numbers in epoch 1; no checkpoint was written before"
    ):
        fit(
            network,
            patches,
            short,
            output=tmp_path,
            resolution=16,
            identity={},
            world=alone,
            observer=Overflow(),
        )
    assert files(tmp_path) == set()


class Explodes(torch.nn.Module):
    """Learns like any other, but its outputs are NaN in evaluation once its weight is large."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(768, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.linear(x.flatten(1))
        return logits if self.training or self.calm else logits * float("nan")

    calm = True


def test_outputs_that_are_no_numbers_end_the_run_in_one_line(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World
) -> None:
    network = Explodes()

    class Excite(Silent):
        def end(self, row: dict[str, Any]) -> None:
            network.calm = False

    with pytest.raises(DivergedError) as raised:
        fit(
            network,
            patches,
            short,
            output=tmp_path,
            resolution=16,
            identity={},
            world=alone,
            observer=Excite(),
        )
    message = str(raised.value)
    assert (
        "outputs on 32 of 32 test images are no numbers after epoch 2 (lr" in message and "\n" not in message
    )
    assert f"the last good checkpoint is {tmp_path / 'last.pt'}. A lower optimizer.lr helps." in message
    # best.pt is of the epoch that could be judged, and nothing of the other one was written.
    assert read_torch_file(tmp_path / "best.pt")["epoch"] == 1
    assert read_torch_file(tmp_path / "last.pt")["state"]["epoch"] == 1
    assert json.loads((tmp_path / "metrics.json").read_text())["epochs"] == 1


def test_a_crash_after_the_last_checkpoint_loses_no_file(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(patches, short, tmp_path / "whole", alone)
    with monkeypatch.context() as crash:
        crash.setattr("zenopt.train.engine.write_metrics", lambda *_: (_ for _ in ()).throw(Stop()))
        for _ in range(3):
            with pytest.raises(Stop):
                run(patches, short, tmp_path / "cut", alone, resume="auto", loggers=["csv"])
    assert not (tmp_path / "cut" / "metrics.json").exists()
    assert read_torch_file(tmp_path / "cut" / "last.pt")["state"]["epoch"] == 3
    resumed = run(patches, short, tmp_path / "cut", alone, resume="auto", loggers=["csv"])
    assert (tmp_path / "cut" / "metrics.csv").read_text().count("\n") == 4
    assert json.loads((tmp_path / "cut" / "metrics.json").read_text())["top1"] == whole.metrics["top1"]
    # What the report needs is in the checkpoint; nothing is evaluated again.
    assert resumed.evaluation is None and torch.equal(resumed.confusion, whole.confusion)  # type: ignore[arg-type]
    rows = list(csv.DictReader((tmp_path / "cut" / "log.csv").open()))
    assert [row["step"] for row in rows] == ["1", "2", "3"]


def test_one_command_at_a_time_works_in_a_folder(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World
) -> None:
    tried: list[str] = []

    class Intruder(Silent):
        def step(self, done: int, loss: float, lr: float) -> None:
            if not tried:
                with pytest.raises(TrainError) as raised:
                    run(patches, short, tmp_path, alone, seed=1)
                tried.append(str(raised.value))

    run(patches, short, tmp_path, alone, observer=Intruder())
    assert tried == [f"Another command is at work in {tmp_path}; wait for it, or choose another --output."]
    assert read_torch_file(tmp_path / "last.pt")["seed"] == 0


def test_leftovers_of_killed_writers_are_swept(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World
) -> None:
    for name in (".last.pt.4711", ".metrics.json.12", ".report.html.x7_a", ".export-ab12"):
        (tmp_path / name).mkdir() if name.startswith(".export") else (tmp_path / name).write_bytes(b"half")
    for name in ("notes.txt", ".last.pt", ".gitignore"):
        (tmp_path / name).write_text("mine")
    run(patches, short.model_copy(update={"epochs": 1}), tmp_path, alone)
    assert files(tmp_path) == {
        "best.pt", "last.pt", "metrics.csv", "metrics.json", "notes.txt", ".last.pt", ".gitignore"
    }  # fmt: skip


def test_another_share_of_the_data_is_another_run(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World
) -> None:
    run(patches, short, tmp_path, alone)
    with pytest.raises(CheckpointError, match="is of another run: images differ"):
        run(share_of(patches, 0.5), short, tmp_path, alone, resume="must")


def test_a_full_disk_stops_the_run_and_keeps_the_last_checkpoint(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Stop):
        run(patches, short, tmp_path, alone, observer=StopAfter(8))
    before = (tmp_path / "last.pt").read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(TrainError, match="No space left on device; the last good checkpoint is"):
        run(patches, short, tmp_path, alone, resume="auto")
    monkeypatch.undo()
    assert (tmp_path / "last.pt").read_bytes() == before
    assert not [name for name in files(tmp_path) if name.startswith(".")]
    assert run(patches, short, tmp_path, alone, resume="auto").metrics["epochs"] == 3


def test_accumulation_gives_the_gradient_of_the_whole_batch(
    patches: DataSet, tmp_path: Path, alone: World
) -> None:
    # Without batch statistics (no norm), halves average to the whole.
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 4))
    results = []
    for accumulate in (1, 4):
        torch.manual_seed(0)
        torch.nn.init.normal_(network[1].weight, std=0.01)
        torch.nn.init.zeros_(network[1].bias)
        recipe = load_recipe(
            "basic", [f"accumulate={accumulate}", "epochs=2", "batch_size=16", "model.init=default"]
        )
        output = tmp_path / str(accumulate)
        result = fit(network, patches, recipe, output=output, resolution=16, identity={}, world=alone)
        results.append((weights(output / "last.pt")["1.weight"].clone(), result.history))
    assert torch.allclose(results[0][0], results[1][0], atol=1e-6)
    assert results[0][1][0]["train_loss"] == pytest.approx(results[1][1][0]["train_loss"], rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        ["precision.amp=bf16", "precision.channels_last=true"],
        ["precision.amp=fp16", "optimizer.clip_norm=5"],
        ["optimizer.name=adamw", "optimizer.lr=0.01", "schedule.name=linear"],
        ["optimizer.name=rmsprop", "optimizer.lr=0.001", "schedule.name=step"],
        ["loss.auxiliary={weight: 0.4, ratio: 2}", "model.drop_path=0.2", "model.drop_path_ramp=epoch"],
        ["augment.cutmix=1.0", "crop_size=20"],
    ],
)
def test_options_train(patches: DataSet, tmp_path: Path, alone: World, options: list[str]) -> None:
    recipe = load_recipe("basic", ["epochs=1", "batch_size=32", "augment.flip=0", *options])
    first = run(patches, recipe, tmp_path, alone).history[0]
    assert 0 < first["train_loss"] < 10


def test_broken_images_are_counted_once(tmp_path: Path, alone: World, folder_data: Path) -> None:
    from zenopt.train.data import open_data

    (folder_data / "train" / "dark" / "0.png").write_bytes(b"no image")
    data = open_data(f"imagefolder:{folder_data}", memory_limit=10)
    result = run(data, load_recipe("basic", ["epochs=3", "batch_size=4"]), tmp_path / "run", alone)
    assert result.metrics["broken_images"] == 1 and result.metrics["classes"] == 2


def test_a_network_for_other_classes_is_named(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World
) -> None:
    run(patches, short.model_copy(update={"epochs": 1}), tmp_path, alone)
    network = SOURCE.build(7)
    with pytest.raises(CheckpointError, match="is for 4 classes, the network here has 7"):
        load_weights(network, tmp_path / "best.pt")


def test_loader_processes_change_nothing(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World
) -> None:
    recipe = short.model_copy(update={"epochs": 1})
    for workers in (0, 2):
        run(patches, recipe, tmp_path / str(workers), alone, workers=workers)
    assert_equal(weights(tmp_path / "0" / "last.pt"), weights(tmp_path / "2" / "last.pt"))


def test_memory_images_of_another_size_are_resized(tmp_path: Path, alone: World) -> None:
    pixels = torch.randint(0, 255, (16, 3, 24, 20), dtype=torch.uint8)
    part = MemoryImages(pixels, torch.arange(16) % 4)
    data = DataSet("odd", ("a", "b", "c", "d"), part, part, "none")
    assert (
        run(data, load_recipe("basic", ["epochs=1", "batch_size=8"]), tmp_path, alone).metrics["steps"] == 2
    )


def test_tensorboard_files_hold_the_metrics(patches: DataSet, tmp_path: Path, alone: World) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = load_recipe("basic", ["epochs=2", "batch_size=32", "tensorboard=true"])
    history = run(patches, recipe, tmp_path, alone).history
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    written = [(event.step, event.value) for event in events.Scalars("accuracy/top1_percent")]
    assert written == [(row["epoch"], row["top1"]) for row in history]


def test_tensorboard_missing_is_said(
    patches: DataSet, tmp_path: Path, alone: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # as if it were not installed
    recipe = load_recipe("basic", ["epochs=1", "tensorboard=true"])
    with pytest.raises(LoggerError, match="pip install tensorboard"):
        run(patches, recipe, tmp_path, alone)


def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"model": torch.zeros(10)})
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(
            TrainError, match=r"Cannot write .*last\.pt: .*; the last good checkpoint is .*last\.pt"
        ):
            checkpoint.save(path, {"model": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["last.pt"]
