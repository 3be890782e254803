"""The second stage of a study on the command line: after ``optimize``, and in ``export-best``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zenopt.cli.options import table
from zenopt.cli.progress import Panel
from zenopt.core.words import plural

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
    """Train what a search found, with progress on stderr; its spec has ``training.data``."""
    with Panel(quiet=quiet) as panel:
        import optuna

        from zenopt.verify.second_stage import run_second_stage as run

        optuna.logging.set_verbosity(optuna.logging.WARNING)

        def begin(line: str, trainings: int) -> None:
            panel.note(line)
            panel.start(trainings, "training")

        return run(
            storage,
            name,
            spec,
            output=runs / name,
            devices=devices,
            workers=workers,
            url=url,
            on_result=training_shown(panel),
            on_step=begin,
        )


def training_shown(panel: Panel) -> Callable[[TrainedNetwork], None]:
    """Return what is to be told of each training: a line for each, once, and the best so far."""
    seen: set[tuple[str, int, float]] = set()
    best: list[float] = []

    def show(row: TrainedNetwork) -> None:
        key = (row.candidate.structure, row.seed, row.learning_rate)
        if key not in seen:
            # What one part of the work trained, the next one reads and tells again.
            seen.add(key)
            state = (
                f"pruned after {plural(row.epochs, 'epoch')}" if row.stopped else f"top-1 {row.top1:5.2f} %"
            )
            facts = row.candidate.facts
            size = f"{facts['convs']:3.0f} convs {facts['macs'] / 1e6:6.2f}M MACs"
            panel.note(
                f"{row.candidate.label:17s} {size}  lr {row.learning_rate:<5g} seed {row.seed}  {state}  "
                f"{row.seconds:.0f} s"
            )
        if not row.stopped:
            best[:] = [max([row.top1, *best])]
        panel.advance(best=f"{best[0]:.2f} %" if best else None)

    return show


def winner_table(winner: Winner) -> str:
    """Return the networks that were trained, best first, as a table."""
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
    """Return what was trained, as plain data."""
    content = winner.to_json()
    del content["recipe"]
    return content
