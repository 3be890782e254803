"""``zenopt latency shares``."""

from __future__ import annotations

import click

from zenopt.cli.options import NETWORK, json_option, network_options, print_json, show_warnings, table


@click.command()
@click.argument("target", metavar=NETWORK)
@click.option("--device", "profile", required=True, metavar="PROFILE", help="A profile's name or file.")
@network_options
@click.option("--layers", "show_layers", is_flag=True, help="One line per layer instead of one per block.")
@click.option("--any-resolution", is_flag=True, help="Predict outside the profile's resolutions.")
@json_option
def shares(
    target: str,
    profile: str,
    resolution: int | None,
    classes: int | None,
    use_se: bool | None,
    show_layers: bool,
    any_resolution: bool,
    as_json: bool,
) -> None:
    """Show where a network's predicted time goes, by block or layer."""
    from zenopt.latency import load_profile
    from zenopt.study.targets import find_target

    show_warnings()
    found = find_target(target, resolution=resolution, num_classes=classes, use_se=use_se)
    rows = found.shares(load_profile(profile), by_layer=show_layers, any_resolution=any_resolution)
    if as_json:
        print_json(rows)
        return
    click.echo(
        table(
            [(row["name"], f"{row['latency_ms']:.5f}", f"{row['share']:.1%}") for row in rows],
            ("layer" if show_layers else "block", "ms per image", "share"),
        )
    )
