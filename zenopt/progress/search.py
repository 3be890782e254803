"""What a search says of itself: its panel, a line per trial, a log file, and the summary."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

import click

from zenopt._version import __version__
from zenopt.core.text import printable, printable_lines
from zenopt.core.words import plural, rate
from zenopt.progress.panel import Panel

if TYPE_CHECKING:
    from zenopt.storage.records import TrialRecord
    from zenopt.study.search import Beginning, Progress, SearchResult
    from zenopt.study.spec import StudySpec
    from zenopt.study.study import StudyStatus


class Reporter:
    """Shows the progress of one run on stderr, and its summary on stdout.

    Args:
        spec:
            What is searched.
        name:
            Name of the study.
        storage:
            Its storage URL; a password in it is not shown.
        trials, timeout_s:
            Limits of the run.
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
        trials: int | None = None,
        timeout_s: float | None = None,
        quiet: bool = False,
        verbose: bool = False,
        log_file: str | None = None,
    ) -> None:
        from zenopt.storage import mask_password

        self._spec = spec
        self._name = name
        self._storage = mask_password(storage)
        self._verbose = verbose
        self._log = log_file
        # A file that cannot be written is said before the search, not after it.
        self._write(f"zenopt {__version__}")
        self._trials, self._timeout_s = trials, timeout_s
        self._panel = Panel(quiet=quiet)

    def ready(self, beginning: Beginning) -> None:
        """Say what is about to run."""
        from zenopt.core.budget import is_lower_limit

        spec, trials = beginning.spec, self._trials
        budget = ", ".join(
            f"{key} {'>=' if is_lower_limit(key) else '<='} {value:,.12g}"
            for key, value in spec.limits().budget.limits().items()
        )
        lines = [
            f"Study {self._name} in {self._storage}",
            f"Budget: {budget or 'none'} ({spec.budget.counting} counts)",
        ]
        if spec.latency is not None and spec.budget.latency_ms is not None:
            lines.append(
                f"Latency is {spec.latency.label}; searched to {spec.latency.margin:g} of "
                f"{spec.budget.latency_ms:g} ms."
            )
        if beginning.carried and trials is not None:
            lines.append(
                f"Going on with a run that was killed: {beginning.carried} of its {plural(trials, 'trial')} are done."
            )
            trials = max(0, trials - beginning.carried)
        if beginning.requeued:
            lines.append(f"Resuming {plural(beginning.requeued, 'unfinished trial')} of dead workers.")
        batch = f", batch {spec.proxy.batch_size}" if spec.objective.kind == "proxy" else ""
        count = beginning.workers
        workers = "as many workers as have room" if count is None else plural(count, "worker")
        lines.append(
            f"Score: {spec.evaluator().label(spec)}{batch}; sampler {spec.sampler.label}, {workers}."
        )
        for line in lines:
            self._write(line)
            self._panel.note(line)
        self._panel.start(trials, "trial", limit_s=self._timeout_s)

    def update(self, progress: Progress) -> None:
        """Show how far the run is."""
        for record in progress.new:
            self._write(trial_line(record))
            if self._verbose:
                self._panel.note(trial_line(record))
        self._panel.advance(
            len(progress.new),
            under_way=progress.under_way,
            running=progress.running,
            waiting=progress.waiting,
            best="none yet" if progress.best is None else f"{progress.best:.2f}",
            feasible=f"{progress.feasible / progress.finished:.0%}" if progress.finished else None,
        )

    def summary(self, status: StudyStatus, result: SearchResult) -> None:
        """Print what was found."""
        often, unit = rate(result.done, result.seconds)
        stopped = " (interrupted; the same command goes on)" if result.stopped else ""
        text = f"{plural(result.done, 'trial')} in {result.seconds:.1f} s, {often} per {unit}{stopped}."
        text = f"{text}\n{describe_status(status)}"
        for line in (*text.splitlines(), *(f"Warning: {failure}" for failure in result.failures)):
            self._write(line)
        click.echo(printable_lines(text))

    def _write(self, line: str) -> None:
        if self._log is not None:
            # Opened for every line: a file of a run that was killed is whole.
            with open(self._log, "a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")

    def __enter__(self) -> Reporter:
        self._panel.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._panel.__exit__(kind, error, trace)
        if error is not None:
            self._write(f"Stopped: {error or type(error).__name__}")


def trial_line(record: TrialRecord) -> str:
    """Return a finished trial in a line."""
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


#: Trials of a Pareto front that are printed.
FRONT_LINES = 12


def describe_status(status: StudyStatus) -> str:
    """Return a study's counts and best network as text that is not yet fit for a terminal."""
    lines = [
        f"Study {status.name}: {plural(status.trials, 'trial')}, {status.complete} complete, {status.pruned} pruned, "
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
    costs += [plural(facts["layers"], "layer")] if "layers" in facts else []
    if facts.get("latency_ms") is not None and status.spec is not None and status.spec.latency is not None:
        costs.append(f"{facts['latency_ms']:.4f} ms {status.spec.latency.label}")
    lines += [f"      {', '.join(costs)}"] if costs else []
    if "zennas_params" in facts and "zennas_flops" in facts:
        # Where the budget is of these counts, the true ones may lie above it.
        lines.append(
            f"      by the budget's (ZenNAS's) counts {facts['zennas_params']:,} params, {facts['zennas_flops']:,} MACs"
        )
    lines.append(f"      {best.structure}")
    if status.front and status.spec is not None:
        names = status.spec.objectives
        lines.append(
            f"Pareto front of {', '.join(names)}: {plural(len(status.front), 'trial')}, best score first"
        )
        for record in status.front[:FRONT_LINES]:
            values = ", ".join(
                f"{name} {value:{',.0f' if abs(value) >= 1000 else '.6g'}}"
                for name, value in zip(names, record.values or (), strict=True)
            )
            lines.append(f"      trial {record.number}: {values}")
        if len(status.front) > FRONT_LINES:
            lines.append(f"      ... and {len(status.front) - FRONT_LINES} more (--json lists all)")
    return "\n".join(lines)
