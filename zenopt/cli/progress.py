"""Progress of a search: a bar for people, plain lines for pipes."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

import click

from zenopt._version import __version__
from zenopt.cli.options import is_terminal
from zenopt.core.text import printable

if TYPE_CHECKING:
    from zenopt.storage.records import TrialRecord
    from zenopt.study.search import Progress, SearchResult
    from zenopt.study.spec import StudySpec
    from zenopt.study.study import StudyStatus

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
        verbose:
            Show every finished trial.
        log_file:
            File to which all of it is appended, every trial included, whatever the terminal shows.

    Raises:
        OSError: If the file cannot be written.
    """

    def __init__(
        self,
        spec: StudySpec,
        name: str,
        storage: str,
        *,
        quiet: bool = False,
        verbose: bool = False,
        log_file: str | None = None,
    ) -> None:
        from zenopt.storage import mask_password

        self._spec = spec
        self._name = name
        self._storage = mask_password(storage)
        self._quiet, self._verbose = quiet, verbose
        self._log = log_file
        # A file that cannot be written is said before the search, not after it.
        self._write(f"zenopt {__version__}")
        self._live: _Bar | None = None
        self._next_line = time.monotonic() + LINE_EVERY_S

    def ready(self, spec: StudySpec, requeued: int, workers: int) -> None:
        """Says what is about to run."""
        budget = ", ".join(f"{key} <= {value:g}" for key, value in spec.limits().budget.limits().items())
        score = f"{printable(spec.proxy.name)}, batch {spec.proxy.batch_size}"
        lines = [
            f"Study {printable(self._name)} in {printable(self._storage)}",
            f"Budget: {budget or 'none'} ({spec.budget.counting} counts); score: {score}",
        ]
        if spec.latency is not None and spec.budget.latency_ms is not None:
            lines.append(
                f"Latency is {spec.latency.label}; searched to {spec.latency.margin:g} of "
                f"{spec.budget.latency_ms:g} ms."
            )
        if requeued:
            lines.append(f"Taking up {requeued} unfinished trial{'s' * (requeued > 1)} of dead workers.")
        lines.append(f"Sampler {spec.sampler.name}, {workers} worker{'s' * (workers > 1)}.")
        for line in lines:
            self._write(line)
            if not self._quiet:
                click.echo(line, err=True)

    def update(self, progress: Progress) -> None:
        """Shows how far the run is."""
        for record in progress.new:
            self._write(trial_line(record))
            if not self._verbose or self._quiet:
                continue
            if self._live is not None:
                self._live.print(trial_line(record))
            else:
                click.echo(trial_line(record), err=True)
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
        text = f"{result.done} trials in {result.seconds:.1f} s, {rate:.1f} per second{stopped}."
        text = f"{text}\n{describe_status(status)}"
        for line in (*text.splitlines(), *(f"Warning: {failure}" for failure in result.failures)):
            self._write(line)
        click.echo(text)

    def _write(self, line: str) -> None:
        if self._log is not None:
            # Opened for every line: a file of a run that was killed is whole.
            with open(self._log, "a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")

    def __enter__(self) -> Reporter:
        if not self._quiet and is_terminal():
            self._live = _Bar()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.close()
        if error is not None:
            self._write(f"Stopped: {error or type(error).__name__}")


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

    def print(self, line: str) -> None:
        # Not markup: a structure or an error may have brackets.
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()


def trial_line(record: TrialRecord) -> str:
    """Returns a finished trial in a line."""
    facts = record.user_attrs
    state = record.state.name.lower().replace("fail", "failed")
    if state == "pruned" and not record.is_feasible:
        state = "over budget"
    parts = [f"trial {record.number:5d}", f"{state:11s}"]
    parts.append(f"score {record.value:9.3f}" if record.value is not None else " " * 15)
    parts += [
        f"{facts[key]:>13,} {name}" for key, name in (("params", "params"), ("macs", "MACs")) if key in facts
    ]
    if facts.get("latency_ms") is not None:
        parts.append(f"{facts['latency_ms']:.4f} ms")
    if facts.get("score_seconds") is not None:
        parts.append(f"{facts['score_seconds']:.1f} s")
    if "duplicate_of" in facts:
        parts.append(f"same as trial {facts['duplicate_of']}")
    if "error" in facts:
        parts.append(printable(facts["error"]))
    return "  ".join(parts)


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
        f"Study {printable(status.name)}: {status.trials} trials, {status.complete} complete, {status.pruned} pruned, "
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
    lines.append(f"      {printable(best.structure)}")
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
