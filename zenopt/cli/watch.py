"""``zenopt watch``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from zenopt.cli.hints import of_results, of_study, say_next
from zenopt.cli.options import FiniteRange, storage_option, study_option
from zenopt.cli.study_choice import chosen_study
from zenopt.core.text import printable
from zenopt.core.words import duration, rate
from zenopt.progress.panel import LINE_EVERY_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, ConsoleOptions, Group
    from rich.text import Text

    from zenopt.report.following import Look
    from zenopt.storage.records import TrialRecord


@click.command()
@study_option
@storage_option
@click.option(
    "--interval",
    type=FiniteRange(min=0.1),
    help="Seconds between updates; by default 2 on a terminal, 10 in a pipe.",
)
@click.option(
    "--timeout", "timeout_s", type=FiniteRange(min=0), help="Stop after this many seconds; 0 looks once."
)
@click.option("--until-idle", is_flag=True, help="Stop when no worker is left.")
def watch(
    name: str | None, storage: str, interval: float | None, timeout_s: float | None, until_idle: bool
) -> None:
    """Follow a study that other processes run, until Ctrl-C.

    \b
    zenopt watch --study demo
    zenopt watch --study demo --until-idle | tee progress.log
    """
    from zenopt.report.following import Follower
    from zenopt.study.study import open_existing, read_spec

    study = chosen_study(open_existing(storage), name)
    name = study.study_name
    spec = read_spec(study)
    assert spec is not None
    follower = Follower(study)
    is_terminal = sys.stdout.isatty()
    pause_s = interval or (2.0 if is_terminal else LINE_EVERY_S)
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    show = (
        _Screen(name, spec.trials, spec.objectives) if is_terminal else _Lines(spec.trials, spec.objectives)
    )
    idle = 0
    try:
        with show:
            while True:
                look = follower.look()
                show.update(look)
                idle = idle + 1 if look.is_idle else 0
                if until_idle and idle >= 2:
                    break
                left = pause_s if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    break
                time.sleep(min(pause_s, left))
    except KeyboardInterrupt:
        # The usual way to end it, and the study goes on.
        pass
    say_next(*of_results(name, of_study(name), spec.has_networks))


class _Lines:
    """One line per look, and one per improvement."""

    def __init__(self, wanted: int | None, objectives: tuple[str, ...]) -> None:
        self._wanted = wanted
        self._further = objectives[1:]
        self._latest = -1

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, look: Look) -> None:
        newest = look.improvements[0] if look.improvements else None
        if newest is not None and newest.number != self._latest:
            self._latest = newest.number
            what = "on the front" if self._further else "better"
            click.echo(f"{_clock()}  {what}: {_describe(newest, 'latency_ms' in self._further)}")
        facts = "  ".join(f"{label} {text}" for label, text in _facts(look, self._wanted))
        click.echo(f"{_clock()}  {facts}")


class _Screen:
    """A table that is drawn over, for terminals of 80 columns."""

    def __init__(self, name: str, wanted: int | None, objectives: tuple[str, ...]) -> None:
        from rich.live import Live

        self._name, self._wanted, self._objectives = name, wanted, objectives
        self._live = Live(auto_refresh=False)

    def __enter__(self) -> _Screen:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def update(self, look: Look) -> None:
        self._live.update(render(look, self._name, self._wanted, self._objectives), refresh=True)


def render(look: Look, name: str, wanted: int | None, objectives: tuple[str, ...] = ("score",)) -> Group:
    """Return the terminal's picture of a study."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = Text(f"{printable(name)}  ", style="bold")
    head.append(_clock(), style="dim")
    parts: list[Text | Table | _FactLines] = [head, _FactLines(_facts(look, wanted))]
    if look.improvements:
        table = Table(box=None, pad_edge=False, expand=True)
        shows_latency = "latency_ms" in objectives
        columns = [("trial", 6), ("score", 9), ("params", 6), ("MACs", 6)]
        for label, width in columns + [("ms", 7)] * shows_latency:
            table.add_column(label, justify="right", no_wrap=True, min_width=width)
        table.add_column("structure", no_wrap=True, overflow="ellipsis", ratio=1)
        for record in look.improvements:
            cells = [_cost(record, "params"), _cost(record, "macs")]
            cells += [_latency(record)] * shows_latency
            table.add_row(
                str(record.number), f"{record.value:.3f}", *cells, Text(printable(record.structure or "-"))
            )
        what = "on the Pareto front" if look.front is not None else "better than all before them"
        parts += [Text(f"The latest that were {what}:", style="dim"), table]
    return Group(*parts)


class _FactLines:
    """Facts side by side, as many in a line as fit; none is torn apart."""

    def __init__(self, facts: list[tuple[str, str]]) -> None:
        self._facts = facts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        from rich.text import Text

        line = Text()
        for label, text in self._facts:
            fact = Text.assemble((label, "dim"), " ", (text, "bold"))
            if line and len(line) + 2 + len(fact) > options.max_width:
                yield line
                line = Text()
            line = line + "  " + fact if line else fact
        yield line


def _facts(look: Look, wanted: int | None) -> list[tuple[str, str]]:
    share = "-" if look.feasible_share is None else f"{look.feasible_share:.0%}"
    target = f"/{wanted:,}" if wanted is not None and look.finished < wanted else ""
    facts = [
        ("trials", f"{look.finished:,}{target}"),
        ("best", "none" if look.best is None else f"{look.best.value:.3f}"),
        *([] if look.front is None else [("front", f"{look.front:,}")]),
        ("feasible", share),
        _speed(look),
        ("workers", f"{look.alive}" + (f" (+{look.dead} dead)" if look.dead else "")),
    ]
    left = look.seconds_to(wanted)
    if left is not None:
        facts.append(("left", duration(left)))
    if look.failed:
        facts.append(("failed", f"{look.failed:,}"))
    return facts


def _speed(look: Look) -> tuple[str, str]:
    if look.rate is None:
        return "per s", "-"
    often, unit = rate(look.rate, 1.0)
    return {"second": "per s", "minute": "per min", "hour": "per h"}[unit], often


def _describe(record: TrialRecord, shows_latency: bool) -> str:
    costs = f"{_cost(record, 'params')} params, {_cost(record, 'macs')} MACs"
    costs += f", {_latency(record)} ms" if shows_latency else ""
    return f"trial {record.number}, score {record.value:.3f}, {costs}, {printable(record.structure)}"


def _latency(record: TrialRecord) -> str:
    value = record.user_attrs.get("latency_ms")
    return "-" if value is None else f"{value:.4f}"


def _cost(record: TrialRecord, key: str) -> str:
    value = record.user_attrs.get(key)
    if value is None:
        return "-"
    # Rounded first: 999,999 is 1M.
    rounded = float(f"{value:.3g}")
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rounded >= size:
            return f"{rounded / size:g}{letter}"
    return f"{rounded:g}"


def _clock() -> str:
    return time.strftime("%H:%M:%S")
