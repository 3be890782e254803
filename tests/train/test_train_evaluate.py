from __future__ import annotations

import pytest
import torch
from torch import nn

from zenopt.train.data import DataSet, MemoryImages
from zenopt.train.distributed import World
from zenopt.train.errors import TrainError
from zenopt.train.evaluate import evaluate
from zenopt.train.loader import test_loader
from zenopt.train.recipe import load_recipe


class ByColour(nn.Module):
    """Reads the logits of 6 classes from the first six pixels of an image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0, 0, :6]


def coded(rows: list[tuple[int, list[int]]]) -> DataSet:
    """Images that hold their own logits: (label, the classes from most to least likely)."""
    pixels = torch.zeros(len(rows), 3, 8, 8, dtype=torch.uint8)
    for index, (_, order) in enumerate(rows):
        for place, number in enumerate(order):
            pixels[index, :, 0, number] = 250 - 40 * place
    part = MemoryImages(pixels, torch.tensor([label for label, _ in rows]))
    return DataSet("coded", ("a", "b", "c", "d", "e", "f"), part, part, "none")


ROWS = [
    (0, [0, 1, 2, 3, 4, 5]),  # right
    (0, [1, 0, 2, 3, 4, 5]),  # second
    (1, [1, 0, 2, 3, 4, 5]),  # right
    (2, [0, 1, 3, 4, 2, 5]),  # fifth
    (5, [0, 1, 2, 3, 4, 5]),  # last
]


def judge(world: World, rows: list[tuple[int, list[int]]] = ROWS, batch_size: int = 2):  # type: ignore[no-untyped-def]
    batches = test_loader(coded(rows), load_recipe("basic"), crop_size=8, batch_size=batch_size)
    return evaluate(ByColour(), batches, num_classes=6, resolution=8, world=world)


def test_accuracies_by_hand(alone: World) -> None:
    found = judge(alone)
    assert found.images == 5
    assert found.top1 == pytest.approx(40.0) and found.top5 == pytest.approx(80.0)
    wanted = torch.zeros(6, 6, dtype=torch.long)
    for true, predicted in ((0, 0), (0, 1), (1, 1), (2, 0), (5, 0)):
        wanted[true, predicted] += 1
    assert torch.equal(found.confusion, wanted)
    assert found.per_class("abcdef") == {"a": 50.0, "b": 100.0, "c": 0.0, "d": None, "e": None, "f": 0.0}
    # The loss of the first row: -log softmax at its largest logit.
    logits = torch.tensor([250.0, 210, 170, 130, 90, 50]) / 255
    alone_loss = judge(alone, ROWS[:1]).loss
    assert alone_loss == pytest.approx(-torch.log_softmax(logits, 0)[0].item(), rel=1e-5)


def test_batches_do_not_matter(alone: World) -> None:
    one, other = judge(alone, batch_size=1), judge(alone, batch_size=5)
    assert torch.equal(one.confusion, other.confusion) and one.top5 == other.top5
    assert one.loss == pytest.approx(other.loss)


def test_parts_of_processes_make_up_the_whole() -> None:
    seen = []
    for rank in range(3):
        batches = test_loader(
            coded(ROWS), load_recipe("basic"), crop_size=8, batch_size=2, rank=rank, world=3
        )
        seen += [label for batch in batches for label in batch.targets.tolist()]
    assert sorted(seen) == sorted(label for label, _ in ROWS)


def test_other_classes_and_no_images(alone: World) -> None:
    batches = test_loader(coded(ROWS), load_recipe("basic"), crop_size=8)
    with pytest.raises(TrainError, match="network has 6 classes, the data 7"):
        evaluate(ByColour(), batches, num_classes=7, resolution=8, world=alone)
    with pytest.raises(TrainError, match="no test images"):
        evaluate(ByColour(), [], num_classes=6, resolution=8, world=alone)
