"""``zenopt latency measure``."""

from __future__ import annotations

from typing import Any

import click

from zenopt.cli.latency.shared import measure_options, run_options
from zenopt.cli.options import (
    NETWORK,
    FiniteRange,
    json_option,
    network_options,
    print_json,
    show_warnings,
)
from zenopt.core.text import printable
from zenopt.core.words import plural


@click.command()
@click.argument("target", metavar=NETWORK)
@run_options
@network_options
@click.option("--seconds", type=FiniteRange(0.01), default=10.0, show_default=True, help="Time limit.")
@click.option(
    "--command", help="Let a program measure, which gets an ONNX file ({onnx}) and prints milliseconds."
)
@click.option(
    "--cache", type=click.Path(dir_okay=False), help="Database of measurements; by default the user's own."
)
@click.option("--no-cache", is_flag=True, help="Neither read nor keep measurements.")
@click.option("--refresh", is_flag=True, help="Measure even what is known.")
@json_option
def measure(
    target: str,
    resolution: int | None,
    classes: int | None,
    use_se: bool | None,
    seconds: float,
    command: str | None,
    cache: str | None,
    no_cache: bool,
    refresh: bool,
    as_json: bool,
    **run: Any,
) -> None:
    """Measure a network: warmed up, synchronised, repeated until the median is stable.

    \b
    zenopt latency measure demo-bundle --threads 1 --batch 16
    """
    from zenopt.study.targets import find_target

    show_warnings()
    found = find_target(target, resolution=resolution, num_classes=classes, use_se=use_se)
    options = measure_options(run, found.resolution, max_seconds=seconds)
    content: dict[str, Any] = {
        "structure": found.text,
        "resolution": found.resolution,
        "use_se": found.use_se,
    }
    if command is not None:
        from zenopt.latency.onnx import measure_by_command

        content["latency_ms"] = measure_by_command(
            found.build(), command, batch=options.batch, resolution=found.resolution
        )
        content |= {"command": command, "batch": options.batch}
        if as_json:
            print_json(content)
        else:
            click.echo(f"{content['latency_ms']:.4g} ms per image")
        return
    from zenopt.latency.cache import MeasurementCache

    database = None if no_cache else MeasurementCache(cache)
    measured = found.measure(options, cache=database, refresh=refresh)
    if as_json:
        print_json({**content, **measured.to_json()})
        return
    click.echo(
        f"{measured.latency_ms:.4g} ms per image ({measured.batch_ms:.4g} ms per batch of {options.batch}, "
        f"fastest {measured.minimum_ms:.4g} ms) at {found.resolution} px"
    )
    state = "stable" if measured.is_stable else "NOT stable: the time limit came first"
    origin = "from the cache" if measured.is_cached else f"{measured.seconds:.1f} s"
    click.echo(
        f"median {state}, standard error {measured.standard_error:.1%}, spread of single runs {measured.spread:.1%}, "
        f"{plural(measured.iterations, 'run')}, {origin}"
    )
    click.echo(printable(", ".join(f"{key} {value}" for key, value in measured.environment.items())))
