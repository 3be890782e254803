"""Options and printing shared by commands."""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from zenopt.core.text import printable
from zenopt.storage.urls import DEFAULT_STORAGE, STORAGE_VARIABLE, default_storage

F = TypeVar("F", bound=Callable[..., Any])


def storage_option(function: F) -> F:
    """Adds ``--storage``."""
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
    """Adds ``--device`` of a command that uses one."""
    return click.option(
        "--device",
        default=default,
        show_default=True,
        envvar=DEVICE_VARIABLE,
        show_envvar=True,
        help=help_text,
    )


def devices_option(help_text: str) -> Callable[[F], F]:
    """Adds ``--device`` (or ``--devices``), read by :func:`read_devices`."""

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
    """Returns the devices of ``--device``."""
    return tuple(device.strip() for device in text.split(","))


class FiniteRange(click.FloatRange):
    """A number within a range that is neither infinite nor NaN, which no comparison refuses."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        found: float = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return found


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


def split_study(text: str, storage: str) -> tuple[str, str]:
    """Returns storage URL and name of a study given as ``NAME`` or, of another storage, as ``URL#NAME``.

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


def json_option(function: F) -> F:
    """Adds ``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else."
    )(function)


def print_json(content: Any) -> None:
    """Prints one JSON document; refuses NaN and infinity, which JSON does not have."""
    click.echo(json.dumps(content, indent=2, allow_nan=False))


def show_warnings() -> None:
    """Prints warnings as one line each on stderr."""

    def show(message: Warning | str, *rest: Any, **named: Any) -> None:
        click.echo(f"Warning: {printable(message)}", err=True)

    warnings.showwarning = show


def is_terminal() -> bool:
    """Returns whether a person is looking at stderr."""
    return sys.stderr.isatty()


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> str:
    """Return a plain text table; columns of numbers are aligned to the right."""
    rows = [[printable(cell) for cell in row] for row in rows]
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numeric = [all(cell[:1].isdigit() or cell in ("", "-") for cell in column[1:]) for column in columns]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        ).rstrip()

    return "\n".join([line(header), "  ".join("-" * width for width in widths), *map(line, rows)])
