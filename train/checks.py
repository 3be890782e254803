"""What a run makes sure of: that it goes on from its own checkpoint, and that its numbers are numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zenopt.core.text import one_line
from zenopt.train import checkpoint
from zenopt.train.errors import CheckpointError, DivergedError, TrainError
from zenopt.train.folder import check_free
from zenopt.train.progress import Observer
from zenopt.train.recipe import differences


def find_run(output: Path, resume: str, facts: dict[str, Any]) -> dict[str, Any] | None:
    """Return the checkpoint to continue from, after checking that it is of the same run."""
    if not check_free(output, resume):
        return None
    path = output / checkpoint.LAST
    saved = checkpoint.read(path, checkpoint.RUN)
    if len(saved["classes"]) != len(facts["classes"]):
        raise CheckpointError(
            f"{path} is of a run with {len(saved['classes'])} classes, the data here has {len(facts['classes'])}."
        )
    known = [key for key in facts if key in saved]
    different = differences({key: saved[key] for key in known}, {key: facts[key] for key in known})
    if different:
        raise CheckpointError(
            f"{path} is of another run: {', '.join(different)} differ; choose another --output, or the same settings."
        )
    return saved


def seed_step(seed: int, place: Sequence[int], rank: int) -> None:
    """Seed torch's global generator, from which drop-path and dropout draw, for one step of one process."""
    state = torch.tensor([seed, *place, rank], dtype=torch.int64)
    mixed = 0
    for number in state.tolist():
        mixed = (mixed * 6364136223846793005 + number + 1442695040888963407) % 2**63
    torch.manual_seed(mixed)


def check_finite(loss_sum: torch.Tensor, output: Path, epoch: int, step: int, lr: float) -> None:
    """Raise a DivergedError if a loss so far was no number."""
    if not torch.isfinite(loss_sum):
        place = f"epoch {epoch + 1}, step {step + 1} (lr {lr:.4g})"
        raise DivergedError(
            f"The loss is no longer a number at {place}; {last_good(output)}. A lower optimizer.lr helps."
        )


def check_weights(network: nn.Module, output: Path, epoch: int) -> None:
    """Keep weights that are no numbers out of checkpoints: the loss of the step that made them was still one."""
    # The statistics of batch normalisation too: once infinite, they stay so.
    state = network.state_dict().values()
    if not all(bool(torch.isfinite(value).all()) for value in state if value.is_floating_point()):
        raise DivergedError(
            f"The weights are no longer numbers in epoch {epoch + 1}; {last_good(output)}. A lower optimizer.lr helps."
        )


def last_good(output: Path) -> str:
    """Return which checkpoint is left, in words."""
    path = output / checkpoint.LAST
    return f"the last good checkpoint is {path}" if path.is_file() else "no checkpoint was written before"


def report_broken(found: Sequence[str], known: set[str], observer: Observer) -> None:
    """Tell of images that cannot be decoded, once each."""
    for name in found:
        if name not in known:
            known.add(name)
            observer.note(f"Skipped a broken image: {name}")


@contextmanager
def compiling(is_compiled: bool, device: torch.device) -> Iterator[None]:
    """Say in one line where torch.compile does not work, for want of a C compiler most often.

    Raises:
        TrainError: It does not.
    """
    if not is_compiled:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException  # takes seconds to import

    try:
        yield
    except TorchDynamoException as error:
        raise TrainError(
            f"torch.compile does not work on {device} here ({one_line(str(error), 160)}); leave out precision.compile."
        ) from error
