"""What a search leaves in its folder: `last.pt` to go on from, `metrics.csv` and `metrics.json` to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from typing_extensions import TypedDict

from zenopt.core.errors import CheckpointError
from zenopt.core.files import CHECKPOINT, validated
from zenopt.core.text import shortened_path
from zenopt.nn.weights import read_torch_file
from zenopt.train import checkpoint
from zenopt.train.folder import check_free
from zenopt.train.recipe import differences

#: Columns of `metrics.csv`; the probabilities are in `metrics.json`.
COLUMNS = (
    "epoch",
    "step",
    "lr",
    "temperature",
    "train_loss",
    "train_top1",
    "held_back_loss",
    "held_back_top1",
    "entropy",
    "expected_cost",
    "eigenvalue",
    "skips",
    "value",
    "seconds",
    "architecture",
)

_Count = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class EpochRow(BaseModel):
    """An epoch of a search.

    Attributes:
        epoch, step: How many are done.
        lr: Learning rate of the weights in its last step.
        temperature: Of the drawn weights of operations.
        train_loss, train_top1: Mean over the batches of the weights; percent.
        held_back_loss, held_back_top1: Likewise over those of the alphas, or over all held-back images.
        entropy: Of the weights of operations, nats, mean over choices.
        expected_cost: Of the mixture, where the method has a cost.
        eigenvalue: Dominant one of the Hessian by alphas, where it is watched.
        skips: Edges of the derived cell that pass their input on.
        value: What a table says of the architecture.
        architecture: What would be derived.
        probabilities: Weights of operations by choice.
        seconds: Of the epoch.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epoch: _Count
    step: _Count
    lr: _Number
    temperature: _Number
    train_loss: _Number
    train_top1: _Number
    held_back_loss: _Number
    held_back_top1: _Number
    entropy: _Number
    expected_cost: _Number | None
    eigenvalue: _Number | None
    skips: _Count
    value: _Number | None
    architecture: Annotated[str, Field(max_length=10_000)]
    probabilities: dict[str, list[_Number]]
    seconds: _Number


#: Columns that are kept with a trial, where there is a number in them.
_KEPT = (
    "train_loss",
    "held_back_loss",
    "held_back_top1",
    "entropy",
    "eigenvalue",
    "skips",
    "value",
    "architecture",
)


def curve_columns(curve: Sequence[EpochRow], choices: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return what a trial keeps of a curve: a list for each column, and the mean weight of each operation.

    The weights of every choice in every epoch, which `metrics.json` has, would be too much for some databases.
    """
    found: dict[str, Any] = {
        column: [getattr(row, column) for row in curve]
        for column in _KEPT
        if any(getattr(row, column) is not None for row in curve)
    }
    operations = dict.fromkeys(name for names in choices.values() for name in names)
    found["operations"] = {
        operation: [
            fmean(
                row.probabilities[choice][names.index(operation)]
                for choice, names in choices.items()
                if operation in names
            )
            for row in curve
        ]
        for operation in operations
    }
    return found


@dataclass
class SearchState:
    """Where a search stands.

    Attributes:
        epoch, step: Epochs done, and steps of the next one.
        sums: Loss, correct images and images so far in the epoch, of the weights' batches, then of the alphas'.
        seconds: Of all epochs.
        curve: A row for each epoch.
        taken: The epoch whose architecture is the result, where the search was ended early.
    """

    epoch: _Count = 0
    step: _Count = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * 6)
    seconds: float = 0.0
    curve: list[EpochRow] = field(default_factory=list)
    taken: _Count | None = None

    def check(self, choices: Mapping[str, Sequence[str]], epochs: int) -> None:
        """Raise a ValueError unless the numbers fit each other, a search network and the length of the search.

        Without choices, the weights are not looked at.
        """
        if not len(self.curve) == self.epoch <= epochs or len(self.sums) != len(SearchState().sums):
            raise ValueError(f"{len(self.curve)} rows for {self.epoch} epochs")
        if self.taken is not None and not 1 <= self.taken <= self.epoch:
            raise ValueError(f"the architecture of epoch {self.taken}")
        sizes = {choice: len(operations) for choice, operations in choices.items()}
        if choices and any(
            {name: len(own) for name, own in row.probabilities.items()} != sizes for row in self.curve
        ):
            raise ValueError("weights of other operations")


class _Content(TypedDict):
    facts: dict[str, Any]
    model: dict[str, Any]
    optimizer: dict[str, Any]
    alpha_optimizer: dict[str, Any]
    state: SearchState


_ADAPTER = TypeAdapter(_Content)
_STATE = TypeAdapter(SearchState)


def save(
    folder: Path,
    facts: dict[str, Any],
    network: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    alpha_optimizer: torch.optim.Optimizer,
    state: SearchState,
) -> None:
    """Write everything that a search needs to go on exactly."""
    content = {
        "facts": facts,
        "model": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "alpha_optimizer": alpha_optimizer.state_dict(),
        "state": _STATE.dump_python(state, mode="json"),
    }
    checkpoint.save(folder / checkpoint.LAST, content)


def read_search(folder: Path) -> tuple[dict[str, Any], SearchState]:
    """Return what was searched in a folder, and where the search stands; it may be under way, or cut off.

    Raises:
        CheckpointError: There is no search, its file is damaged, or its first epoch is not over.
    """
    path = folder / checkpoint.LAST
    if not path.is_file():
        raise CheckpointError(
            f"There is no differentiable search in {shortened_path(folder)}: it has no {path.name}."
        )
    found = _read(path)
    state = found["state"]
    try:
        state.check({}, state.epoch)
    except ValueError as error:
        raise CHECKPOINT.refusal(path, f"it holds {error}") from None
    if not state.curve:
        raise CheckpointError(f"The search in {shortened_path(folder)} is still in its first epoch.")
    return found["facts"], state


def _read(path: Path) -> _Content:
    content = read_torch_file(path)
    if "facts" not in content:
        raise CHECKPOINT.refusal(path, "it is not a checkpoint of a differentiable search")
    return validated(_ADAPTER, content, path, CHECKPOINT)


def find_search(folder: Path, resume: str, facts: dict[str, Any]) -> _Content | None:
    """Return the checkpoint to go on from, after checking that it is of the same search.

    Raises:
        TrainError: There is one, and nobody asked to go on with it.
        CheckpointError: There is none to go on with, it is damaged, or of another search.
    """
    if not check_free(folder, resume):
        return None
    path = folder / checkpoint.LAST
    saved = _read(path)
    different = differences(saved["facts"], facts)
    if different:
        raise CheckpointError(
            f"{path} is of another search: {', '.join(different)} differ; choose another --output, or the same "
            "settings."
        )
    return saved
