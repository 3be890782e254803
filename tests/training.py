"""Fixtures of everything that trains: small networks and data sets. A plugin of the root conftest."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from structures import TWO_HALVINGS

from zenopt.train.data import DataSet, MemoryImages
from zenopt.train.distributed import World
from zenopt.train.progress import Silent
from zenopt.train.recipe import Recipe, load_recipe

TINY = TWO_HALVINGS


class Stop(Exception):
    """What ends a run in the middle."""


class StopAfter(Silent):
    """Ends a run after so many steps, as a kill would: nothing more is written."""

    error: type[BaseException] = Stop

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, done: int, loss: float, lr: float) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error


@pytest.fixture
def alone() -> World:
    return World(0, 1, torch.device("cpu"))


@pytest.fixture
def patches() -> DataSet:
    """Four classes of 16 px images, told apart by which quarter is bright; 96 to train on, 32 to test."""
    generator = torch.Generator().manual_seed(0)

    def part(count: int) -> MemoryImages:
        labels = torch.arange(count) % 4
        pixels = torch.randint(0, 120, (count, 3, 16, 16), generator=generator)
        for index, label in enumerate(labels.tolist()):
            row, column = 8 * (label // 2), 8 * (label % 2)
            pixels[index, :, row : row + 8, column : column + 8] += 120
        return MemoryImages(pixels.to(torch.uint8), labels)

    return DataSet("patches", ("nw", "ne", "sw", "se"), part(96), part(32), "none")


@pytest.fixture
def short() -> Recipe:
    """Three epochs of 6 steps, without flips (they would move the bright quarter) or shifts."""
    return load_recipe(
        "basic",
        [
            "epochs=3",
            "batch_size=16",
            "optimizer.lr=0.8",
            "augment.flip=0",
            "augment.crop.padding=1",
            "schedule.warmup_epochs=0.5",
        ],
    )


@pytest.fixture
def folder_data(tmp_path: Path) -> Path:
    """An image folder with two classes, 6 + 4 images of 16 px each."""
    generator = torch.Generator().manual_seed(1)
    for part, count in (("train", 6), ("test", 4)):
        for name, low in (("dark", 0), ("light", 150)):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = torch.randint(low, low + 100, (16, 16, 3), generator=generator, dtype=torch.uint8)
                Image.fromarray(pixels.numpy()).save(folder / f"{index}.png")
    return tmp_path / "images"


def write_cifar(root: Path, ten: bool) -> np.ndarray:
    """Write CIFAR batches of 20 random images each; return the first one's pixels."""
    rng = np.random.default_rng(0)
    folder = root / ("cifar-10-batches-py" if ten else "cifar-100-python")
    folder.mkdir(parents=True)
    files = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"] if ten else ["train", "test"]
    first = None
    for name in files:
        pixels = rng.integers(0, 256, (20, 3072), dtype=np.uint8)
        first = pixels if first is None else first
        content = {b"data": pixels, b"labels" if ten else b"fine_labels": list(range(10)) * 2}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    names = {
        b"label_names" if ten else b"fine_label_names": [b"class%d" % i for i in range(10 if ten else 100)]
    }
    (folder / ("batches.meta" if ten else "meta")).write_bytes(pickle.dumps(names, protocol=2))
    assert first is not None
    return first
