"""Drawing minibatches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from zenopt.core.errors import DataError
from zenopt.proxies import draw_batch


class Recorded(Dataset[tuple[torch.Tensor, int]]):
    """Thirty images of three classes, unequally many; remembers what was read."""

    def __init__(self, with_targets: bool) -> None:
        self.classes = [0] * 20 + [1] * 6 + [2] * 4
        if with_targets:
            self.targets = self.classes
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.read.append(index)
        return torch.full((3, 2, 2), float(index)), self.classes[index]


def test_random_batch_reads_only_what_it_gives() -> None:
    data = Recorded(with_targets=True)
    state = torch.get_rng_state()
    images, labels = draw_batch(data, 7, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert images.shape == (7, 3, 2, 2) and labels.shape == (7,)
    assert len(data.read) == len(set(data.read)) == 7
    assert [data.classes[int(image[0, 0, 0])] for image in images] == labels.tolist()
    assert torch.equal(images, draw_batch(data, 7, seed=1)[0])
    assert not torch.equal(images, draw_batch(data, 7, seed=2)[0])


@pytest.mark.parametrize("with_targets", [True, False])
def test_balanced_batch(with_targets: bool) -> None:
    data = Recorded(with_targets)
    _, labels = draw_batch(data, 12, balanced=True)
    assert Counter(labels.tolist()) == {0: 4, 1: 4, 2: 4}
    assert len(data.read) == (12 if with_targets else 42)
    _, labels = draw_batch(data, 10, balanced=True)
    assert sorted(Counter(labels.tolist()).values()) == [3, 3, 4]


def test_loader_gives_its_data_set_and_collation() -> None:
    loader = DataLoader(
        TensorDataset(torch.arange(20.0), torch.arange(20) % 4),
        batch_size=3,
        collate_fn=lambda items: (
            torch.stack([x for x, _ in items]) + 100,
            torch.stack([y for _, y in items]),
        ),
    )
    images, labels = draw_batch(loader, 8, balanced=True)
    assert images.min() >= 100
    assert Counter(labels.tolist()) == dict.fromkeys(range(4), 2)


def test_unsuitable_sources() -> None:
    with pytest.raises(DataError, match="from 1 to 30"):
        draw_batch(Recorded(True), 31)
    with pytest.raises(DataError, match="Class 2 has 4 samples, 5 are needed"):
        draw_batch(Recorded(True), 15, balanced=True)

    class Stream(IterableDataset[int]):
        def __iter__(self) -> Iterator[int]:
            return iter(())

    with pytest.raises(DataError, match="no length"):
        draw_batch(Stream(), 1)
