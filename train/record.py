"""The files that tell how a run went: metrics.csv, metrics.json, and TensorBoard's where it is wanted."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from zenopt.train.checkpoint import write_file
from zenopt.train.errors import TrainError

COLUMNS = ("epoch", "step", "lr", "train_loss", "test_loss", "top1", "top5", "images_per_second", "seconds")


def write_history(folder: Path, history: list[dict[str, Any]]) -> None:
    """Write `metrics.csv`, a row an epoch. It is written whole: after a resume it holds no row twice."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_file(folder / "metrics.csv", text.getvalue().encode())


def write_metrics(folder: Path, metrics: dict[str, Any]) -> None:
    """Write `metrics.json`; accuracies are in percent."""
    write_file(folder / "metrics.json", (json.dumps(metrics, indent=2, allow_nan=False) + "\n").encode())


class TensorBoard:
    """Scalars of each epoch as TensorBoard's event files; does nothing where it is not wanted.

    Raises:
        TrainError: It is wanted, and the package tensorboard is not installed.
    """

    def __init__(self, folder: Path, *, wanted: bool, first_epoch: int) -> None:
        self._writer: Any = None
        if wanted:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise TrainError(
                    "The recipe asks for TensorBoard; install it: pip install tensorboard."
                ) from None
            # purge_step drops what a killed run wrote beyond its last checkpoint.
            self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first_epoch + 1)

    def write(self, row: dict[str, Any]) -> None:
        if self._writer is None:
            return
        for name, tag in (
            ("train_loss", "loss/train"),
            ("test_loss", "loss/test"),
            ("top1", "accuracy/top1_percent"),
            ("top5", "accuracy/top5_percent"),
            ("lr", "optimizer/lr"),
            ("images_per_second", "speed/images_per_second"),
        ):
            if row[name] is not None:
                self._writer.add_scalar(tag, row[name], row["epoch"])
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
