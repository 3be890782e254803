"""Checkpoints that are either whole or absent, and hold all that a run needs to go on exactly."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from train.errors import CheckpointError, TrainError

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


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, without running any code it may hold.

    Raises:
        CheckpointError: The file is missing or is no checkpoint.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"Checkpoint {path} does not exist.") from None
    except IsADirectoryError:
        raise CheckpointError(
            f"Checkpoint {path} is a folder; a file such as {path / LAST} is needed."
        ) from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"Checkpoint {path} cannot be read: {reason}") from None
    if not isinstance(content, dict):
        raise CheckpointError(
            f"Checkpoint {path} holds {type(content).__name__}, not the dictionary of a run."
        )
    return content


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the weights of a network from a `.pt`, `.pth` or `.safetensors` file.

    A state_dict may stand alone or under `model` or `state_dict`.

    Raises:
        CheckpointError: The file is missing or holds no weights.
    """
    if path.suffix == ".safetensors":
        try:
            from safetensors.torch import load_file
        except ImportError:
            raise CheckpointError(
                f"Weights {path} need the package safetensors, which is not installed."
            ) from None
        if not path.is_file():
            raise CheckpointError(f"Weights {path} do not exist.")
        return load_file(path)
    content = load(path)
    for key in ("model", "state_dict"):
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    weights = {
        key.removeprefix("module."): value
        for key, value in content.items()
        if isinstance(value, torch.Tensor)
    }
    if not weights:
        raise CheckpointError(f"File {path} holds no weights.")
    return weights


def load_into(network: torch.nn.Module, weights: dict[str, torch.Tensor], source: str) -> None:
    """Load weights that must fit a network exactly.

    Raises:
        CheckpointError: Keys or shapes differ; a different number of classes is named as such.
    """
    own = network.state_dict()
    for key, value in weights.items():
        if key in own and own[key].shape != value.shape:
            if key == _classifier_key(own):
                raise CheckpointError(
                    f"{source} is for {value.shape[0]} classes, the network here has {own[key].shape[0]}."
                )
            raise CheckpointError(
                f"{source} does not fit: {key} has shape {tuple(value.shape)}, the network's {tuple(own[key].shape)}."
            )
    missing = [key for key in own if key not in weights]
    unexpected = [key for key in weights if key not in own]
    if missing or unexpected:
        parts = []
        if missing:
            parts.append(f"{len(missing)} keys are missing ({missing[0]} ...)")
        if unexpected:
            parts.append(f"{len(unexpected)} are unknown ({unexpected[0]} ...)")
        raise CheckpointError(f"{source} does not fit: {' and '.join(parts)}.")
    network.load_state_dict(weights)


def _classifier_key(state: dict[str, torch.Tensor]) -> str:
    """Return the key of the last matrix: every classifier here ends in one linear layer."""
    return [key for key, value in state.items() if value.ndim == 2][-1] if state else ""


def _discard(path: Path) -> None:
    path.unlink(missing_ok=True)


def _disk_error(path: Path, error: OSError) -> TrainError:
    # The file that is there is the last good one, because it is only ever replaced by a whole one.
    good = next((p for p in (path, path.with_name(LAST), path.with_name(BEST)) if p.is_file()), None)
    tail = f"the last good checkpoint is {good}" if good else "no checkpoint was written before"
    return TrainError(f"Cannot write {path}: {error.strerror or error}; {tail}.")
