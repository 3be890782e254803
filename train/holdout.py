"""Training images held back: a part of them judges, so that the test images stay unseen."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from zenopt.train.data import DataSet, Images, MemoryImages
from zenopt.train.errors import TrainError


def hold_back(data: DataSet, share: float, seed: int = 0) -> DataSet:
    """Return a data set whose test part is a random share of another's training images.

    Raises:
        TrainError: A part would be empty.
    """
    order = np.random.default_rng(seed).permutation(len(data.train))
    count = round(share * len(data.train))
    if not 0 < count < len(data.train):
        raise TrainError(f"Cannot hold back {share:g} of {len(data.train)} training images.")
    name = f"{data.name} ({share:g} held back)"
    return replace(
        data, name=name, train=_choose(data.train, order[count:]), test=_choose(data.train, order[:count])
    )


@dataclass(frozen=True)
class _Chosen:
    images: Images
    places: torch.Tensor

    def __len__(self) -> int:
        return len(self.places)

    @property
    def labels(self) -> torch.Tensor:
        return self.images.labels[self.places]

    def load(self, index: int) -> torch.Tensor:
        return self.images.load(int(self.places[index]))


def _choose(images: Images, places: np.ndarray) -> Images:
    chosen = torch.from_numpy(np.sort(places))
    if isinstance(images, MemoryImages):
        return MemoryImages(images.pixels[chosen], images.labels[chosen])
    return _Chosen(images, chosen)
