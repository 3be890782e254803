"""Batches made where the images lie: the same as those made an image at a time, and never on two devices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from structures import TWO_HALVINGS

from zenopt.train.data import DataSet, MemoryImages, open_data
from zenopt.train.distributed import World
from zenopt.train.engine import fit
from zenopt.train.errors import TrainError
from zenopt.train.graphs import check_graphs
from zenopt.train.loader import StepSampler, resident, test_loader, train_loader
from zenopt.train.networks import NetworkSource
from zenopt.train.recipe import Recipe, load_recipe

CPU = torch.device("cpu")
OPTIONS = [
    ["augment.crop.padding=2", "augment.flip=0.5"],
    ["augment.erasing={}", "augment.lighting=0.1", "augment.cutout=6"],
    ["augment.mixup=0.2", "augment.cutmix=1.0", "accumulate=2"],
]


class OneByOne:
    """Images that are asked for one at a time, as those of files are."""

    def __init__(self, images: MemoryImages) -> None:
        self.labels = images.labels
        self._images = images

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, index: int) -> torch.Tensor:
        return self._images.pixels[index]


@pytest.mark.parametrize("options", OPTIONS)
def test_a_stack_gives_the_batches_of_single_images(patches: DataSet, options: list[str]) -> None:
    recipe = load_recipe("basic", ["batch_size=32", *options])
    single = replace(patches, train=OneByOne(patches.train), test=OneByOne(patches.test))
    placed = resident(patches, recipe, 16, CPU)
    assert placed is not None and resident(single, recipe, 16, CPU) is None
    sampler = StepSampler(len(patches.train), 32, seed=1, accumulate=recipe.accumulate)
    pairs = zip(
        [*train_loader(single, recipe, crop_size=16, sampler=sampler), *test_loader(single, recipe, crop_size=16)],
        [*train_loader(placed, recipe, crop_size=16, sampler=sampler), *test_loader(placed, recipe, crop_size=16)],
        strict=True,
    )  # fmt: skip
    for one, other in pairs:
        assert torch.equal(one.images, other.images) and torch.equal(one.targets, other.targets)


@pytest.mark.parametrize("options", OPTIONS)
def test_batches_are_made_on_one_device(patches: DataSet, options: list[str]) -> None:
    """The device `meta` computes nothing, but refuses tensors of another one."""
    recipe = load_recipe("basic", ["batch_size=32", *options])
    placed = resident(patches, recipe, 16, torch.device("meta"))
    assert placed is not None
    sampler = StepSampler(len(patches.train), 32, seed=1, accumulate=recipe.accumulate)
    batches = [*train_loader(placed, recipe, crop_size=16, sampler=sampler)]
    batches += [*test_loader(placed, recipe, crop_size=16)]
    assert {tensor.device.type for batch in batches for tensor in (batch.images, batch.targets)} == {"meta"}


def test_what_cannot_lie_on_the_device(patches: DataSet, folder_data: Path) -> None:
    basic = load_recipe("basic")
    assert resident(patches, basic, 16, CPU) is not None
    assert resident(patches, basic, 20, CPU) is None  # would have to be resized
    for option in ("augment.crop.kind=random_resized", "augment.policy=randaugment"):
        assert resident(patches, load_recipe("basic", [option]), 16, CPU) is None
    assert resident(open_data(f"imagefolder:{folder_data}", memory_limit=0), basic, 16, CPU) is None


@pytest.mark.parametrize(
    ("options", "world", "refusal"),
    [
        ([], World(0, 1, CPU), "a CUDA device; the device is 'cpu'"),
        ([], World(0, 2, torch.device("cuda:0")), "one process; there are 2"),
        (["accumulate=2"], World(0, 1, torch.device("cuda:0")), "accumulate=1; it is 2"),
    ],
)
def test_graphs_say_what_they_need(options: list[str], world: World, refusal: str) -> None:
    with pytest.raises(TrainError, match=f"precision.compile=graphs needs {refusal}"):
        check_graphs(load_recipe("basic", ["precision.compile=graphs", *options]), world)


def test_graphs_are_refused_before_a_run_begins(patches: DataSet, short: Recipe, tmp_path: Path) -> None:
    source = NetworkSource.from_structure(TWO_HALVINGS, 16)
    precision = short.precision.model_copy(update={"compile": "graphs"})
    with pytest.raises(TrainError, match="needs a CUDA device"):
        fit(
            source.build(4), patches, short.model_copy(update={"precision": precision}), output=tmp_path / "run",
            resolution=16, identity=source.facts(), world=World(0, 1, CPU),
        )  # fmt: skip
    assert not (tmp_path / "run" / "last.pt").exists()


def test_a_missing_compiler_is_one_line(
    patches: DataSet, short: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._dynamo.exc import BackendCompilerFailed

    def compiled(model: torch.nn.Module, **_: object) -> object:
        def fail(*_: object) -> None:
            raise BackendCompilerFailed(lambda: None, RuntimeError("no C compiler"), None)

        return fail

    monkeypatch.setattr(torch, "compile", compiled)
    source = NetworkSource.from_structure(TWO_HALVINGS, 16)
    precision = short.precision.model_copy(update={"compile": True})
    with pytest.raises(
        TrainError, match=r"torch.compile does not work on cpu here \(.*no C compiler"
    ) as refused:
        fit(
            source.build(4), patches, short.model_copy(update={"precision": precision}), output=tmp_path / "run",
            resolution=16, identity=source.facts(), world=World(0, 1, CPU),
        )  # fmt: skip
    assert "\n" not in str(refused.value)
