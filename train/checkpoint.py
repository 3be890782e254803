"""Checkpoints that are either whole or absent, and hold all that a run needs to go on exactly."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from zenopt.train.errors import TrainError

LAST = "last.pt"
BEST = "best.pt"


def write_file(path: Path, content: bytes) -> None:
    """Replace a file by new content, so that a reader or a crash never meets half of it.

    Raises:
        TrainError: The disk is full or cannot be written; the old file is as it was.
    """
    _replace(path, lambda file: file.write(content))


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint atomically.

    Raises:
        TrainError: The disk is full or cannot be written; the last good checkpoint is named.
    """
    _replace(path, lambda file: torch.save(content, file))


def _replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        _discard(temporary)
        # torch's zip writer reports a failed write as RuntimeError; the file's own OSError is its context.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise _disk_error(path, cause) from None


def _discard(path: Path) -> None:
    path.unlink(missing_ok=True)


def _disk_error(path: Path, error: OSError) -> TrainError:
    # The file that is there is the last good one, because it is only ever replaced by a whole one.
    good = next((p for p in (path, path.with_name(LAST), path.with_name(BEST)) if p.is_file()), None)
    tail = f"the last good checkpoint is {good}" if good else "no checkpoint was written before"
    return TrainError(f"Cannot write {path}: {error.strerror or error}; {tail}.")
