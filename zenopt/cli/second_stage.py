"""Trainings that decide, on the command line: after ``optimize``, in ``verify`` and in ``export-best``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zenopt.cli.options import table
from zenopt.core.words import plural
from zenopt.progress.panel import Panel

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
    workers: int | None,
    url: str,
    on: str = "processes",
    resources: str = "",
    quiet: bool,
) -> Winner:
    """Choose by trainings, with progress on stderr: in the second stage of a search, or in a study that trains."""
    with Panel(quiet=quiet) as panel:
        import optuna

        from zenopt.verify.final import finish, run_second_stage
        from zenopt.verify.linked import Place

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        show = training_shown(panel)
        place = Place(
            storage, url, runs, devices, workers, on_result=show, progress=panel, on=on, resources=resources
        )
        run = finish if spec.objective.kind == "train" else run_second_stage
        return run(name, spec, place, step_shown(panel))


def step_shown(panel: Panel) -> Callable[[str], None]:
    """Return what is to be told of every step of the work: its line, and a clock that begins anew."""

    def show(line: str) -> None:
        panel.note(line)
        panel.start(None, "")

    return show


def training_shown(panel: Panel) -> Callable[[Training], None]:
    """Return what is to be told of every training: a line for each, once, and the best so far."""
    seen: set[tuple[str, int, float]] = set()
    best: list[float] = []

    def show(training: Training) -> None:
        key = (training.candidate.structure, training.seed, training.learning_rate)
        if key not in seen:
            # What one step trained, the next one reads and tells again.
            seen.add(key)
            panel.note(training_line(training))
        if training.top1 is not None:
            best[:] = [max([training.top1, *best])]
        panel.advance(0, best=f"{best[0]:.2f} %" if best else None)

    return show


def training_line(training: Training) -> str:
    """Return a line that tells of a training and which network it was of."""
    from optuna.trial import TrialState

    if training.top1 is not None:
        state = f"top-1 {training.top1:5.2f} %"
    elif training.state == TrialState.PRUNED:
        state = f"pruned after {plural(len(training.curve), 'epoch')}"
    else:
        state = f"failed: {training.error}"
    facts = training.candidate.facts
    size = f"{facts['convs']:3.0f} convs {facts['macs'] / 1e6:6.2f}M MACs"
    return (
        f"{training.candidate.title:14s} {size}  lr {training.learning_rate:<5g} seed {training.seed}  {state}  "
        f"{training.seconds:.0f} s"
    )


def winner_table(winner: Winner) -> str:
    """Return the networks that were trained, best first, as a table."""
    # Where a predictor chose, rows are sorted by what it expects.
    is_expected = any(item.expected is not None for item in winner.verified)
    rows = [
        (
            item.candidate.title,
            *(["-" if item.expected is None else f"{item.expected:.2f}"] if is_expected else []),
            f"{item.mean:.2f}" if item.top1 else "-",
            " ".join(f"{value:.2f}" for value in item.top1) or "pruned",
            f"{item.learning_rate:g}",
            f"{item.candidate.facts['convs']:.0f}",
            f"{item.candidate.facts['macs'] / 1e6:.2f}",
        )
        for item in winner.verified
    ]
    names = ["network", *(["expected"] if is_expected else [])]
    return table(rows, (*names, "held-out top-1 %", "each seed", "lr", "convs", "M MACs"))


def winner_json(winner: Winner) -> dict[str, Any]:
    """Return what was trained, as plain data."""
    content = winner.to_json()
    del content["recipe"]
    return content
