"""What to type next."""

from __future__ import annotations

import shlex
import sys

import click
from click.core import ParameterSource

from zenopt.cli.options import columns_seen
from zenopt.core.text import printable

#: Key of a context's ``meta``: the modules that ``--import`` named.
IMPORTS_KEY = "zenopt.imports"


def imported() -> tuple[str, ...]:
    """Return the modules that ``--import`` of the present command named."""
    return tuple(click.get_current_context().meta.get(IMPORTS_KEY, ()))


def with_same_imports(command: str) -> str:
    """Return a command with the ``--import`` of the present one, without which it may know less than this one."""
    return " ".join([command, *(f"--import {shlex.quote(module)}" for module in imported())])


def say_next(*commands: tuple[str, str]) -> None:
    """Show commands that go on from here, each with what it does, on stderr.

    A ``--quiet`` or ``--json`` of the present command keeps it silent.

    Args:
        commands:
            Command and a few words, e.g. ``("zenopt status --study demo", "how it stands")``.
    """
    asked = click.get_current_context().params
    if asked.get("quiet") or asked.get("as_json") or not commands:
        return
    commands = tuple(
        (with_same_imports(command) if command.startswith("zenopt ") else command, words)
        for command, words in commands
    )
    width = max(len(command) for command, _ in commands)
    # Words only where they fit beside the commands.
    has_room = width + max(len(words) for _, words in commands) + 12 <= columns_seen(sys.stderr)
    for index, (command, words) in enumerate(commands):
        text = f"{'Next:' if index == 0 else '     '}  {command}"
        line = f"{text:<{width + 7}}  # {words}" if has_room else text
        click.echo(printable(line), err=True)


def of_results(name: str, study: str, has_networks: bool) -> list[tuple[str, str]]:
    """Return the commands that show a study's results and export its best network, if it has networks.

    Args:
        name:
            The study's name.
        study:
            The options that name it, see :func:`of_study`.
        has_networks:
            Whether there is something to export.
    """
    found = [
        (
            f"zenopt report {study}",
            "figures, and pictures of the best networks" if has_networks else "figures",
        )
    ]
    if has_networks:
        found.append(
            (
                f"zenopt export-best {study} --output {shlex.quote(f'{name}-bundle')}",
                "the winner, ready to train",
            )
        )
    return found


def of_study(name: str, option: str = "--study") -> str:
    """Return the options that name a study for another command, its storage included where one was given."""
    from zenopt.storage import mask_password

    context = click.get_current_context()
    words = [option, name]
    if context.get_parameter_source("storage") == ParameterSource.COMMANDLINE:
        words += ["--storage", mask_password(str(context.params["storage"]))]
    return shlex.join(words)
