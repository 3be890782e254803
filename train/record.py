"""The files that tell how a run went: metrics.csv and metrics.json."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from zenopt.train.checkpoint import write_file

COLUMNS = ("epoch", "step", "lr", "train_loss", "test_loss", "top1", "top5", "images_per_second", "seconds")


def write_history(folder: Path, history: list[dict[str, Any]], columns: tuple[str, ...] = COLUMNS) -> None:
    """Write `metrics.csv`, a row an epoch. It is written whole: after a resume it holds no row twice."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_file(folder / "metrics.csv", text.getvalue().encode())


def write_metrics(folder: Path, metrics: dict[str, Any]) -> None:
    """Write `metrics.json`; accuracies are in percent."""
    write_file(folder / "metrics.json", (json.dumps(metrics, indent=2, allow_nan=False) + "\n").encode())


def logged(row: dict[str, Any]) -> dict[str, float | None]:
    """Return what loggers are told of an epoch; a row has the settings that change over the run beside the columns."""
    return {
        "loss/train": row["train_loss"],
        "loss/test": row["test_loss"],
        "accuracy/top1_percent": row["top1"],
        "accuracy/top5_percent": row["top5"],
        "optimizer/lr": row["lr"],
        "speed/images_per_second": row["images_per_second"],
        **{f"settings/{name}": value for name, value in row.items() if name not in COLUMNS},
    }
