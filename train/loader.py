"""Batches: which images a step takes, and how they become a tensor.

A batch is a function of (seed, epoch, step) alone. That is what makes a resumed run repeat an uninterrupted
one, with any number of loader processes, and two training processes see halves of the batch that one would
see.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from zenopt.core.errors import DataError
from zenopt.train import augment as ops
from zenopt.train.data import (
    STATISTICS,
    BrokenImageError,
    DataSet,
    Images,
    MemoryImages,
    Statistics,
    StatisticsName,
)
from zenopt.train.recipe import Recipe


class Batch(NamedTuple):
    """One process's part of a step.

    Attributes:
        images: A `batch x 3 x height x width` float tensor, normalised.
        targets: `batch x classes` probabilities when images are mixed, else `batch` class numbers.
        broken: The images left out because they cannot be decoded.
    """

    images: torch.Tensor
    targets: torch.Tensor
    broken: tuple[str, ...]


class Key(NamedTuple):
    """The global batch of a step: random key, image numbers, the part this process holds, and the epoch of the run."""

    seed: tuple[int, ...]
    indices: list[int]
    part: slice
    epoch: int = 0


@dataclass
class StepSampler(Sampler[Key]):
    """Yields the keys of an epoch from `first_step` on.

    The last, incomplete batch of an epoch is left out (its BN statistics would be noisier); a data set
    smaller than one batch is one batch.

    Args:
        images:
            Images in the data set.
        batch_size:
            Images of a step over all processes.
        rank:
            Which part of every batch this process holds, of `world`.
        accumulate:
            Parts into which each process cuts its share of a step; a key is yielded for each.
    """

    images: int
    batch_size: int
    seed: int
    rank: int = 0
    world: int = 1
    accumulate: int = 1
    epoch: int = 0
    first_step: int = 0

    def __post_init__(self) -> None:
        self.batch_size = min(self.batch_size, self.images)
        pieces = self.world * self.accumulate
        if self.batch_size % pieces:
            raise DataError(
                f"A batch of {self.batch_size} images cannot be cut evenly over {self.world} processes "
                f"x {self.accumulate} accumulated parts; choose a multiple of {pieces}."
            )

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch."""
        return self.images // self.batch_size

    def __len__(self) -> int:
        return (self.steps - self.first_step) * self.accumulate

    def __iter__(self) -> Iterator[Key]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.images)
        piece = self.batch_size // (self.world * self.accumulate)
        for step in range(self.first_step, self.steps):
            indices = order[step * self.batch_size : (step + 1) * self.batch_size].tolist()
            for turn in range(self.accumulate):
                start = (turn * self.world + self.rank) * piece
                yield Key((self.seed, self.epoch, step), indices, slice(start, start + piece), self.epoch)


