"""Data sets: image folders, CIFAR's python batches, and synthetic images, as labelled uint8 tensors.

Small images are decoded once and kept in memory; others are read when they are needed. A data set is named by a text,
`imagefolder:PATH`, `imagenet:PATH`, `cifar10:PATH`, `cifar100:PATH` or `synthetic[:N]`.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from zenopt.core.errors import DataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})
MEMORY_LIMIT = 512 * 2**20  # bytes of decoded images; 174,000 images of 32 px
# The channels' means and deviations, red, green, blue, of pixels in [0, 1].
Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]
STATISTICS: dict[str, Statistics] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    # What Zen-NAS trains and evaluates both CIFARs with. Its deviations are means over images of each image's own.
    "zennas-cifar": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


class BrokenImageError(Exception):
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
    """

    name: str
    classes: tuple[str, ...]
    train: Images
    test: Images
    statistics: str | Statistics = "imagenet"
    broken: tuple[str, ...] = field(default=())


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
        raise DataError(f"--data {name!r} is not a data set; allowed: {allowed}.")
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"--data {name}: folder {root} does not exist.")
    return readers[kind](name, root, memory_limit)


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
    parts = (_share_of_part(part, share) for part in (data.train, data.test))
    return replace(data, name=f"{data.name} (share {share:g})", train=next(parts), test=next(parts))


def _share_of_part(images: Images, share: float) -> Images:
    order = np.random.default_rng(0).permutation(len(images))
    labels = images.labels.numpy()[order]
    chosen = []
    for label in np.unique(labels):
        own = order[labels == label]
        chosen.append(own[: max(1, round(share * len(own)))])
    places = torch.from_numpy(np.sort(np.concatenate(chosen)))
    if isinstance(images, MemoryImages):
        return MemoryImages(images.pixels[places], images.labels[places])
    return ChosenImages(images, places)


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
    # Pillow reports damaged files with any of these, by format.
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise BrokenImageError(f"{path}: {error}") from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def synthetic(name: str, size: str = "", seed: int = 0, classes: int = 10, side: int = 32) -> DataSet:
    """Draw a learnable data set: each class has its own coarse colour pattern, under strong noise."""
    try:
        count = int(size) if size else 1280
    except ValueError:
        count = 0
    if count < classes:
        raise DataError(f"--data {name}: the number of images must be an integer of at least {classes}.")
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
            f"--data {name}: {train_root} holds {len(classes)} class folders; at least 2 are needed."
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


class _ArrayUnpickler(pickle.Unpickler):
    """Reads only what CIFAR's batches hold: containers, numbers, bytes and numpy arrays. Nothing else can be called."""

    _ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR batch does")
        return super().find_class(module, name)


def _read_batch(path: Path, name: str) -> dict[bytes, Any]:
    try:
        content = _ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except FileNotFoundError:
        raise DataError(f"--data {name}: file {path} is missing.") from None
    # A damaged pickle can raise nearly anything while it is rebuilt; each means the same to the user.
    except Exception as error:
        raise DataError(f"--data {name}: {path} is not a CIFAR batch: {error}.") from None
    if not isinstance(content, dict):
        raise DataError(f"--data {name}: {path} is not a CIFAR batch: it holds {type(content).__name__}.")
    return content


def _cifar(name: str, root: Path, memory_limit: int) -> DataSet:
    """Read the official python batches. They fit in memory, so the limit does not apply."""
    ten = name.startswith("cifar10:")
    folder = root / ("cifar-10-batches-py" if ten else "cifar-100-python")
    if not folder.is_dir():
        folder = root
    label_key, names_key = (b"labels", b"label_names") if ten else (b"fine_labels", b"fine_label_names")
    train_files = [f"data_batch_{i}" for i in range(1, 6)] if ten else ["train"]
    meta = _read_batch(folder / ("batches.meta" if ten else "meta"), name)
    if names_key not in meta:
        raise DataError(f"--data {name}: {folder} does not name its classes ({names_key.decode()}).")
    classes = tuple(label.decode("utf-8", "replace") for label in meta[names_key])

    def part(files: Sequence[str]) -> MemoryImages:
        pixels, labels = [], []
        for file in files:
            batch = _read_batch(folder / file, name)
            data, targets = batch.get(b"data"), batch.get(label_key)
            if (
                not isinstance(data, np.ndarray)
                or data.dtype != np.uint8
                or data.ndim != 2
                or data.shape[1] != 3072
            ):
                raise DataError(f"--data {name}: {folder / file} holds no `count x 3072` uint8 array 'data'.")
            if not isinstance(targets, list) or len(targets) != len(data):
                raise DataError(
                    f"--data {name}: {folder / file} does not hold one of {label_key.decode()!r} an image."
                )
            pixels.append(torch.from_numpy(data.reshape(-1, 3, 32, 32).copy()))
            labels.append(torch.tensor(targets, dtype=torch.long))
        joined = torch.cat(labels)
        if len(joined) and (int(joined.min()) < 0 or int(joined.max()) >= len(classes)):
            raise DataError(f"--data {name}: a label in {folder} lies outside 0..{len(classes) - 1}.")
        return MemoryImages(torch.cat(pixels), joined)

    return DataSet(
        name,
        classes,
        part(train_files),
        part(["test_batch" if ten else "test"]),
        "cifar10" if ten else "cifar100",
    )
