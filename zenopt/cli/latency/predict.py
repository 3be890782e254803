"""``zenopt latency predict``."""

from __future__ import annotations

import click

from zenopt.cli.options import NETWORK, json_option, network_options, print_json, show_warnings, warn
from zenopt.core.text import printable


@click.command()
@click.argument("target", metavar=NETWORK)
@click.option("--device", "profile", required=True, metavar="PROFILE", help="A profile's name or file.")
@click.option(
    "--batch", type=click.IntRange(1, 65_536), help="Images per run; refused if the profile's differs."
)
@network_options
@click.option("--any-resolution", is_flag=True, help="Predict outside the profile's resolutions.")
@click.option("--any-batch", is_flag=True, help="Accept the profile's batch for another.")
@json_option
def predict(
    target: str,
    profile: str,
    batch: int | None,
    resolution: int | None,
    classes: int | None,
    use_se: bool | None,
    any_resolution: bool,
    any_batch: bool,
    as_json: bool,
) -> None:
    """Predict a network's latency on a device you need not have.

    \b
    zenopt latency predict latency05ms --device v100-fp16-b64-eager
    """
    from zenopt.latency import load_profile
    from zenopt.latency.predict import check_batch
    from zenopt.study.targets import find_target

    show_warnings()
    device = load_profile(profile)
    check_batch(device, batch, any_batch)
    found = find_target(target, resolution=resolution, num_classes=classes, use_se=use_se)
    prediction = found.predict(device, any_resolution=any_resolution)
    if as_json:
        print_json(
            {
                "latency_ms": prediction.latency_ms,
                "device": prediction.profile,
                "model": prediction.model,
                "in_range": prediction.in_range,
                "warnings": list(prediction.warnings),
                "device_name": prediction.device,
                "batch": prediction.batch,
                "resolution": found.resolution,
                "structure": found.text,
            }
        )
        return
    click.echo(
        f"{prediction.latency_ms:.4g} ms per image, predicted for {printable(prediction.profile)} "
        f"({printable(prediction.device)}, batch {prediction.batch}, {device.dtype})"
    )
    for warning in prediction.warnings:
        warn(warning)
