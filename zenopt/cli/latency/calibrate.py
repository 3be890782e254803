"""``zenopt latency calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zenopt.cli.hints import say_next
from zenopt.cli.latency.shared import (
    error_text,
    force_option,
    measure_options,
    run_options,
    without_lists,
)
from zenopt.cli.options import (
    FiniteRange,
    json_option,
    print_json,
    quiet_option,
    show_warnings,
    warn,
    wrapped,
)
from zenopt.core.words import plural
from zenopt.progress.panel import Panel


@click.command()
@run_options
@click.option("--study", help="Preset or file of the study to calibrate for.  [default: by resolution]")
@click.option("--resolution", type=click.IntRange(8, 4096), help="Image side, px; else the study's.")
@click.option("--classes", type=click.IntRange(1, 1_000_000), help="Classes; else the study's.")
@click.option("--se/--no-se", "use_se", default=None, help="Squeeze-excite gates; else the study's.")
@click.option(
    "--seconds",
    type=FiniteRange(1),
    default=60.0,
    show_default=True,
    help="Time to measure what is fitted; the held-out networks come on top.",
)
@click.option(
    "--held-out",
    type=click.IntRange(3),
    default=20,
    show_default=True,
    help="Networks that show how good the fit is.",
)
@click.option(
    "--statistic", type=click.Choice(["median", "minimum"]), default="median", show_default=True,
    help="What is taken of a visit's runs; minimum for a machine that others disturb.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Of the choice of networks.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    required=True,
    help="The profile to write, a .json file.",
)
@force_option
@quiet_option
@json_option
def calibrate(
    study: str | None,
    resolution: int | None,
    classes: int | None,
    use_se: bool | None,
    seconds: float,
    held_out: int,
    statistic: str,
    seed: int,
    output: str,
    force: bool,
    quiet: bool,
    as_json: bool,
    **run: Any,
) -> None:
    """Make a profile of the device at hand from a minute of measurements.

    Networks that play no part in the fit show how good it is. A profile that is off by more than 15 % on average, or
    ranks networks with a Spearman correlation below .9, gets a warning; beyond 30 %, or below .7, it is not written
    without --force (exit code 1).

    \b
    zenopt latency calibrate --study cifar-params1m --output my-cpu.json
    """
    from zenopt.core.outputs import prepare_output

    show_warnings()
    prepare_output(output, (".json",))
    with Panel(quiet=quiet or as_json) as panel:
        # Imported late: measuring imports torch, which takes seconds.
        from zenopt.latency.calibrate import calibrate as run_calibration
        from zenopt.study.spec import StudySpec

        preset = study or ("cifar-params1m" if resolution is not None and resolution < 128 else "latency01ms")
        # Only the space matters; the study may name the very profile that is to be made.
        spec = StudySpec.load(
            preset, ["latency=null", "budget.latency_ms=null", "objectives=[score]", "classes=[]"]
        )
        profile = run_calibration(
            spec.build_space(),
            measure_options(run, resolution or spec.resolution),
            name=Path(output).stem,
            num_classes=classes or spec.num_classes,
            use_se=spec.use_se if use_se is None else use_se,
            seconds=seconds,
            held_out=held_out,
            statistic=statistic,
            seed=seed,
            progress=panel,
        )
    from zenopt.latency.quality import judge

    verdict = judge(profile.errors)
    is_written = verdict.is_usable or force
    if is_written:
        profile.save(output)
    errors = {key: value for key, value in profile.errors.items() if key != "held_out"}
    if as_json:
        print_json(
            {
                "output": output if is_written else None,
                "device": profile.device,
                "errors": errors,
                "warning": verdict.warning,
                "data": without_lists(profile.data),
            }
        )
    else:
        noise = errors["noise_floor"]
        for line in (
            f"{output}: {profile.device}, {profile.runtime}, batch {profile.batch}, {profile.dtype}",
            error_text("block table", errors),
            error_text("additive model", errors["additive_only"]),
            f"Single visits of one network scatter by {noise['visit_scatter']:.1%}; held-out reference times "
            f"({plural(noise['visits'], 'visit')} each) have a standard error of {noise['standard_error']:.1%}.",
        ):
            click.echo(wrapped(line))
        if verdict.warning is not None:
            warn(f"{verdict.warning} {verdict.remedy}")
    if not is_written:
        click.echo(f"Error: {output} was not written; --force writes it all the same.", err=True)
        raise click.exceptions.Exit(1)
    say_next(
        (
            f"zenopt optimize --study {preset} --set latency.device={output} --set budget.latency_ms=...",
            "search",
        ),
        (f"zenopt latency plot {output} --output errors.html", "predicted against measured"),
    )
