"""Training on a CUDA device: what a CPU cannot show. All of it is skipped where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from structures import TWO_HALVINGS

from zenopt.cli.evaluate import evaluate_command
from zenopt.cli.train import train_command
from zenopt.nn.weights import read_torch_file
from zenopt.train.data import DataSet
from zenopt.train.distributed import World
from zenopt.train.engine import RunResult, fit
from zenopt.train.loader import StepSampler, train_loader
from zenopt.train.networks import NetworkSource
from zenopt.train.progress import Silent
from zenopt.train.recipe import Recipe, load_recipe
from zenopt.train.timing import estimate_training

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

TINY = TWO_HALVINGS
SOURCE = NetworkSource.from_structure(TINY, 16)


@pytest.fixture
def cuda() -> World:
    return World(0, 1, torch.device("cuda:0"))


def run(data: DataSet, recipe: Recipe, output: Path, world: World, **options: object) -> RunResult:
    torch.manual_seed(0)
    return fit(
        SOURCE.build(len(data.classes)), data, recipe, output=output, resolution=16, identity=SOURCE.facts(),
        world=world, **options,  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_gpu_learns_what_a_cpu_learns(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World, cuda: World
) -> None:
    results = [run(patches, short, tmp_path / world.device.type, world) for world in (alone, cuda)]
    losses = [[row["train_loss"] for row in result.history] for result in results]
    # The same images and first weights; only the order of additions differs, and grows on the way.
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-2)
    assert results[1].metrics["top1"] > 50  # chance is 25
    kept = read_torch_file(tmp_path / "cuda" / "best.pt")["model"]
    assert all(value.device.type == "cpu" for value in kept.values())


@pytest.mark.parametrize(
    "options",
    [
        ["precision.amp=fp16", "precision.channels_last=true", "optimizer.clip_norm=5"],
        ["precision.amp=bf16", "ema_decay=0.9", "accumulate=2"],
        ["model.drop_path=0.2", "model.dropout=0.1", "augment.mixup=0.2", "crop_size=20"],
        ["optimizer.name=adamw", "optimizer.lr=0.01", "loss.auxiliary={weight: 0.4, ratio: 2}"],
    ],
)
def test_options_train_and_resume(patches: DataSet, tmp_path: Path, cuda: World, options: list[str]) -> None:
    class Stop(Exception):
        pass

    class StopAfter(Silent):
        def end(self, row: dict[str, object]) -> None:
            raise Stop

    recipe = load_recipe("basic", ["epochs=2", "batch_size=32", "augment.flip=0", *options])
    with pytest.raises(Stop):
        run(patches, recipe, tmp_path, cuda, observer=StopAfter())
    history = run(patches, recipe, tmp_path, cuda, resume="must").history
    assert len(history) == 2 and all(0 < row["train_loss"] < 10 for row in history)


def test_batches_for_a_gpu_are_pinned(patches: DataSet, short: Recipe) -> None:
    sampler = StepSampler(len(patches.train), 16, seed=0)
    for workers in (0, 1):
        batches = train_loader(patches, short, crop_size=16, sampler=sampler, workers=workers, pin=True)
        batch = next(iter(batches))
        assert batch.images.is_pinned() and batch.targets.is_pinned() and batch.broken == ()


def test_an_estimate_names_the_gpu(patches: DataSet, cuda: World) -> None:
    network = SOURCE.build(4)
    found = estimate_training(
        network, load_recipe("basic", ["precision.amp=fp16"]), resolution=16, num_classes=4, train_images=960,
        test_images=320, device=cuda.device, data=patches, workers=2,
    )  # fmt: skip
    assert found.device == torch.cuda.get_device_name(0) and found.train_images_per_second > 0
    assert all(parameter.device.type == "cpu" for parameter in network.parameters())


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENOPT_DEVICE", "cuda:0")
    data = ["--data", "synthetic:256"]
    common = ["--structure", TINY, "--resolution", "32", *data, "--epochs", "1"]
    done = CliRunner().invoke(train_command, [*common, "--output", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert torch.cuda.get_device_name(0) in done.stderr
    judged = CliRunner().invoke(
        evaluate_command, ["--weights", str(tmp_path / "run" / "best.pt"), *data, "--amp", "fp16", "--json"]
    )
    assert judged.exit_code == 0, judged.output
    wanted = json.loads((tmp_path / "run" / "metrics.json").read_text())["top1"]
    assert json.loads(judged.stdout)["top1"] == pytest.approx(wanted, abs=5)
