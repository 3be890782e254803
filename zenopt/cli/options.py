"""Options and printing shared by commands."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

from zenopt.core.text import printable
from zenopt.storage.urls import DEFAULT_STORAGE, STORAGE_VARIABLE, default_storage

F = TypeVar("F", bound=Callable[..., Any])


def storage_option(function: F) -> F:
    """Add ``--storage``."""
    return click.option(
        "--storage",
        metavar="URL",
        default=default_storage,
        show_default=f"{STORAGE_VARIABLE} of the environment, else {DEFAULT_STORAGE}",
        help="Where studies are kept: sqlite:///FILE, postgresql://..., mysql://..., journal:///FILE.",
    )(function)


#: Environment variable: the device of commands that are given none.
DEVICE_VARIABLE = "ZENOPT_DEVICE"


def device_option(
    default: str = "auto", help_text: str = "cpu, cuda, cuda:N, mps, or auto."
) -> Callable[[F], F]:
    """Add ``--device`` of a command that uses one."""
    return click.option(
        "--device",
        default=default,
        show_default=True,
        envvar=DEVICE_VARIABLE,
        show_envvar=True,
        help=help_text,
    )


def devices_option(help_text: str) -> Callable[[F], F]:
    """Add ``--device`` (or ``--devices``), read by :func:`read_devices`."""

    def add(function: F) -> F:
        return click.option(
            "--device",
            "--devices",
            "devices",
            default="cpu",
            show_default=True,
            envvar=DEVICE_VARIABLE,
            show_envvar=True,
            metavar="D[,D...]",
            help=help_text,
        )(function)

    return add


def read_devices(text: str) -> tuple[str, ...]:
    """Return the devices of ``--device``."""
    return tuple(device.strip() for device in text.split(","))


def choosing_options(function: F) -> F:
    """Add how the best of a study are chosen: ``--repeats``, ``--device`` and ``--by``."""
    for option in reversed(
        (
            click.option(
                "--repeats",
                type=click.IntRange(1, 10_000),
                default=8,
                show_default=True,
                help="Fresh draws of each candidate, where scores are drawn.",
            ),
            device_option("cpu", "Torch device."),
            click.option(
                "--by",
                type=click.Choice(["auto", "score", "training"]),
                default="auto",
                show_default=True,
                help="What decides; auto: the second stage's trainings where the study has them, else the score.",
            ),
        )
    ):
        function = option(function)
    return function


def executor_options(function: F) -> F:
    """Add ``--on`` and ``--resources``."""
    for option in reversed(
        (
            click.option(
                "--on",
                metavar="WHERE",
                default="processes",
                show_default=True,
                help="Where the workers are: processes, ray[:ADDRESS], slurm, or module:Class of your own.",
            ),
            click.option(
                "--resources",
                metavar="NAME=N[,...]",
                default="",
                help="What each worker takes of a cluster, e.g. cpu=4,gpu=0.25; of SLURM also time=4h,partition=x.",
            ),
        )
    ):
        function = option(function)
    return function


class FiniteRange(click.FloatRange):
    """A number within a range that is neither infinite nor NaN, which no comparison refuses."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        found: float = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return found


class SeedRange(click.IntRange):
    """A seed that every generator of random numbers takes: a whole number from 0, below 2^63."""

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the seed."""
        found: int = super().convert(value, param, ctx)
        if found >= 2**63:
            self.fail(f"{value} is not below 2^63.", param, ctx)
        return found


def seed_option(help_text: str) -> Callable[[F], F]:
    """Add ``--seed``."""
    return click.option("--seed", type=SeedRange(), default=0, show_default=True, help=help_text)


resamples_option = click.option(
    "--resamples",
    type=click.IntRange(0, 100_000),
    default=1000,
    show_default=True,
    help="Bootstrap resamples.",
)


def with_finite_numbers(command: click.Command) -> click.Command:
    """Make every number that a command takes, or a command of a group, a finite one."""
    if isinstance(command, click.Group):
        for own in command.commands.values():
            with_finite_numbers(own)
    for parameter in command.params:
        kind = parameter.type
        if isinstance(kind, click.FloatRange):
            parameter.type = FiniteRange(kind.min, kind.max, kind.min_open, kind.max_open, kind.clamp)
        elif kind is click.FLOAT:
            parameter.type = FiniteRange()
    return command


#: A duration in seconds that must not be zero.
SECONDS = FiniteRange(min=0, min_open=True)


def study_option(function: F) -> F:
    """Add ``--study``, read by :func:`zenopt.cli.study_choice.chosen_study`."""
    return click.option(
        "--study",
        "name",
        metavar="NAME",
        help="Name of the study; not needed where the storage holds a single one.",
    )(function)


def set_option(help_text: str = "Override a field, e.g. budget.params=5e5.") -> Callable[[F], F]:
    """Add ``--set`` of a command that reads a study spec."""
    return click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help=help_text)


#: What names a network on the command line; read by :func:`zenopt.study.targets.find_target`.
NETWORK = "STRUCTURE|FILE|BUNDLE|NAME"


def network_options(function: F) -> F:
    """Add what may be said of a network beside its name: ``--resolution``, ``--classes`` and ``--se``."""
    for option in reversed(
        (
            click.option(
                "--resolution",
                type=click.IntRange(1, 8192),
                help="Image side, px; else the network's own: the bundle's, the preset's, or its family's, mostly 224.",
            ),
            click.option(
                "--classes",
                type=click.IntRange(1, 1_000_000),
                help="Classes; else the network's own, or its family's, mostly 1000.",
            ),
            click.option(
                "--se/--no-se",
                "use_se",
                default=None,
                help="With or without squeeze-excite gates; else as the bundle or preset says.",
            ),
        )
    ):
        function = option(function)
    return function


def quiet_option(function: F) -> F:
    """Add ``--quiet``."""
    return click.option("--quiet", is_flag=True, help="No progress, only the result.")(function)


def split_study(text: str, storage: str) -> tuple[str, str]:
    """Return storage URL and name of a study given as ``NAME`` or, of another storage, as ``URL#NAME``.

    Raises:
        click.UsageError: If the name is missing.
    """
    url, separator, name = text.rpartition("#")
    if not separator and "://" in text:
        raise click.UsageError(f"{text!r} names a storage but no study; write URL#NAME.")
    # A name may have a # in it, a URL has a scheme.
    if not separator or "://" not in url:
        return storage, text
    if not name:
        raise click.UsageError(f"{text!r} names a storage but no study; write URL#NAME.")
    return url, name


def split_column(text: str) -> tuple[str, str | None]:
    """Return the file and the columns of a table given as ``CSV`` or ``CSV#COLUMN``."""
    path, separator, column = text.rpartition("#")
    # A file may have a # in its name.
    if not separator or Path(text).exists():
        return text, None
    return path, column or None