class Normalise:
    """Subtracts the channels' means and divides by their deviations, in place.

    torchvision's function copies these numbers to the images' device, and looks at them there, on every call: a GPU
    would be waited for at every step.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self._mean = torch.tensor(mean)[:, None, None]
        self._std = torch.tensor(std)[:, None, None]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        if self._mean.device != images.device:
            self._mean, self._std = self._mean.to(images.device), self._std.to(images.device)
        return images.sub_(self._mean).div_(self._std)


class TrainBatches(Dataset[Batch]):
    """Turns a key into an augmented batch; runs in this process or in loader processes."""

    def __init__(
        self,
        images: Images,
        classes: int,
        recipe: Recipe,
        crop_size: int,
        statistics: StatisticsName | Statistics,
    ) -> None:
        # Only shifts of a whole image work on the stack; a random resized crop is an image's own.
        self._pads = recipe.augment.crop.kind == "pad"
        self._images = _reduced(images, crop_size, recipe.augment.interpolation) if self._pads else images
        self._classes = classes
        self._recipe = recipe
        self._crop_size = crop_size
        self._normalise = Normalise(*channel_statistics(recipe, statistics))
        self._take(0)

    def _take(self, epoch: int) -> None:
        """Take the numbers of an epoch."""
        self._epoch = epoch
        self._augment = self._recipe.at_epoch(epoch).augment
        self._each = ops.image_transform(self._augment, self._crop_size)

    def __getitem__(self, key: Key) -> Batch:
        if key.epoch != self._epoch:
            self._take(key.epoch)
        # SeedSequence tells (seed, epoch) of the order from (seed, epoch, step) of the images.
        random = ops.BatchRandom(key.seed, len(key.indices), key.part)
        augment, seeds = self._augment, random.seeds()
        mine = key.indices[key.part]
        whole, kept, broken = self._whole(mine, seeds)
        if self._pads:
            whole = ops.pad_crop(whole, augment.crop.padding, random)
            for place in kept if self._each is not None else ():
                whole[place] = self._alone(whole[place], seeds[place])
        whole = ops.flip(whole, augment.flip, random)
        pixels = ops.lighting(whole.float().div_(255), augment.lighting, random)
        pixels = self._normalise(pixels)
        pixels = ops.erase(pixels, augment.erasing, random)
        pixels = ops.cutout(pixels, augment.cutout, random)
        if len(kept) < len(mine):
            pixels = pixels[torch.tensor(kept, dtype=torch.long)]
        targets = _taken(self._images.labels, [mine[place] for place in kept])
        if augment.mixup is not None or augment.cutmix is not None:
            targets = F.one_hot(targets, self._classes).float()
            pixels, targets = ops.mix(pixels, targets, augment.mixup, augment.cutmix, random)
        return Batch(pixels, targets, tuple(broken))

    def _whole(self, mine: list[int], seeds: list[int]) -> tuple[torch.Tensor, list[int], list[str]]:
        """Return the images as one uint8 tensor, the places of those that are there, and the names of broken ones."""
        if self._pads and is_stack(self._images, self._crop_size):
            return _taken(self._images.pixels, mine), list(range(len(mine))), []
        found, broken = self._load(mine)
        whole = torch.zeros(len(mine), 3, self._crop_size, self._crop_size, dtype=torch.uint8)
        for place, image in found.items():
            whole[place] = image if self._pads else self._alone(image, seeds[place])
        return whole, list(found), broken

    def _alone(self, image: torch.Tensor, seed: int) -> torch.Tensor:
        """Do what is done to each image on its own."""
        return image if self._each is None else ops.apply_seeded(self._each, image, seed)

    def _load(self, indices: list[int]) -> tuple[dict[int, torch.Tensor], list[str]]:
        """Return the images by their place in the batch, and the names of broken ones."""
        found: dict[int, torch.Tensor] = {}
        broken: list[str] = []
        for place, index in enumerate(indices):
            try:
                image = self._images.load(index)
            except BrokenImageError as error:
                broken.append(str(error))
                continue
            if self._pads:
                image = ops.resize_and_centre(
                    image, self._crop_size, self._crop_size, self._augment.interpolation
                )
            found[place] = image
        return found, broken


class TestBatches(Dataset[Batch]):
    """Test images, resized and centred, in order."""

    __test__ = False  # tells pytest that this is no test

    def __init__(
        self,
        images: Images,
        recipe: Recipe,
        crop_size: int,
        statistics: StatisticsName | Statistics,
        batch_size: int,
        rank: int,
        world: int,
    ) -> None:
        self._images = images
        self._crop_size = crop_size
        self._short_side = math.ceil(crop_size / recipe.evaluation.crop_ratio)
        self._interpolation = recipe.evaluation.interpolation
        self._normalise = Normalise(*channel_statistics(recipe, statistics))
        self._mine = range(rank, len(images), world)
        self._batch_size = batch_size

    def __len__(self) -> int:
        return math.ceil(len(self._mine) / self._batch_size)

    def __getitem__(self, number: int) -> Batch:
        mine = self._mine[number * self._batch_size : (number + 1) * self._batch_size]
        if is_stack(self._images, self._crop_size):
            whole = _taken(self._images.pixels, mine).float().div_(255)
            return Batch(self._normalise(whole), _taken(self._images.labels, mine), ())
        images, labels, broken = [], [], []
        for index in mine:
            try:
                image = self._images.load(index)
            except BrokenImageError as error:
                broken.append(str(error))
                continue
            images.append(
                ops.resize_and_centre(image, self._crop_size, self._short_side, self._interpolation)
            )
            labels.append(self._images.labels[index])
        if not images:
            nothing = torch.zeros(0, 3, self._crop_size, self._crop_size)
            return Batch(nothing, torch.zeros(0, dtype=torch.long), tuple(broken))
        pixels = self._normalise(torch.stack(images).float().div_(255))
        return Batch(pixels, torch.stack(labels), tuple(broken))


def is_stack(images: Images, crop_size: int) -> TypeGuard[MemoryImages]:
    """Return whether images are one tensor, and of just the crop's size: a batch of them is a few tensor operations."""
    return isinstance(images, MemoryImages) and images.pixels.shape[-2:] == (crop_size, crop_size)


