"""What a training is said to take before it begins. A time is never the verdict here; what is computed from it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from structures import TINY_QUARTERED
from torch import nn

from zenopt.cli.train import train_command
from zenopt.train import timing
from zenopt.train.data import DataSet
from zenopt.train.distributed import World
from zenopt.train.networks import NetworkSource
from zenopt.train.plan import LONG_S, Plan, make_plan
from zenopt.train.recipe import load_recipe
from zenopt.train.timing import Estimate, duration, estimate_training

TINY = TINY_QUARTERED


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.83, "0.83 s"),
        (12, "12 s"),
        (89, "89 s"),
        (100, "1.7 min"),
        (3000, "50 min"),
        (7200, "2 h"),
        (2e5, "2.3 days"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Steps that take 0.5 s and 10 ms an image in training, 1 ms an image in evaluation, on a clock of its own."""
    steps: list[tuple[str, int]] = []

    def timed(step: Any, size: int, device: torch.device) -> float:
        kind = "train" if "trainer" in step.__qualname__ else "test"
        steps.append((kind, size))
        return 0.5 + 0.01 * size if kind == "train" else 0.001 * size

    monkeypatch.setattr(timing, "_timed", timed)
    monkeypatch.setattr(timing, "_load_seconds", lambda *_: (0.004, 0.001))
    return steps


def test_an_estimate_is_made_of_whole_steps(clock: list[tuple[str, int]], patches: DataSet) -> None:
    recipe = load_recipe("basic", ["epochs=10", "batch_size=64", "evaluation.every_epochs=2"])
    network = NetworkSource.from_structure(TINY, 16).build(4)
    options: dict[str, Any] = {"resolution": 16, "num_classes": 4, "train_images": 640, "test_images": 100}
    found = estimate_training(network, recipe, **options)
    # A step of 64 takes 0.5 + 0.64 s; half of the epochs evaluate 100 images at 1 ms.
    assert max(size for kind, size in clock if kind == "train") == 64
    assert found.train_images_per_second == pytest.approx(64 / 1.14)
    assert found.epoch_seconds == pytest.approx(10 * 1.14 + 0.05)
    assert found.total_seconds == pytest.approx(10 * found.epoch_seconds)
    # Loading takes turns with a CPU; two processes share it with each other.
    loaded = estimate_training(network, recipe, **options, data=patches)
    assert 1 / loaded.train_images_per_second == pytest.approx(1.14 / 64 + 0.004)
    helped = estimate_training(network, recipe, **options, data=patches, workers=2)
    assert 1 / helped.train_images_per_second == pytest.approx(1.14 / 64 + 0.002)
    # Two training processes do half of each batch, at the same time.
    shared = estimate_training(network, recipe, **options, processes=2)
    assert shared.train_images_per_second == pytest.approx(2 * 32 / 0.82)


def test_a_slow_network_is_timed_by_a_few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def timed(step: Any, size: int, device: torch.device) -> float:
        sizes.append(size)
        return size / 3.0  # three images a second

    monkeypatch.setattr(timing, "_timed", timed)
    network = NetworkSource.from_structure(TINY, 16).build(4)
    found = estimate_training(
        network, load_recipe("basic"), resolution=16, num_classes=4, train_images=50_000, test_images=0
    )
    assert found.train_images_per_second == pytest.approx(3.0)
    assert max(sizes) <= 16 and sum(sizes) / 3 < 20
    assert found.text().startswith("3 images/s on the CPU") and "days" in found.text()


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["precision.amp=bf16", "precision.channels_last=true"],
        ["loss.auxiliary={weight: 0.4, ratio: 4}", "augment.mixup=0.2"],
        ["crop_size=24", "accumulate=2", "optimizer.name=adamw"],
    ],
)
def test_measuring_leaves_the_network_and_the_random_numbers_alone(
    patches: DataSet, options: list[str]
) -> None:
    recipe = load_recipe("basic", ["batch_size=16", *options])
    network = NetworkSource.from_structure(TINY, 16).build(4)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    teacher = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(3, 4))
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    distils = recipe.model_copy(
        update={"distill": load_recipe("basic", ["distill={teacher: x, feature_weight: 0}"]).distill}
    )
    for one, knowing in ((recipe, None), (distils, (teacher, 16))):
        found = estimate_training(
            network, one, resolution=16, num_classes=4, train_images=96, test_images=32, data=patches, seconds=0.05,
            teacher=knowing,
        )  # fmt: skip
        assert 0 < found.train_images_per_second < float("inf") and found.total_seconds > 0
    assert torch.equal(torch.rand(3), wanted)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in (*network.modules(), *teacher.modules()))
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_plan_says_what_is_trained(patches: DataSet, alone: World) -> None:
    source = NetworkSource.from_structure(TINY, 16)
    plan = make_plan(source, load_recipe("basic", ["epochs=4", "batch_size=40"]), "basic", patches, alone)
    params = sum(parameter.numel() for parameter in source.build(4).parameters())
    assert plan.params == params and plan.steps_per_epoch == 2 and plan.epochs == 4 and plan.classes == 4
    lines = plan.lines()
    assert f"{params:,} params" in lines[1] and lines[2].endswith("patches: 96 training and 32 test images")
    assert (
        lines[3] == "Recipe   basic: 4 epochs of 2 steps of 40 images" and "images/s on the CPU" in lines[4]
    )
    assert all(len(line) <= 80 for line in lines)
    library = NetworkSource.from_model("torchvision:squeezenet1_1", 32)
    counted = make_plan(library, load_recipe("basic"), "basic", patches, alone)
    assert counted.params > 700_000 and counted.macs > 1_000_000


def test_a_long_training_on_a_cpu_gets_a_hint() -> None:
    estimate = Estimate("the CPU (2 threads)", 3.0, 9.0, LONG_S, 30 * LONG_S)
    plan = Plan("net", 1, 1, 32, 10, "data", 50_000, 10_000, "basic", 30, 390, 128, 1, estimate, True)
    assert "--device cuda" in plan.lines()[-1] and "--share 0.1" in plan.lines()[-1]
    quick = Plan("net", 1, 1, 32, 10, "data", 50_000, 10_000, "basic", 30, 390, 128, 8, estimate, False)
    assert "Long" not in quick.lines()[-1] and "shared by 8 processes" in quick.lines()[3]


def test_a_dry_run_trains_nothing(tmp_path: Path) -> None:
    common = [
        "--structure",
        TINY,
        "--resolution",
        "32",
        "--data",
        "synthetic:64",
        "--device",
        "cpu",
        "--dry-run",
    ]
    done = CliRunner().invoke(train_command, [*common, "--output", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert "1,834 params" in done.stdout and "images/s" in done.stdout and not (tmp_path / "run").exists()
    done = CliRunner().invoke(train_command, [*common, "--json"])
    facts = json.loads(done.stdout)
    assert facts["params"] == 1834 and facts["estimate"]["total_seconds"] > 0 and facts["train_images"] == 64
    refused = CliRunner().invoke(train_command, common[:-1])
    assert refused.exit_code == 2 and "--output is needed" in refused.output
