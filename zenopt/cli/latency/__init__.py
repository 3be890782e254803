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


for _command in (measure, predict, calibrate, devices, fit, sample, plot, shares):
    latency.add_command(_command)
