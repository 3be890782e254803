"""Augmentation of uint8 batches, drawn from one generator for each step.

Every draw of a batch is made for the whole (global) batch and then cut to the part a process holds, so two processes
with half a batch each see the very images that one process with the joined batch sees. Mixing partners come from the
same process's part.

Draws, and what is decided from them, are made on the CPU; only what is decided goes to the device of the images. So a
GPU crops, mirrors and erases the very pixels that a CPU does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as T

from zenopt.train.recipe import Augment, Erasing

# Eigenvectors and eigenvalues of ImageNet's pixel covariance (AlexNet's "lighting"), for images in [0, 1].
_LIGHTING_VALUES = torch.tensor([0.2175, 0.0188, 0.0045])
_LIGHTING_VECTORS = torch.tensor(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)
_INTERPOLATION = {"bilinear": v2.InterpolationMode.BILINEAR, "bicubic": v2.InterpolationMode.BICUBIC}


class BatchRandom:
    """The random numbers of one training step.

    Args:
        key:
            (seed, epoch, step): equal keys draw equal numbers, so that a resumed run repeats an uninterrupted one.
        size:
            Images of the global batch.
        part:
            The images of it that this process holds.
    """

    def __init__(self, key: tuple[int, ...], size: int, part: slice) -> None:
        self._generator = np.random.default_rng(key)
        self._size = size
        self._part = part

    def uniform(self, *shape: int) -> torch.Tensor:
        """Return `part x shape` numbers in [0, 1)."""
        return torch.from_numpy(self._generator.random((self._size, *shape), dtype=np.float32)[self._part])

    def normal(self, *shape: int) -> torch.Tensor:
        """Return `part x shape` standard normal numbers."""
        return torch.from_numpy(
            self._generator.standard_normal((self._size, *shape), dtype=np.float32)[self._part]
        )

    def seeds(self) -> list[int]:
        """Return a seed for each image of the part."""
        return self._generator.integers(2**62, size=self._size)[self._part].tolist()

    def integer(self, high: int, count: int) -> torch.Tensor:
        """Return `count` integers in [0, high), the same in every process."""
        return torch.from_numpy(self._generator.integers(high, size=count))

    def beta(self, alpha: float) -> float:
        return float(self._generator.beta(alpha, alpha))

    def coin(self) -> bool:
        return bool(self._generator.random() < 0.5)


def image_transform(augment: Augment, crop_size: int) -> v2.Transform | None:
    """Return what is done to each image on its own, or None; it draws from torch's global generator."""
    steps: list[Any] = []
    mode = _INTERPOLATION[augment.interpolation]
    if augment.crop.kind == "random_resized":
        steps.append(
            v2.RandomResizedCrop(
                crop_size, augment.crop.scale, augment.crop.ratio, interpolation=mode, antialias=True
            )
        )
    fill = [float(augment.fill)] * 3 if augment.fill else None
    if augment.policy == "randaugment":
        steps.append(v2.RandAugment(augment.randaugment.ops, augment.randaugment.magnitude, fill=fill))
    elif augment.policy == "trivialaugment":
        steps.append(v2.TrivialAugmentWide(fill=fill))
    elif augment.policy is not None:
        policy = v2.AutoAugmentPolicy(augment.policy.removeprefix("autoaugment-"))
        steps.append(v2.AutoAugment(policy, fill=fill))
    if augment.color_jitter is not None:
        jitter = augment.color_jitter
        steps.append(v2.ColorJitter(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue))
    return v2.Compose(steps) if steps else None


def apply_seeded(transform: v2.Transform, image: torch.Tensor, seed: int) -> torch.Tensor:
    """Apply a torchvision transform, whose draws are torch's global ones, with a seed of its own."""
    with torch.random.fork_rng(devices=[]):
        # The CPU's generator alone: `torch.manual_seed` would seed a GPU's too, from which dropout draws.
        torch.default_generator.manual_seed(seed)
        return transform(image)


def pad_crop(images: torch.Tensor, padding: int, random: BatchRandom) -> torch.Tensor:
    """Shift each image by up to `padding` pixels a side, filling with black."""
    if padding == 0:
        return images
    count, _, height, width = images.shape
    offsets = (random.uniform(2) * (2 * padding + 1)).long()
    rows = _on(images, offsets[:, 0, None] + torch.arange(height))
    columns = _on(images, offsets[:, 1, None] + torch.arange(width))
    padded = F.pad(images, (padding, padding, padding, padding)).permute(0, 2, 3, 1)
    places = torch.arange(count, device=images.device)
    cut = padded[places[:, None, None], rows[:, :, None], columns[:, None, :]]
    return cut.permute(0, 3, 1, 2).contiguous()