def _reduced(images: Images, crop_size: int, interpolation: str) -> Images:
    """Return images that lie in memory and are larger than the crop as they enter it, resized once for all epochs."""
    if not isinstance(images, MemoryImages) or min(images.pixels.shape[-2:]) <= crop_size:
        return images
    return MemoryImages(
        ops.resize_and_centre(images.pixels, crop_size, crop_size, interpolation), images.labels
    )


def resident(data: DataSet, recipe: Recipe, crop_size: int, device: torch.device) -> DataSet | None:
    """Return a data set whose images lie on a GPU, where batches of them are then made.

    None where that cannot be: images are read from files, have another size than the crop, or are transformed one at a
    time. The batches are those of the CPU, up to rounding.
    """
    parts = []
    for images in (data.train, data.test):
        if not is_stack(images, crop_size) or _transforms_each(recipe):
            return None
        parts.append(MemoryImages(images.pixels.to(device), images.labels.to(device)))
    return replace(data, train=parts[0], test=parts[1])


def _transforms_each(recipe: Recipe) -> bool:
    """Return whether images are transformed one at a time."""
    return ops.image_transform(recipe.at_epoch(0).augment, 8) is not None


def train_loader(
    data: DataSet,
    recipe: Recipe,
    *,
    crop_size: int,
    sampler: StepSampler,
    workers: int = 0,
    pin: bool = False,
) -> DataLoader[Batch]:
    """Return the batches of `sampler`, prepared by `workers` processes (0: by this one).

    With `pin` they lie in page-locked memory, from which a GPU copies them in the background.
    """
    batches = TrainBatches(data.train, len(data.classes), recipe, crop_size, data.statistics)
    return _loader(batches, workers, sampler=sampler, pin_memory=pin)


def test_loader(
    data: DataSet,
    recipe: Recipe,
    *,
    crop_size: int,
    batch_size: int = 256,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    pin: bool = False,
) -> DataLoader[Batch]:
    """Return every `world`-th test image from `rank` on, in batches; `pin` as for training."""
    batches = TestBatches(data.test, recipe, crop_size, data.statistics, batch_size, rank, world)
    return _loader(batches, workers, pin_memory=pin)


test_loader.__test__ = False  # type: ignore[attr-defined]  # tells pytest that this is no test


def _taken(values: torch.Tensor, indices: Sequence[int]) -> torch.Tensor:
    return values[ops.moved(torch.tensor(indices, dtype=torch.long), values.device)]


def _loader(dataset: Dataset[Batch], workers: int, **options: Any) -> DataLoader[Batch]:
    # batch_size=None: a key already is a whole batch. Augmentation never reads the loader's own seeds, but
    # making an iterator draws one from torch's global generator; a private one keeps that out of the run's
    # random state.
    return DataLoader(
        dataset,
        batch_size=None,
        num_workers=workers,
        generator=torch.Generator().manual_seed(0),
        persistent_workers=False,
        **options,
    )


def default_workers(data: DataSet, recipe: Recipe, cores: int) -> int:
    """Return how many loader processes pay: none where a batch is a few tensor operations, else a process a core."""
    simple = isinstance(data.train, MemoryImages) and not _transforms_each(recipe)
    return 0 if simple else max(1, cores - 1)


def channel_statistics(
    recipe: Recipe, fitting: StatisticsName | Statistics
) -> tuple[list[float], list[float]]:
    """Return the means and deviations by which images are normalised: the recipe's, or those that fit the data."""
    wanted = fitting if recipe.normalize == "auto" else recipe.normalize
    mean, std = STATISTICS[wanted] if isinstance(wanted, str) else wanted
    return list(mean), list(std)