def json_option(function: F) -> F:
    """Add ``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else."
    )(function)


def print_json(content: Any) -> None:
    """Print one JSON document; refuses NaN and infinity, which JSON does not have."""
    click.echo(json.dumps(content, indent=2, allow_nan=False))


def show_warnings() -> None:
    """Print warnings as one line each on stderr."""

    def show(message: Warning | str, *rest: Any, **named: Any) -> None:
        warn(str(message))

    warnings.showwarning = show


def warn(text: str) -> None:
    """Print a warning on stderr, broken at words where that is a terminal."""
    click.echo(wrapped(f"Warning: {printable(text)}", stream=sys.stderr), err=True)


def columns_seen(stream: TextIO | None = None) -> int:
    """Return the width of the terminal that shows a stream, standard output by default; without limit in a pipe."""
    stream = sys.stdout if stream is None else stream
    return shutil.get_terminal_size().columns if stream.isatty() else sys.maxsize


def wrapped(text: str, indent: str = "", stream: TextIO | None = None, indent_more: int = 2) -> str:
    """Return prose broken at words where a terminal shows it, further lines indented; in a pipe it is one line."""
    width = columns_seen(stream)
    if width == sys.maxsize:
        return indent + text
    return textwrap.fill(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent + " " * indent_more,
        break_on_hyphens=False,
        # A path is to be copied as it is; the terminal itself breaks what is longer than its lines.
        break_long_words=False,
    )


def shown(value: float) -> str:
    """Return a value of whatever size, six digits of it, without an exponent where it is a count."""
    return f"{value:,.0f}" if 1e5 <= abs(value) < 1e15 else f"{value:.6g}"


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Return a plain text table; columns of numbers are aligned to the right.

    Where a terminal is too narrow for words of the last column, they go into further lines, below the others if there
    is no room beside them; where the last column holds numbers, so do names of the first.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numeric = [all(cell[:1].isdigit() or cell in ("", "-") for cell in column[1:]) for column in columns]
    indent = sum(widths[:-1]) + 2 * len(widths[:-1])
    room = columns_seen() - indent
    if not numeric[-1] and room < widths[-1]:
        if room < _NARROW:
            short = table([row[:-1] for row in rows], header[:-1]).splitlines()
            below = [textwrap.indent(textwrap.fill(row[-1], columns_seen() - 4), "    ") for row in rows]
            return "\n".join([*short[:2], *chain(*zip(short[2:], below, strict=True))])
        widths[-1] = room
    elif not numeric[0] and room < widths[-1] and widths[0] + room - widths[-1] >= _NARROW:
        widths[0] += room - widths[-1]

    def lines(cells: Sequence[str]) -> list[str]:
        parts = [
            _broken(cell, width) if len(cell) > width else [cell]
            for cell, width in zip(cells, widths, strict=True)
        ]
        return [
            "  ".join(
                part.rjust(width) if right else part.ljust(width)
                for part, width, right in zip(line, widths, numeric, strict=True)
            ).rstrip()
            for line in zip_longest(*parts, fillvalue="")
        ]

    return "\n".join([*lines(header), "  ".join("-" * width for width in widths), *chain(*map(lines, rows))])


def _broken(text: str, width: int) -> list[str]:
    """Return the lines of a text, broken at spaces, or where there are none, after commas."""
    if " " in text or "," not in text:
        return textwrap.wrap(text, width)
    lines = textwrap.wrap(re.sub("([,;])", r"\1 ", text), width)
    return [re.sub("([,;]) ", r"\1", line) for line in lines]


#: Columns that words need beside others.
_NARROW = 28
