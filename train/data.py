"""Data sets: image folders, CIFAR's python batches, and synthetic images, as labelled uint8 tensors.

Small images are decoded once and kept in memory; others are read when they are needed. A data set is named by a text,
`imagefolder:PATH`, `imagenet:PATH`, `cifar10:PATH`, `cifar100:PATH` or `synthetic[:N]`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from PIL import Image

from zenopt.core.errors import DataError
from zenopt.core.paths import existing_path
from zenopt.core.text import one_line, quoted, shortened_path
from zenopt.core.words import plural
from zenopt.train.cifar import read_cifar
from zenopt.train.errors import TrainError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})
MEMORY_LIMIT = 512 * 2**20  # bytes of decoded images; 174,000 images of 32 px
MOST_SYNTHETIC = 100_000
# The channels' means and deviations, red, green, blue, of pixels in [0, 1].
Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]
StatisticsName = Literal["imagenet", "cifar10", "cifar100", "zennas-cifar", "none"]
STATISTICS: dict[StatisticsName, Statistics] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    # What Zen-NAS trains and evaluates both CIFARs with. Its deviations are means over images of each image's own.
    "zennas-cifar": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


class BrokenImageError(DataError):
    """One image cannot be decoded; the caller names, skips and counts it."""


class Images(Protocol):
    """One part of a data set."""

    @property
    def labels(self) -> torch.Tensor:
        """The class number of each image."""
        ...

    def __len__(self) -> int: ...

    def load(self, index: int) -> torch.Tensor:
        """Return a `3 x height x width` uint8 tensor."""
        ...


@dataclass(frozen=True)
class MemoryImages:
    """Images of one size, decoded.

    Args:
        pixels:
            A `count x 3 x height x width` uint8 tensor.
        labels:
            A tensor of `count` class numbers.
    """

    pixels: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, index: int) -> torch.Tensor:
        return self.pixels[index]


@dataclass(frozen=True)
class FileImages:
    """Image files, decoded when they are needed."""

    paths: tuple[Path, ...]
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int) -> torch.Tensor:
        return decode(self.paths[index])


@dataclass(frozen=True)
class DataSet:
    """A classification data set with a training and a test part.

    Args:
        name:
            The text that named it.
        statistics:
            The channel means and deviations that fit it: a key of `STATISTICS`, or the numbers.
        broken:
            Images that were left out because they cannot be decoded.
        judged_on:
            What the images of the test part are: those of a test set, or "held-back" ones of the training set.
    """

    name: str
    classes: tuple[str, ...]
    train: Images
    test: Images
    statistics: StatisticsName | Statistics = "imagenet"
    broken: tuple[str, ...] = field(default=())
    judged_on: str = "test"

    def check_classes(self, wanted: int) -> None:
        """Find out whether the data has as many classes as the networks of a study.

        Raises:
            TrainError: If it has not.
        """
        if len(self.classes) != wanted:
            raise TrainError(
                f"{self.name} has {len(self.classes)} classes, the study's networks have {wanted}; set num_classes."
            )


def open_data(name: str, *, seed: int = 0, memory_limit: int = MEMORY_LIMIT) -> DataSet:
    """Open the data set that `name` describes.

    Args:
        name:
            `imagefolder:PATH` (PATH holds `train/CLASS/*` and `test/CLASS/*` or `val/CLASS/*`),
            `imagenet:PATH` (the same, with 1,000 classes), `cifar10:PATH` or `cifar100:PATH` (the folder of
            the python batches, or its parent), or `synthetic[:N]` (N training images of 32 px, 10 classes;
            1,280 unless given).
        seed:
            Draws the synthetic images.
        memory_limit:
            Bytes of decoded images up to which a folder is kept in memory.

    Raises:
        DataError: The data set is missing or malformed.
    """
    kind, _, path = name.partition(":")
    if kind == "synthetic":
        return synthetic(name, path, seed)
    readers: dict[str, Callable[[str, Path, int], DataSet]] = {
        "imagefolder": _image_folder,
        "imagenet": _imagenet,
        "cifar10": _cifar,
        "cifar100": _cifar,
    }
    if kind not in readers or not path:
        allowed = ", ".join([*(f"{key}:PATH" for key in readers), "synthetic[:N]"])
        raise DataError(f"--data {quoted(name)} is not a data set; allowed: {allowed}.")
    root = existing_path(path)
    if root is not None and not root.is_dir():
        raise DataError(f"--data {shortened_path(name)}: {shortened_path(path)} is a file; name a folder.")
    if root is None:
        raise DataError(f"--data {shortened_path(name)}: folder {shortened_path(path)} does not exist.")
    return readers[kind](name, root, memory_limit)


def open_training_images(name: str, *, seed: int = 0) -> Images:
    """Open the training images alone, decoded when they are needed; an image folder may be without a test part.

    Args:
        name:
            As for :func:`open_data`; of `imagefolder:PATH`, the classes are in `PATH/train`, or in `PATH` itself.
        seed:
            Draws the synthetic images.

    Raises:
        DataError: The data set is missing or malformed.
    """
    kind, _, path = name.partition(":")
    root = existing_path(path) if kind == "imagefolder" else None
    if root is None or not root.is_dir():
        return open_data(name, seed=seed, memory_limit=0).train
    root = root / "train" if (root / "train").is_dir() else root
    classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    files = _list_files(root, classes)
    empty = [own for label, own in enumerate(classes) if not bool((files.labels == label).any())]
    if empty or not classes:
        what = f"class {quoted(empty[0])} has no images" if empty else "there are no folders of classes"
        raise DataError(f"--data {shortened_path(name)}: {what} in {shortened_path(root)}.")
    return files


def decode(path: Path) -> torch.Tensor:
    """Read an image file as a `3 x height x width` uint8 tensor.

    Raises:
        BrokenImageError: The file is no image, is cut short, or cannot be read.
    """
    # A pipe named x.png would be waited for, for ever.
    if not path.is_file():
        raise BrokenImageError(f"{path}: no regular file")
    try:
        with Image.open(path) as image:
            pixels = np.array(image.convert("RGB"))
    # A damaged file can make Pillow raise nearly anything, by format; each means the same to the user.
    except Exception as error:
        raise BrokenImageError(f"{path}: {one_line(str(error), 200) or type(error).__name__}") from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def synthetic(name: str, size: str = "", seed: int = 0, classes: int = 10, side: int = 32) -> DataSet:
    """Draw a learnable data set: each class has its own coarse colour pattern, under strong noise."""
    try:
        count = int(size) if size else 1280
    except ValueError:
        count = 0
    if not classes <= count <= MOST_SYNTHETIC:
        raise DataError(
            f"--data {shortened_path(name)}: the number of images must be an integer of at least {classes}, at most "
            f"{MOST_SYNTHETIC:,}."
        )
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.rand(classes, 3, 4, 4, generator=generator)
    patterns = torch.nn.functional.interpolate(patterns, size=(side, side), mode="bilinear")

    def part(images: int) -> MemoryImages:
        labels = torch.arange(images) % classes
        noise = torch.randn(images, 3, side, side, generator=generator)
        pixels = (255 * (0.6 * patterns[labels] + 0.2 + 0.25 * noise)).clamp(0, 255)
        return MemoryImages(pixels.to(torch.uint8), labels)

    train, test = part(count), part(max(classes, count // 4))
    return DataSet(name, tuple(f"class {i}" for i in range(classes)), train, test, "none")


def _imagenet(name: str, root: Path, memory_limit: int) -> DataSet:
    folder = next((root / part for part in ("val", "test") if (root / part).is_dir()), root)
    found = sum(entry.is_dir() for entry in folder.iterdir())
    if found != 1000:
        raise DataError(
            f"--data {name}: {folder} holds {found} class folders, ImageNet has 1000; use imagefolder:PATH."
        )
    return _image_folder(name, root, memory_limit)


def _image_folder(name: str, root: Path, memory_limit: int) -> DataSet:
    train_root = root / "train"
    if not train_root.is_dir():
        raise DataError(f"--data {name}: {root} holds no folder 'train' (with one folder for each class).")
    test_root = next((root / part for part in ("test", "val") if (root / part).is_dir()), None)
    if test_root is None:
        raise DataError(f"--data {name}: {root} holds neither a folder 'test' nor 'val'.")
    classes = tuple(sorted(entry.name for entry in train_root.iterdir() if entry.is_dir()))
    if len(classes) < 2:
        raise DataError(
            f"--data {name}: {train_root} holds {plural(len(classes), 'class folder')}; at least 2 are needed."
        )
    test_classes = {entry.name for entry in test_root.iterdir() if entry.is_dir()}
    if test_classes != set(classes):
        stranger = sorted(test_classes ^ set(classes))[0]
        raise DataError(
            f"--data {name}: {train_root.name} has {len(classes)} classes, {test_root.name} has {len(test_classes)}; "
            f"{stranger!r} is in one of them only."
        )
    parts, broken = [], []
    for folder in (train_root, test_root):
        files = _list_files(folder, classes)
        if not len(files):
            raise DataError(f"--data {name}: {folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}).")
        part, skipped = _into_memory(files, memory_limit)
        if not len(part):
            raise DataError(f"--data {name}: none of the {len(files)} images in {folder} can be decoded.")
        parts.append(part)
        broken += skipped
    train, test = parts
    return DataSet(name, classes, train, test, "imagenet", tuple(broken))


def _list_files(root: Path, classes: Sequence[str]) -> FileImages:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        files = sorted(path for path in (root / name).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        paths += files
        labels += [label] * len(files)
    return FileImages(tuple(paths), torch.tensor(labels, dtype=torch.long))


def _into_memory(files: FileImages, memory_limit: int) -> tuple[Images, list[str]]:
    """Decode files of one size that fit the limit; leave others on disk, to be read (and found broken) later."""
    pixels: list[torch.Tensor] = []
    labels: list[torch.Tensor] = []
    broken: list[str] = []
    for index in range(len(files)):
        try:
            image = files.load(index)
        except BrokenImageError as error:
            broken.append(str(error))
            continue
        if image.numel() * len(files) > memory_limit or (pixels and image.shape != pixels[0].shape):
            return files, []
        pixels.append(image)
        labels.append(files.labels[index])
    if not pixels:
        return FileImages((), torch.zeros(0, dtype=torch.long)), broken
    return MemoryImages(torch.stack(pixels), torch.stack(labels)), broken


def _cifar(name: str, root: Path, memory_limit: int) -> DataSet:
    """Read the official python batches. They fit in memory, so the limit does not apply."""
    ten = name.startswith("cifar10:")
    try:
        classes, train, test = read_cifar(root, ten=ten)
    except DataError as error:
        raise DataError(f"--data {shortened_path(name)}: {error}") from None
    return DataSet(name, classes, MemoryImages(*train), MemoryImages(*test), "cifar10" if ten else "cifar100")
