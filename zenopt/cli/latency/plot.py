"""``zenopt latency plot``."""

from __future__ import annotations

import click

from zenopt.cli.options import json_option, print_json
from zenopt.core.text import printable


@click.command()
@click.argument("profile")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), required=True, help="The .html or .json file to write."
)
@json_option
def plot(profile: str, output: str, as_json: bool) -> None:
    """Draw predicted against measured latency of a profile's held-out networks, and the error of each.

    \b
    zenopt latency plot v100-fp16-b64 --output errors.html
    """
    from zenopt.latency import load_profile
    from zenopt.latency.figure import errors_of, held_out_pairs, write_figure

    device = load_profile(profile)
    pairs = held_out_pairs(device)
    how = f"{device.dtype}, batch {device.batch}, {device.errors.get('protocol', 'held-out networks')}"
    write_figure(pairs, f"{device.name}: {device.device}, {how}", output)
    errors = errors_of(pairs)
    if as_json:
        print_json({"output": output, **errors.__dict__})
    else:
        click.echo(printable(f"{output}: {errors}"))
