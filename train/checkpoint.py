"""Checkpoints that are either whole or absent, and hold all that a run needs to go on exactly."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import torch
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter
from typing_extensions import TypedDict

from zenopt.core.files import CHECKPOINT, validated
from zenopt.core.text import one_line
from zenopt.nn.weights import read_torch_file
from zenopt.train.data import StatisticsName
from zenopt.train.errors import TrainError
from zenopt.train.networks import NetworkSource
from zenopt.train.recipe import Recipe

LAST = "last.pt"
BEST = "best.pt"
#: What `best.pt` holds beside the weights, and what `last.pt` does.
FACTS = ("network", "recipe", "classes", "statistics")
RUN = (*FACTS, "seed", "model", "extras", "optimizer", "scaler", "ema", "state")

_Count = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
_Number = Annotated[float, Field(strict=True)]
_Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
_Tensors = dict[str, Any]
_Three = tuple[_Finite, _Finite, _Finite]
_ThreePositive = tuple[_Positive, _Positive, _Positive]


def _is_confusion(value: Any) -> Any:
    if value is None:
        return value
    if not isinstance(value, torch.Tensor) or value.ndim != 2 or value.shape[0] != value.shape[1]:
        raise ValueError("a square matrix of counts")
    return value


class _Row(BaseModel):
    """An epoch of a run's history."""

    epoch: _Count
    step: _Count
    lr: _Number
    train_loss: _Number
    test_loss: _Number | None
    top1: _Number | None
    top5: _Number | None
    images_per_second: _Number
    seconds: _Number


class _State(BaseModel, extra="forbid"):
    """Where a run stands: :class:`zenopt.train.engine.RunState`."""

    epoch: _Count
    step: _Count
    loss_sum: _Number
    seconds: _Number
    history: list[_Row]
    best: _Row | None
    confusion: Annotated[Any, AfterValidator(_is_confusion)] = None


class _Average(BaseModel):
    updates: _Count
    state: _Tensors


class _Optimizer(BaseModel):
    state: dict[_Count, dict[str, Any]]
    param_groups: list[dict[str, Any]]


class _Content(TypedDict, total=False):
    """What the keys of a checkpoint hold."""

    network: NetworkSource
    recipe: Recipe
    classes: Annotated[list[str], Field(min_length=1, max_length=1_000_000)]
    statistics: StatisticsName | tuple[_Three, _ThreePositive]
    seed: _Count
    model: _Tensors
    extras: _Tensors
    optimizer: _Optimizer
    scaler: dict[str, Any]
    ema: _Average | None
    state: _State


_ADAPTER = TypeAdapter(_Content)


def read(path: Path, needed: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a checkpoint, ours or somebody else's; the keys of ours hold what they should.

    Args:
        path:
            The file.
        needed:
            Keys that it must have, and that are checked; a checkpoint of somebody else has none of ours.

    Raises:
        CheckpointError: It is missing or damaged, lacks a key, or a key holds something else.
    """
    content = read_torch_file(path)
    missing = [key for key in needed if key not in content]
    if missing:
        raise CHECKPOINT.refusal(path, f"it is not a checkpoint of a training run (it has no {missing[0]!r})")
    if "network" not in content:
        return {key: value for key, value in content.items() if key not in FACTS}
    checked = {key: content[key] for key in (*FACTS, *needed) if key in content}
    validated(_ADAPTER, checked, path, CHECKPOINT)
    return content


def read_facts(weights: Path | None) -> dict[str, Any]:
    """Return what a file of weights holds besides them; nothing where there is no file or it holds nothing else.

    Raises:
        CheckpointError: It is missing or damaged, or holds something else than it should.
    """
    return {} if weights is None or weights.suffix == ".safetensors" else read(weights)


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Say of which file it is where what was saved does not fit what it is loaded into.

    Raises:
        CheckpointError: It does not.
    """
    try:
        yield
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise CHECKPOINT.refusal(path, f"it does not fit this run: {one_line(str(error), 160)}") from None


def check_optimizer(saved: Mapping[str, Any], own: torch.optim.Optimizer) -> None:
    """Raise a ValueError unless an optimiser's saved state is for the parameters and settings of another one."""
    groups = own.state_dict()["param_groups"]
    for theirs, ours in zip(saved["param_groups"], groups, strict=True):
        for key, value in ours.items():
            if key not in theirs or _sort(theirs[key]) != _sort(value):
                raise ValueError(f"the optimiser's {key!r}")
    parameters = [parameter for group in own.param_groups for parameter in group["params"]]
    for index, state in saved["state"].items():
        for key, value in state.items():
            shape = parameters[index].shape if index < len(parameters) else None
            if isinstance(value, torch.Tensor) and value.ndim == len(shape or ()) and value.shape != shape:
                raise ValueError(f"the optimiser's {key!r} of parameter {index}")


def _sort(value: object) -> str:
    """Return what an optimiser's setting is: a switch, a number that tensors can take, or something else."""
    if isinstance(value, bool):
        return "switch"
    return "number" if isinstance(value, int | float) and abs(value) < 2.0**53 else "other"


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
