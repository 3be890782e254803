"""Some of a data set's images: a share of every class for a quick look, training images held back to judge."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from zenopt.core.errors import DataError
from zenopt.train.data import DataSet, Images, MemoryImages
from zenopt.train.errors import TrainError


@dataclass(frozen=True)
class ChosenImages:
    """Some images of others, by their places there."""

    images: Images
    places: torch.Tensor

    def __len__(self) -> int:
        return len(self.places)

    @property
    def labels(self) -> torch.Tensor:
        return self.images.labels[self.places]

    def load(self, index: int) -> torch.Tensor:
        return self.images.load(int(self.places[index]))


def share_of(data: DataSet, share: float) -> DataSet:
    """Return a data set with a share of every class's training and test images, at least one of each class.

    The same share is the same images every time, and a larger share holds those of a smaller one.

    Args:
        share:
            In (0, 1]; 1 returns the data set itself.

    Raises:
        DataError: The share is not in this range.
    """
    if not 0 < share <= 1:
        raise DataError(f"--share must be in (0, 1], got {share:g}.")
    if share == 1:
        return data
    train, test = (_choose(part, _share_of_classes(part, share)) for part in (data.train, data.test))
    return replace(data, name=f"{data.name} (share {share:g})", train=train, test=test)


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
    train, test = _choose(data.train, order[count:]), _choose(data.train, order[:count])
    return replace(data, name=name, train=train, test=test, judged_on="held-back")


def shuffled(images: Images, seed: int = 0) -> Images:
    """Return the same images in a random order."""
    return _taken(images, np.random.default_rng(seed).permutation(len(images)))


def _share_of_classes(images: Images, share: float) -> np.ndarray:
    order = np.random.default_rng(0).permutation(len(images))
    labels = images.labels.numpy()[order]
    chosen = []
    for label in np.unique(labels):
        own = order[labels == label]
        chosen.append(own[: max(1, round(share * len(own)))])
    return np.concatenate(chosen)


def _choose(images: Images, places: np.ndarray) -> Images:
    return _taken(images, np.sort(places))


def _taken(images: Images, places: np.ndarray) -> Images:
    chosen = torch.from_numpy(places)
    if isinstance(images, MemoryImages):
        return MemoryImages(images.pixels[chosen], images.labels[chosen])
    return ChosenImages(images, chosen)
