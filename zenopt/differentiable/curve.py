"""An epoch of a differentiable search, as people and loggers are told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zenopt.core.words import plural
from zenopt.differentiable.files import EpochRow
from zenopt.train.progress import loss_text


def row_text(row: EpochRow, epochs: int) -> str:
    """Return the lines of an epoch: how it went, and what would be derived."""
    went = [
        f"epoch {row.epoch}/{epochs}",
        f"train loss {loss_text(row.train_loss)}",
        f"held back {loss_text(row.held_back_loss)}, {row.held_back_top1:.2f} %",
        f"entropy {row.entropy:.3f}",
    ]
    if row.eigenvalue is not None:
        went.append(f"eigenvalue {row.eigenvalue:.3g}")
    if row.expected_cost is not None:
        went.append(f"cost {row.expected_cost:.4g}")
    value = "" if row.value is None else f"table {row.value:.2f}, "
    return f"{'  '.join([*went, f'{row.seconds:.1f} s'])}\n  {value}{plural(row.skips, 'skip')}: {row.architecture}"


def logged(row: EpochRow, choices: Mapping[str, Sequence[str]]) -> dict[str, float | None]:
    """Return what loggers are told of an epoch."""
    found: dict[str, float | None] = {
        "loss/train": row.train_loss,
        "loss/held_back": row.held_back_loss,
        "accuracy/train_percent": row.train_top1,
        "accuracy/held_back_percent": row.held_back_top1,
        "alphas/entropy_nats": row.entropy,
        "alphas/temperature": row.temperature,
        "alphas/eigenvalue": row.eigenvalue,
        "derived/expected_cost": row.expected_cost,
        "derived/skips": row.skips,
        "derived/value": row.value,
        "optimizer/lr": row.lr,
    }
    for choice, operations in choices.items():
        for operation, weight in zip(operations, row.probabilities[choice], strict=True):
            found[f"weights_{choice}/{operation}"] = weight
    return found
