"""``zenopt latency plot``."""

from __future__ import annotations

import click

from zenopt.cli.options import json_option, print_json
from zenopt.core.words import plural


@click.command()
@click.argument("profile")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), required=True, help="The .html or .json file to write."
)
@json_option
def plot(profile: str, output: str, as_json: bool) -> None:
    """Draw predicted against measured latency of a profile's held-out networks."""
    from zenopt.latency import load_profile
    from zenopt.latency.figure import held_out_pairs, write_figure

    device = load_profile(profile)
    pairs = held_out_pairs(device)
    write_figure(pairs, f"{device.name}: {device.errors.get('protocol', '')}", output)
    if as_json:
        print_json({"output": output, "networks": len(pairs)})
    else:
        click.echo(f"{output}: {plural(len(pairs), 'network')}")
