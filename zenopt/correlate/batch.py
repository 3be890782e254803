"""The one minibatch that every architecture of a comparison is scored on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch.utils.data import Dataset

from zenopt.core.errors import DataError
from zenopt.core.text import shortened_path


@dataclass(frozen=True)
class Minibatch:
    """Inputs and labels.

    Attributes:
        inputs: A ``batch x 3 x resolution x resolution`` tensor.
        targets: ``batch`` class indices.
        source: Where they came from.
    """

    inputs: torch.Tensor = field(repr=False)
    targets: torch.Tensor = field(repr=False)
    source: str

    def fingerprint(self) -> str:
        """Return a hash of the numbers, so that scores of different batches are never mixed up."""
        digest = hashlib.sha256()
        for tensor in (self.inputs, self.targets):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


class LabelledImages(Protocol):
    """Images with their classes, as :func:`zenopt.train.data.open_training_images` returns them."""

    @property
    def labels(self) -> torch.Tensor:
        """The class number of each image."""
        ...

    def __len__(self) -> int: ...

    def load(self, index: int) -> torch.Tensor:
        """Return a ``3 x height x width`` uint8 tensor."""
        ...


def make_minibatch(
    images: LabelledImages | None,
    batch_size: int,
    resolution: int,
    num_classes: int,
    seed: int,
    *,
    source: str = "noise",
) -> Minibatch:
    """Draw the minibatch.

    Args:
        images:
            Images to draw from: balanced over classes, resized, each channel brought to mean 0 and deviation 1 over the
            batch. ``None``: N(0, 1) noise, random labels.
        batch_size:
            Number of images.
        resolution:
            Side of the square inputs in pixels.
        num_classes:
            Outputs of the networks; images of further classes are an error.
        seed:
            Fixes the draw.
        source:
            What the images are called.

    Raises:
        DataError: If the images cannot be read, or do not fit.
    """
    if images is None:
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn((batch_size, 3, resolution, resolution), generator=generator)
        return Minibatch(inputs, torch.randint(num_classes, (batch_size,), generator=generator), source)
    # Imported late: most comparisons of scores that are cached already need no images.
    from zenopt.proxies import draw_batch

    inputs, targets = draw_batch(_Resized(images, resolution), batch_size, balanced=True, seed=seed)
    if int(targets.max()) >= num_classes:
        raise DataError(
            f"{shortened_path(source)} has more classes than the {num_classes} outputs of the networks."
        )
    mean, deviation = inputs.mean((0, 2, 3), keepdim=True), inputs.std((0, 2, 3), keepdim=True)
    return Minibatch((inputs - mean) / deviation.clamp_min(1e-6), targets, source)


class _Resized(Dataset[Any]):
    """Images of one size, in [0, 1], with their classes."""

    def __init__(self, images: LabelledImages, resolution: int) -> None:
        self._images, self._resolution = images, resolution
        self.labels = images.labels

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        from torchvision.transforms import functional

        picture = functional.to_pil_image(self._images.load(index))
        resized = functional.resize(picture, [self._resolution, self._resolution])
        return functional.to_tensor(resized), int(self.labels[index])
