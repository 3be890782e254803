"""The second stage of a study on the command line: after ``optimize``, and in ``export-best``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zenopt.cli.options import table
from zenopt.core.paths import file_name
from zenopt.core.text import printable

if TYPE_CHECKING:
    import optuna

    from zenopt.study.spec import StudySpec
    from zenopt.verify.second_stage import Winner
    from zenopt.verify.trainings import TrainedNetwork


def run_second_stage(
    storage: optuna.storages.BaseStorage,
    name: str,
    spec: StudySpec,
    *,
    runs: Path,
    devices: Sequence[str],
    workers: int,
    url: str,
    quiet: bool,
) -> Winner:
    """Trains what a search found, with progress on stderr; its spec has ``training.data``."""
    import optuna

    from zenopt.verify.second_stage import run_second_stage as run

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def tell(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    def show(row: TrainedNetwork) -> None:
        state = f"pruned after {row.epochs} epochs" if row.stopped else f"top-1 {row.top1:5.2f} %"
        tell(
            f"{printable(row.candidate.label):24s} lr {row.learning_rate:<6g} seed {row.seed}  {state}  "
            f"({row.seconds:.0f} s)"
        )

    return run(
        storage,
        name,
        spec,
        output=runs / file_name(name, "The study's name"),
        devices=devices,
        workers=workers,
        url=url,
        on_result=show,
        on_step=tell,
    )


def winner_table(winner: Winner) -> str:
    """Returns the networks that were trained, best first, as a table."""
    rows = [
        (
            item.candidate.label,
            f"{item.mean:.2f}" if item.top1 else "-",
            " ".join(f"{value:.2f}" for value in item.top1) or "pruned",
            f"{item.learning_rate:g}",
            f"{item.candidate.facts['convs']:.0f}",
            f"{item.candidate.facts['macs'] / 1e6:.2f}",
        )
        for item in winner.verified
    ]
    return table(rows, ("class", "held-out top-1 %", "each seed", "lr", "convs", "M MACs"))


def winner_json(winner: Winner) -> dict[str, Any]:
    """Returns what was trained, as plain data."""
    content = winner.to_json()
    del content["recipe"]
    return content
