"""Checkpoints that are either whole or absent, and hold all that a run needs to go on exactly."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import torch

from train.errors import TrainError

LAST = "last.pt"
BEST = "best.pt"


def write_file(path: Path, content: bytes) -> None:
    """Replace a file by new content, so that a reader or a crash never meets half of it.

    Raises:
        TrainError: The disk is full or cannot be written; the old file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _discard(temporary)
        raise _disk_error(path, error) from None


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint atomically.

    Raises:
        TrainError: The disk is full or cannot be written; the last good checkpoint is named.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _discard(temporary)
        raise _disk_error(path, error) from None
    except RuntimeError as error:
        # torch's zip writer reports a failed write as RuntimeError, while the file's own OSError is only its context.
        _discard(temporary)
        cause = error.__context__
        if isinstance(cause, OSError):
            raise _disk_error(path, cause) from None
        if "PytorchStreamWriter" in str(error) or "enforce fail" in str(error):
            raise _disk_error(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from None
        raise


def _discard(path: Path) -> None:
    path.unlink(missing_ok=True)


def _disk_error(path: Path, error: OSError) -> TrainError:
    # The file that is there is the last good one, because it is only ever replaced by a whole one.
    good = next((p for p in (path, path.with_name(LAST), path.with_name(BEST)) if p.is_file()), None)
    tail = f"the last good checkpoint is {good}" if good else "no checkpoint was written before"
    return TrainError(f"Cannot write {path}: {error.strerror or error}; {tail}.")
