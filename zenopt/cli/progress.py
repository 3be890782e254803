"""Progress of a search: a bar for people, plain lines for pipes."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

import click

from zenopt.cli.options import is_terminal

if TYPE_CHECKING:
    from zenopt.search import Progress, SearchResult
    from zenopt.spec import StudySpec
    from zenopt.study import StudyStatus

#: Seconds between plain lines where nobody watches a terminal.
LINE_EVERY_S = 10.0


class Reporter:
    """Shows the progress of one run on stderr, and its summary on stdout.

    Args:
        spec:
            What is searched.
        name:
            Name of the study.
        storage:
            Its storage, without a password.
        quiet:
            Show no progress.
    """

    def __init__(self, spec: StudySpec, name: str, storage: str, *, quiet: bool = False) -> None:
        from zenopt.storage import mask_password

        self._spec = spec
        self._name = name
        self._storage = mask_password(storage)
        self._quiet = quiet
        self._live: _Bar | None = None
        self._next_line = time.monotonic() + LINE_EVERY_S

    def ready(self, spec: StudySpec, requeued: int, workers: int) -> None:
        """Says what is about to run."""
        if self._quiet:
            return
        budget = ", ".join(f"{key} <= {value:g}" for key, value in spec.limits().budget.limits().items())
        score = f"{spec.proxy.name}, batch {spec.proxy.batch_size}"
        click.echo(f"Study {self._name} in {self._storage}", err=True)
        click.echo(f"Budget: {budget or 'none'} ({spec.budget.counting} counts); score: {score}", err=True)
        if spec.latency is not None and spec.budget.latency_ms is not None:
            click.echo(
                f"Latency is {spec.latency.label}; searched to {spec.latency.margin:g} of "
                f"{spec.budget.latency_ms:g} ms.",
                err=True,
            )
        if requeued:
            click.echo(
                f"Taking up {requeued} unfinished trial{'s' * (requeued > 1)} of dead workers.", err=True
            )
        click.echo(f"Sampler {spec.sampler.name}, {workers} worker{'s' * (workers > 1)}.", err=True)

    def update(self, progress: Progress) -> None:
        """Shows how far the run is."""
        if self._quiet:
            return
        if self._live is not None:
            self._live.show(progress)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY_S
            click.echo(_line(progress), err=True)

    def summary(self, status: StudyStatus, result: SearchResult) -> None:
        """Prints what was found."""
        rate = result.done / result.seconds if result.seconds else 0.0
        stopped = " (interrupted; the same command goes on)" if result.stopped else ""
        click.echo(f"{result.done} trials in {result.seconds:.1f} s, {rate:.1f} per second{stopped}.")
        click.echo(describe_status(status))

    def __enter__(self) -> Reporter:
        if not self._quiet and is_terminal():
            self._live = _Bar()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.close()


class _Bar:
    """A rich progress bar that keeps its clock running between reports."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.fields[count]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[facts]}"),
            console=Console(file=sys.stderr),
            expand=True,
        )
        self._task = self._progress.add_task("search", total=1.0, count="starting", facts="")
        self._progress.start()

    def show(self, progress: Progress) -> None:
        wanted = f"/{progress.wanted}" if progress.wanted else ""
        best = "none yet" if progress.best is None else f"{progress.best:.2f}"
        share = f"{progress.feasible / progress.finished:.0%}" if progress.finished else "-"
        self._progress.update(
            self._task,
            completed=progress.share_done,
            count=f"{progress.done}{wanted} trials",
            facts=f"best {best}  feasible {share}  left {_duration(progress.seconds_left)}",
        )

    def close(self) -> None:
        self._progress.stop()


def _line(progress: Progress) -> str:
    wanted = f"/{progress.wanted}" if progress.wanted else ""
    best = "none yet" if progress.best is None else f"{progress.best:.2f}"
    share = f"{progress.feasible / progress.finished:.0%}" if progress.finished else "-"
    return (
        f"{progress.elapsed_s:6.0f} s  {progress.done}{wanted} trials  best {best}  feasible {share}  "
        f"left {_duration(progress.seconds_left)}"
    )


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


#: Trials of a Pareto front that are printed.
FRONT_LINES = 12


def describe_status(status: StudyStatus) -> str:
    """Returns a study's counts and best network as text."""
    lines = [
        f"Study {status.name}: {status.trials} trials, {status.complete} complete, {status.pruned} pruned, "
        f"{status.running} running, {status.failed} failed."
    ]
    best = status.best
    if best is None:
        lines.append("No feasible trial yet.")
        return "\n".join(lines)
    facts = best.user_attrs
    batch = f" (batch {facts['score_batch']})" if facts.get("score_batch") else ""
    lines.append(f"Best: trial {best.number}, score {best.value:.3f}{batch}")
    costs = [
        f"{facts[key]:,} {name}" for key, name in (("params", "params"), ("macs", "MACs")) if key in facts
    ]
    costs += [f"{facts['layers']} layers"] if "layers" in facts else []
    if facts.get("latency_ms") is not None and status.spec is not None and status.spec.latency is not None:
        costs.append(f"{facts['latency_ms']:.4f} ms {status.spec.latency.label}")
    lines.append(f"      {', '.join(costs)}")
    lines.append(f"      {best.structure}")
    if status.front and status.spec is not None:
        names = status.spec.objectives
        lines.append(f"Pareto front of {', '.join(names)}: {len(status.front)} trials, best score first")
        for record in status.front[:FRONT_LINES]:
            values = ", ".join(
                f"{name} {value:,.6g}" for name, value in zip(names, record.values or (), strict=True)
            )
            lines.append(f"      trial {record.number}: {values}")
        if len(status.front) > FRONT_LINES:
            lines.append(f"      ... and {len(status.front) - FRONT_LINES} more (--json lists all)")
    return "\n".join(lines)
