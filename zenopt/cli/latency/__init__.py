"""``zenopt latency``: one file per command of the group."""

from __future__ import annotations

import click

from zenopt.cli.latency.calibrate import calibrate
from zenopt.cli.latency.devices import devices
from zenopt.cli.latency.fit import fit
from zenopt.cli.latency.measure import measure
from zenopt.cli.latency.plot import plot
from zenopt.cli.latency.predict import predict
from zenopt.cli.latency.sample import sample
from zenopt.cli.latency.shares import shares


@click.group()
def latency() -> None:
    """Measure, predict and calibrate latency. Every number is milliseconds per image."""


# Lines that the list of commands shows whole in 80 columns.
for _command, _line in (
    (measure, "Measure a network on the device at hand."),
    (predict, "Predict a network's latency on a device you need not have."),
    (calibrate, "Make a profile of the device at hand."),
    (devices, "List device profiles: their data, errors and limits."),
    (fit, "Make a profile from latencies measured somewhere else."),
    (sample, "Write networks to measure somewhere else, or measure them."),
    (plot, "Draw predicted against measured latency of a profile."),
    (shares, "Show where a network's predicted time goes."),
):
    _command.short_help = _line
    latency.add_command(_command)
