"""``zenopt supernet``: one file per command of the group."""

from __future__ import annotations

import click

from zenopt.cli.supernet.paths import paths
from zenopt.cli.supernet.rank import rank
from zenopt.cli.supernet.train import train


@click.group()
def supernet() -> None:
    """Train all networks of a space in one set of weights, and search by it."""


for _command, _line in (
    (train, "Train the supernet of a study's space."),
    (paths, "Show what the paths of a training cost."),
    (rank, "Compare a supernet's ranking with known accuracies."),
):
    _command.short_help = _line
    supernet.add_command(_command)
