"""CIFAR's python batches: pickles, of which nothing is called and nothing is made but arrays of bytes."""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zenopt.core.errors import DataError
from zenopt.core.files import CIFAR, read_bytes
from zenopt.core.paths import existing_path
from zenopt.core.text import one_line, quoted, shortened_path

#: Steps of a pickle; CIFAR-100's training batch has a quarter of a million.
STEPS = 2_000_000
#: Bytes of an image: 3 channels of 32 x 32 pixels.
IMAGE_BYTES = 3 * 32 * 32
#: Steps that import, or that make something of a size for which nothing in the file need stand.
_REFUSED = frozenset(
    {
        "BYTEARRAY8", "NEXT_BUFFER", "READONLY_BUFFER", "EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "INST", "OBJ",
        "NEWOBJ", "NEWOBJ_EX",
    }
)  # fmt: skip


def read_cifar(
    root: Path, *, ten: bool
) -> tuple[tuple[str, ...], tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Read CIFAR-10 or CIFAR-100.

    Args:
        root:
            The folder of the batches, or its parent.
        ten:
            Whether it is CIFAR-10.

    Returns:
        The names of the classes, and (pixels, labels) of the training and of the test images: a
        `count x 3 x 32 x 32` uint8 tensor and `count` class numbers.

    Raises:
        DataError: A file is missing, damaged, or holds something else.
    """
    folder = root / ("cifar-10-batches-py" if ten else "cifar-100-python")
    if not folder.is_dir():
        folder = root
    label_key, names_key = (b"labels", b"label_names") if ten else (b"fine_labels", b"fine_label_names")
    meta = folder / ("batches.meta" if ten else "meta")
    names = _read(meta).get(names_key)
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, bytes) for name in names):
        raise CIFAR.refusal(meta, f"it does not name at least 2 classes ({names_key.decode()})")
    classes = tuple(name.decode("utf-8", "replace") for name in names)

    def part(files: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        batches = [_images(folder / file, label_key, len(classes)) for file in files]
        return torch.cat([pixels for pixels, _ in batches]), torch.cat([labels for _, labels in batches])

    train = part([f"data_batch_{index}" for index in range(1, 6)] if ten else ["train"])
    return classes, train, part(["test_batch" if ten else "test"])


def _images(path: Path, label_key: bytes, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    batch = _read(path)
    pixels, labels = batch.get(b"data"), batch.get(label_key)
    if not isinstance(pixels, _Array) or pixels.shape[1] != IMAGE_BYTES:
        raise CIFAR.refusal(path, f"it holds no `count x {IMAGE_BYTES}` uint8 array 'data'")
    if not len(pixels.numbers):
        raise CIFAR.refusal(path, "it holds no images")
    if not isinstance(labels, list) or len(labels) != pixels.shape[0]:
        raise CIFAR.refusal(path, f"it does not hold one of {label_key.decode()!r} an image")
    for label in labels:
        if type(label) is not int or not 0 <= label < classes:
            raise CIFAR.refusal(path, f"a label must be from 0 to {classes - 1}, got {quoted(label)}")
    images = torch.from_numpy(pixels.numbers.reshape(-1, 3, 32, 32).copy())
    return images, torch.tensor(labels, dtype=torch.long)


def _read(path: Path) -> dict[Any, Any]:
    if existing_path(str(path)) is None:
        raise DataError(f"CIFAR file {shortened_path(path)} is missing.")
    content = read_bytes(path, CIFAR)
    try:
        _check_steps(content)
        found = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
    # A damaged pickle can raise nearly anything while it is rebuilt; each means the same to the user.
    except Exception as error:
        reason = one_line(str(error), 120) or type(error).__name__
        raise CIFAR.refusal(path, f"it is not a CIFAR batch: {reason}") from None
    if not isinstance(found, dict):
        raise CIFAR.refusal(path, f"it is not a CIFAR batch: it holds {type(found).__name__}")
    return found


def _check_steps(content: bytes) -> None:
    """Raise an UnpicklingError if a pickle has steps that no CIFAR batch has, or that reserve much memory."""
    for count, (step, argument, _) in enumerate(pickletools.genops(content)):
        if step.name in _REFUSED:
            raise pickle.UnpicklingError(f"it has the step {step.name}, which no CIFAR batch has")
        # A memo is as long as its largest place.
        if count > STEPS or (step.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > STEPS):
            raise pickle.UnpicklingError(f"it has more than {STEPS:,} steps")


class _DType:
    """A type of numbers, as a text."""

    def __init__(self, code: Any = "", *rest: Any) -> None:
        self.is_byte = code in ("u1", b"u1", "|u1", b"|u1")

    def __setstate__(self, state: Any) -> None:
        """Byte order and alignment; a byte has neither."""


class _Array:
    """An array of bytes in two dimensions; anything else is refused."""

    shape = (0, 0)
    numbers = np.empty((0, 0), np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, is_fortran, raw = state
        if not (isinstance(kind, _DType) and kind.is_byte and isinstance(raw, bytes) and len(shape) == 2):
            raise pickle.UnpicklingError("it holds an array of something else than bytes")
        if not all(type(side) is int and side >= 0 for side in shape) or shape[0] * shape[1] != len(raw):
            raise pickle.UnpicklingError("it holds an array of another size than its bytes")
        self.shape = shape
        self.numbers = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if is_fortran else "C")


def _reconstruct(*arguments: Any) -> _Array:
    return _Array()


def _latin1(text: str, encoding: Any) -> bytes:
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"it encodes a text as {quoted(encoding)}, which no CIFAR batch does")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


class _NdArray:
    """Stands where a pickle names numpy's array, as an argument."""


class _ArrayUnpickler(pickle.Unpickler):
    """Reads only what CIFAR's batches hold: containers, numbers, texts and arrays of bytes, by the functions here."""

    _STANDINS: dict[tuple[str, str], Any] = {
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): _NdArray,
        ("numpy", "dtype"): _DType,
        ("_codecs", "encode"): _latin1,
        ("__builtin__", "bytes"): _no_bytes,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._STANDINS:
            raise pickle.UnpicklingError(
                f"it asks for {quoted(f'{module}.{name}')}, which no CIFAR batch does"
            )
        return self._STANDINS[module, name]
