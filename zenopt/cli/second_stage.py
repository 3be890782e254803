"""The second stage of a study on the command line: after ``optimize``, and in ``export-best``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zenopt.cli.options import table
from zenopt.core.text import printable

if TYPE_CHECKING:
    import optuna

    from zenopt.study.spec import StudySpec
    from zenopt.verify.final import Winner
    from zenopt.verify.linked import Training


def run_trainings(
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
    """Choose by trainings, with progress on stderr: the second stage of a search, or the winner of a study
    that trains.
    """
    import optuna

    from zenopt.verify.final import finish, run_second_stage
    from zenopt.verify.linked import Place

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def tell(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    place = Place(
        storage, url, runs, devices, workers, on_result=lambda training: tell(training_line(training))
    )
    run = finish if spec.objective.kind == "train" else run_second_stage
    return run(name, spec, place, tell)


def training_line(training: Training) -> str:
    """Return a line that tells of a training."""
    from optuna.trial import TrialState

    top1 = training.top1
    if top1 is not None:
        state = f"top-1 {top1:5.2f} %"
    elif training.state == TrialState.PRUNED:
        state = f"pruned after {len(training.curve)} epochs"
    else:
        state = f"failed: {training.error}"
    return (
        f"{printable(training.candidate.label):24s} lr {training.learning_rate:<6g} seed {training.seed}  {state}  "
        f"({training.seconds:.0f} s)"
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
