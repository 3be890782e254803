"""``zenopt latency fit``."""

from __future__ import annotations

from pathlib import Path

import click

from zenopt.cli.hints import say_next
from zenopt.cli.latency.shared import error_text, force_option
from zenopt.cli.options import json_option, print_json, show_warnings, warn
from zenopt.core.words import plural


@click.command()
@click.option(
    "--csv", "table_path", type=click.Path(), required=True, help="Columns structure, latency_ms, ..."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    required=True,
    help="The profile to write, a .json file.",
)
@click.option("--device-name", required=True, help="The device in words.")
@click.option(
    "--batch",
    type=click.IntRange(1, 65_536),
    default=1,
    show_default=True,
    help="Images per run, as measured.",
)
@click.option(
    "--dtype",
    type=click.Choice(["fp32", "fp16", "bf16", "int8"]),
    default="fp32",
    show_default=True,
    help="Number format, as measured.",
)
@click.option(
    "--resolution",
    type=click.IntRange(1, 8192),
    default=224,
    show_default=True,
    help="Of rows that give none.",
)
@click.option(
    "--classes", type=click.IntRange(1), default=1000, show_default=True, help="Of rows that give none."
)
@force_option
@json_option
def fit(
    table_path: str,
    output: str,
    device_name: str,
    batch: int,
    dtype: str,
    resolution: int,
    classes: int,
    force: bool,
    as_json: bool,
) -> None:
    """Make a profile from latencies that were measured somewhere else.

    Each network is predicted by a fit to the others; on what these predictions are worth the same limits are set as in
    `zenopt latency calibrate`.

    \b
    zenopt latency fit --csv phone.csv --device-name "My phone" -o phone.json
    """
    from zenopt.core.outputs import prepare_output
    from zenopt.latency.csvfit import fit_profile, read_rows
    from zenopt.latency.quality import judge
    from zenopt.study.targets import find_target

    show_warnings()
    prepare_output(output, (".json",))
    rows = read_rows(table_path, find_target, resolution=resolution, num_classes=classes)
    profile = fit_profile(
        rows,
        name=Path(output).stem,
        device=device_name,
        batch=batch,
        dtype=dtype,
        source=Path(table_path).name,
    )
    verdict = judge(profile.errors)
    is_written = verdict.is_usable or force
    if is_written:
        profile.save(output)
    if as_json:
        print_json(
            {
                "output": output if is_written else None,
                "model": dict(profile.model),
                "errors": dict(profile.errors),
                "warning": verdict.warning,
            }
        )
    else:
        click.echo(f"{output}: {plural(len(rows), 'network')}")
        click.echo(error_text(str(profile.errors["protocol"]), profile.errors))
        if verdict.warning is not None:
            warn(f"{verdict.warning} Measure more networks, each for longer.")
    if not is_written:
        click.echo(f"Error: {output} was not written; --force writes it all the same.", err=True)
        raise click.exceptions.Exit(1)
    say_next((f"zenopt latency plot {output} --output errors.html", "predicted against measured"))