def flip(images: torch.Tensor, probability: float, random: BatchRandom) -> torch.Tensor:
    """Mirror each image left to right with a probability."""
    if probability == 0:
        return images
    mirrored = _on(images, random.uniform() < probability)
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def lighting(images: torch.Tensor, deviation: float, random: BatchRandom) -> torch.Tensor:
    """Add AlexNet's PCA noise to images in [0, 1]."""
    if deviation == 0:
        return images
    weights = random.normal(3) * deviation * _LIGHTING_VALUES
    return images + _on(images, weights @ _LIGHTING_VECTORS.T)[:, :, None, None]


def erase(images: torch.Tensor, options: Erasing | None, random: BatchRandom) -> torch.Tensor:
    """Set a random rectangle of some normalised images to 0 (torchvision's RandomErasing, for a batch at once)."""
    if options is None:
        return images
    tries = 10  # torchvision's number of attempts to find a rectangle that fits
    height, width = images.shape[2:]
    chosen = random.uniform() < options.probability
    area = height * width * (options.area[0] + random.uniform(tries) * (options.area[1] - options.area[0]))
    low, high = np.log(options.ratio[0]), np.log(options.ratio[1])
    ratio = torch.exp(low + random.uniform(tries) * (high - low))
    tall = torch.round(torch.sqrt(area * ratio))
    wide = torch.round(torch.sqrt(area / ratio))
    fits = (tall < height) & (wide < width)
    first = fits.float().argmax(1, keepdim=True)  # 0 where none fits: then nothing is erased
    chosen &= fits.any(1)
    tall, wide = tall.gather(1, first), wide.gather(1, first)
    corner = random.uniform(2)
    top = torch.floor(corner[:, :1] * (height - tall + 1))
    left = torch.floor(corner[:, 1:] * (width - wide + 1))
    return images.masked_fill(
        _box(top, left, tall, wide, images) & _on(images, chosen)[:, None, None, None], 0.0
    )


def cutout(images: torch.Tensor, side: int | None, random: BatchRandom) -> torch.Tensor:
    """Set a square of each normalised image to 0; its centre lies in the image, its edges may not."""
    if side is None:
        return images
    centre = random.uniform(2)
    top = torch.floor(centre[:, :1] * images.shape[2]) - side // 2
    left = torch.floor(centre[:, 1:] * images.shape[3]) - side // 2
    size = torch.full_like(top, side)
    return images.masked_fill(_box(top, left, size, size, images), 0.0)


def mix(
    images: torch.Tensor,
    targets: torch.Tensor,
    mixup: float | None,
    cutmix: float | None,
    random: BatchRandom,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix pairs of images, and their `count x classes` targets, by one proportion for the whole batch."""
    if mixup is None and cutmix is None:
        return images, targets
    use_cutmix = cutmix is not None and (mixup is None or random.coin())
    alpha = cutmix if use_cutmix else mixup
    assert alpha is not None
    share = random.beta(alpha)
    count, _, height, width = images.shape
    partner = _on(images, torch.argsort(random.integer(2**62, count)))
    if use_cutmix:
        centre = (random.integer(2**30, 2).double() / 2**30).tolist()
        half = np.sqrt(1 - share) / 2
        top, bottom = (int(np.clip((centre[0] + sign * half) * height, 0, height)) for sign in (-1, 1))
        left, right = (int(np.clip((centre[1] + sign * half) * width, 0, width)) for sign in (-1, 1))
        images = images.clone()
        images[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (height * width)
    else:
        images = share * images + (1 - share) * images[partner]
    return images, share * targets + (1 - share) * targets[partner]


def resize_and_centre(
    image: torch.Tensor, crop_size: int, short_side: int, interpolation: str
) -> torch.Tensor:
    """Resize the short side of `... x 3 x height x width` uint8 images, and cut the centre.

    Images of just the crop's size are returned as they are.
    """
    if image.shape[-2:] == (crop_size, crop_size):
        return image
    resized = T.resize(image, [short_side], interpolation=_INTERPOLATION[interpolation], antialias=True)
    return T.center_crop(resized, [crop_size, crop_size])


def _box(
    top: torch.Tensor, left: torch.Tensor, tall: torch.Tensor, wide: torch.Tensor, images: torch.Tensor
) -> torch.Tensor:
    """Return a `count x 1 x height x width` mask of one rectangle an image; the corners are `count x 1`."""
    rows = torch.arange(images.shape[2])
    columns = torch.arange(images.shape[3])
    inside_rows = _on(images, (rows >= top) & (rows < top + tall))
    inside_columns = _on(images, (columns >= left) & (columns < left + wide))
    return (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]


def moved(decided: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a small tensor of the CPU on a device; from page-locked memory, so that a GPU is not waited for."""
    if device.type == "cuda":
        decided = decided.pin_memory()
    return decided.to(device, non_blocking=True)


def _on(images: torch.Tensor, decided: torch.Tensor) -> torch.Tensor:
    """Return what was decided where the images are."""
    return moved(decided, images.device)
