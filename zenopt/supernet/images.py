"""The images that judge paths: held-back ones, and training images for the statistics of batch normalisation.

They lie beside the weights as they enter a network, so that a search needs no data set and reads them in milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zenopt.core.files import CHECKPOINT
from zenopt.nn.weights import read_torch_file
from zenopt.train import checkpoint
from zenopt.train.data import DataSet, Images
from zenopt.train.features import reduce_images
from zenopt.train.loader import TestBatches, channel_statistics
from zenopt.train.recipe import Recipe
from zenopt.train.subsets import ChosenImages

IMAGES_FILE = "images.pt"
_BATCH = 256


@dataclass(frozen=True)
class JudgeImages:
    """Images of a supernet.

    Attributes:
        judged: ``count x 3 x side x side`` uint8 images held back from training.
        labels: Their class numbers.
        settling: Training images, likewise, without augmentation.
        mean, std: Of the channels, by which all are normalised.
    """

    judged: torch.Tensor
    labels: torch.Tensor
    settling: torch.Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalised(self, images: torch.Tensor, resolution: int) -> torch.Tensor:
        """Return images as a network takes them.

        Args:
            images:
                :attr:`judged` or :attr:`settling`, or some of them.
            resolution:
                The network's input side, pixels.
        """
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.mean, self.std))
        return reduce_images((images.float() / 255 - mean) / std, resolution)


def collect(
    data: DataSet, recipe: Recipe, crop_size: int, *, judged: int, settling: int, seed: int = 0
) -> JudgeImages:
    """Return at most so many images of both kinds, drawn from a data set whose test part was held back.

    They lie in the order of the draw: data sets are often sorted by class, the first few images of a sorted draw would
    be of few classes, and statistics of batches of one class each are those of no batch that a path was trained on.

    Args:
        data:
            The data.
        recipe:
            How test images are cut, and by what they are normalised.
        crop_size:
            Their side, pixels.
        judged, settling:
            How many at most.
        seed:
            Of the draw.
    """
    mean, std = channel_statistics(recipe, data.statistics)
    pixels, labels = _pixels(data.test, recipe, crop_size, judged, seed)
    return JudgeImages(
        pixels, labels, _pixels(data.train, recipe, crop_size, settling, seed)[0], tuple(mean), tuple(std)
    )


def _pixels(
    images: Images, recipe: Recipe, crop_size: int, count: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    order = np.random.default_rng(seed).permutation(len(images))[:count]
    chosen = ChosenImages(images, torch.from_numpy(order))
    # Means 0 and deviations 1 leave the very bytes of the images.
    bare = recipe.model_copy(update={"normalize": "none"})
    batches = TestBatches(chosen, bare, crop_size, "none", _BATCH, 0, 1)
    found = [batches[number] for number in range(len(batches))]
    pixels = torch.cat([batch.images for batch in found])
    return (pixels * 255).round().to(torch.uint8), torch.cat([batch.targets for batch in found])


def write_images(folder: Path, images: JudgeImages) -> None:
    """Write the images of a supernet."""
    checkpoint.save(folder / IMAGES_FILE, vars(images))


def read_images(folder: Path) -> JudgeImages:
    """Read the images of a supernet; pixels stay in the file until they are needed.

    Raises:
        CheckpointError: They are missing or damaged.
    """
    path = folder / IMAGES_FILE
    content = read_torch_file(path, mmap=True)
    try:
        found = JudgeImages(**content)
        _check(found)
    except (TypeError, ValueError, AttributeError) as error:
        raise CHECKPOINT.refusal(path, f"it holds no images of a supernet ({error})") from None
    return found


def _check(images: JudgeImages) -> None:
    for name, pixels in (("judged", images.judged), ("settling", images.settling)):
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1] != 3 or not len(pixels):
            raise ValueError(f"{name} is {pixels.dtype} of shape {tuple(pixels.shape)}")
    if images.labels.dtype != torch.int64 or images.labels.shape != images.judged.shape[:1]:
        raise ValueError("labels do not fit the judged images")
    for name, numbers in (("mean", images.mean), ("std", images.std)):
        if len(numbers) != 3 or not all(_is_number(value) for value in numbers):
            raise ValueError(f"{name} is not three numbers")


def _is_number(value: Any) -> bool:
    return isinstance(value, float) and value == value
