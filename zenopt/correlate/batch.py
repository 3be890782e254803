"""The one minibatch that every architecture of a comparison is scored on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import torch

from zenopt.core.errors import DataError


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
        """Returns a hash of the numbers, so that scores of different batches are never mixed up."""
        digest = hashlib.sha256()
        for tensor in (self.inputs, self.targets):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def make_minibatch(
    data: str | None, batch_size: int, resolution: int, num_classes: int, seed: int
) -> Minibatch:
    """Draws the minibatch.

    Args:
        data:
            ``imagefolder:PATH`` with ``PATH/train/CLASS/*`` or ``PATH/CLASS/*``: images balanced over classes, resized,
            each channel brought to mean 0 and deviation 1 over the batch. ``None``: N(0, 1) noise, random labels.
        batch_size:
            Number of images.
        resolution:
            Side of the square inputs in pixels.
        num_classes:
            Outputs of the networks; images of further classes are an error.
        seed:
            Fixes the draw.

    Raises:
        DataError: If the data cannot be read, or does not fit.
    """
    if data is None:
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn((batch_size, 3, resolution, resolution), generator=generator)
        return Minibatch(inputs, torch.randint(num_classes, (batch_size,), generator=generator), "noise")
    kind, _, path = data.partition(":")
    if kind != "imagefolder" or not path:
        raise DataError(f"Unknown data {data!r}; allowed is imagefolder:PATH.")
    folder = Path(path) / "train" if (Path(path) / "train").is_dir() else Path(path)
    inputs, targets = _draw_images(folder, batch_size, resolution, seed)
    if int(targets.max()) >= num_classes:
        raise DataError(f"{folder} has more classes than the {num_classes} outputs of the networks.")
    mean, deviation = inputs.mean((0, 2, 3), keepdim=True), inputs.std((0, 2, 3), keepdim=True)
    return Minibatch((inputs - mean) / deviation.clamp_min(1e-6), targets, data)


def _draw_images(
    folder: Path, batch_size: int, resolution: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    # Imported late: most comparisons of scores that are cached already need no images.
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    from zenopt.proxies import draw_batch

    try:
        images = ImageFolder(
            str(folder),
            transforms.Compose([transforms.Resize((resolution, resolution)), transforms.ToTensor()]),
        )
    except FileNotFoundError as error:
        raise DataError(f"{folder} is no image folder: {str(error).splitlines()[0]}") from None
    return draw_batch(images, batch_size, balanced=True, seed=seed)
