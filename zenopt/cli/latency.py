"""``zenopt latency``: measure, calibrate, predict, fit, draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zenopt.cli.options import device_option, json_option, print_json, show_warnings, table
from zenopt.core.text import printable

TARGET = "STRUCTURE|BUNDLE|PRESET"


def _network_options(function: Any) -> Any:
    for option in reversed(
        (
            click.option(
                "--resolution", type=click.IntRange(1, 8192), help="Image side, px; else the target's own."
            ),
            click.option(
                "--classes", type=click.IntRange(1, 1_000_000), help="Classes; else the target's own."
            ),
            click.option(
                "--se/--no-se", "use_se", default=None, help="Squeeze-excite gates; else the target's own."
            ),
        )
    ):
        function = option(function)
    return function


def _run_options(function: Any) -> Any:
    for option in reversed(
        (
            device_option("cpu", "cpu, cuda:N or mps."),
            click.option("--batch", type=click.IntRange(1, 65_536), default=1, show_default=True),
            click.option("--dtype", type=click.Choice(["fp32", "fp16", "bf16"]), default="fp32", show_default=True),
            click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads; else torch's own choice."),
            click.option("--channels-last", is_flag=True, help="Memory format of weights and images."),
            click.option("--compile", "compiled", is_flag=True, help="Through torch.compile."),
            click.option("--onnxruntime", is_flag=True, help="In onnxruntime instead of torch."),
            click.option(
                "--clock", type=click.Choice(["wall", "cpu"]), default="wall", show_default=True,
                help="cpu: processor time of this process, for busy machines; needs --threads 1.",
            ),
        )
    ):  # fmt: skip
        function = option(function)
    return function


def _measure_options(values: dict[str, Any], resolution: int, **more: Any) -> Any:
    from zenopt.latency.options import MeasureOptions

    return MeasureOptions(
        device=values["device"],
        batch=values["batch"],
        resolution=resolution,
        dtype=values["dtype"],
        threads=values["threads"],
        channels_last=values["channels_last"],
        compile=values["compiled"],
        runtime="onnxruntime" if values["onnxruntime"] else "torch",
        clock=values["clock"],
        **more,
    )


@click.group()
def latency() -> None:
    """Measure, predict and calibrate latency. Every number is milliseconds per image."""


@latency.command()
@click.argument("target", metavar=TARGET)
@_run_options
@_network_options
@click.option("--seconds", type=click.FloatRange(0.01), default=10.0, show_default=True, help="Time limit.")
@click.option(
    "--command", help="Measure by a program that gets an ONNX file ({onnx}) and prints milliseconds."
)
@click.option(
    "--cache", type=click.Path(dir_okay=False), help="Database of measurements; else the user's own."
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
    """Measure a network: warmed up, synchronised, repeated until the median is stable."""
    from zenopt.latency.targets import find_target

    show_warnings()
    found = find_target(target, resolution=resolution, num_classes=classes, use_se=use_se)
    options = _measure_options(run, found.resolution, max_seconds=seconds)
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
        f"fastest {measured.minimum_ms:.4g} ms)"
    )
    state = "stable" if measured.is_stable else "NOT stable: the time limit came first"
    origin = "from the cache" if measured.is_cached else f"{measured.seconds:.1f} s"
    click.echo(
        f"median {state}, standard error {measured.standard_error:.1%}, spread of single runs {measured.spread:.1%}, "
        f"{measured.iterations} runs, {origin}"
    )
    click.echo(printable(", ".join(f"{key} {value}" for key, value in measured.environment.items())))


@latency.command()
@click.argument("target", metavar=TARGET)
@click.option("--device", "profile", required=True, metavar="PROFILE", help="A profile's name or file.")
@click.option("--batch", type=click.IntRange(1, 65_536), help="Refused if the profile's differs.")
@_network_options
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
    """Predict a network's latency on a device one need not have."""
    from zenopt.latency import load_profile
    from zenopt.latency.predict import check_batch
    from zenopt.latency.targets import find_target

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
        click.echo(f"Warning: {printable(warning)}", err=True)


@latency.command()
@_run_options
@click.option("--study", help="Preset or file of the study to calibrate for.  [default: by resolution]")
@click.option("--resolution", type=click.IntRange(8, 4096), help="Image side, px; else the study's.")
@click.option("--classes", type=click.IntRange(1, 1_000_000), help="Classes; else the study's.")
@click.option("--se/--no-se", "use_se", default=None, help="Squeeze-excite gates; else the study's.")
@click.option(
    "--seconds", type=click.FloatRange(1), default=60.0, show_default=True, help="Time for what is fitted."
)
@click.option(
    "--held-out", type=click.IntRange(3), default=20, show_default=True, help="Networks to test on."
)
@click.option(
    "--statistic", type=click.Choice(["median", "minimum"]), default="median", show_default=True,
    help="minimum: on a machine that others disturb.",
)  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--output", type=click.Path(dir_okay=False), required=True, help="The profile to write, a .json file."
)
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
    as_json: bool,
    **run: Any,
) -> None:
    """Make a profile of the device at hand from a minute of measurements."""
    from zenopt.latency.calibrate import calibrate as run_calibration
    from zenopt.latency.output import prepare_output
    from zenopt.study.spec import StudySpec

    show_warnings()
    prepare_output(output, (".json",))
    preset = study or ("cifar-params1m" if resolution is not None and resolution < 128 else "latency01ms")
    # Only the space matters; the study may name the very profile that is to be made.
    spec = StudySpec.load(
        preset, ["latency=null", "budget.latency_ms=null", "objectives=[score]", "classes=[]"]
    )
    options = _measure_options(run, resolution or spec.resolution)
    profile = run_calibration(
        spec.build_space(),
        options,
        name=Path(output).stem,
        num_classes=classes or spec.num_classes,
        use_se=spec.use_se if use_se is None else use_se,
        seconds=seconds,
        held_out=held_out,
        statistic=statistic,
        seed=seed,
        progress=lambda line: click.echo(line, err=True),
    )
    profile.save(output)
    errors = {key: value for key, value in profile.errors.items() if key != "held_out"}
    if as_json:
        print_json(
            {"output": output, "device": profile.device, "errors": errors, "data": _counts(profile.data)}
        )
        return
    click.echo(f"{output}: {profile.device}, {profile.runtime}, batch {profile.batch}, {profile.dtype}")
    click.echo(_error_text("block table", errors))
    click.echo(_error_text("additive model", errors["additive_only"]))
    noise = errors["noise_floor"]
    click.echo(
        f"noise floor: single visits of one network scatter by {noise['visit_scatter']:.1%}, so what {noise['visits']} "
        f"visits of a held-out network agree on is known to {noise['standard_error']:.1%} (standard error)"
    )


@latency.command()
@json_option
def devices(as_json: bool) -> None:
    """List device profiles: what from, how good, where valid."""
    from zenopt.latency import list_profiles, load_profile

    profiles = [load_profile(name) for name in list_profiles()]
    if as_json:
        print_json(
            [
                {
                    "name": profile.name,
                    "device": profile.device,
                    "runtime": profile.runtime,
                    "batch": profile.batch,
                    "dtype": profile.dtype,
                    "model": profile.model["kind"],
                    "resolutions": list(profile.resolutions),
                    "data": _counts(profile.data),
                    "errors": dict(profile.errors),
                    "validity": {key: list(value) for key, value in profile.validity.items()},
                    "notes": profile.notes,
                }
                for profile in profiles
            ]
        )
        return
    for profile in profiles:
        click.echo(
            f"{profile.name}: {profile.device}, {profile.runtime}, batch {profile.batch}, {profile.dtype}, "
            f"{profile.resolutions[0]} to {profile.resolutions[1]} px"
        )
        click.echo(f"  data: {profile.data['source']}")
        if profile.data.get("left_out"):
            click.echo(f"  left out: {profile.data['left_out']}")
        click.echo(f"  {_error_text(str(profile.errors['protocol']), profile.errors)}")
        ranges = [f"{key} {low:g} to {high:g}" for key, (low, high) in profile.validity.items()]
        if ranges:
            click.echo(f"  valid: {', '.join(ranges)}")
        click.echo(f"  {profile.notes}")


@latency.command()
@click.option(
    "--csv", "table_path", type=click.Path(), required=True, help="Columns structure, latency_ms, ..."
)
@click.option(
    "--output", type=click.Path(dir_okay=False), required=True, help="The profile to write, a .json file."
)
@click.option("--device-name", required=True, help="The device in words.")
@click.option("--batch", type=click.IntRange(1, 65_536), default=1, show_default=True)
@click.option(
    "--dtype", type=click.Choice(["fp32", "fp16", "bf16", "int8"]), default="fp32", show_default=True
)
@click.option(
    "--resolution", type=click.IntRange(1, 8192), default=224, show_default=True, help="For rows without."
)
@click.option("--classes", type=click.IntRange(1), default=1000, show_default=True, help="For rows without.")
@json_option
def fit(
    table_path: str,
    output: str,
    device_name: str,
    batch: int,
    dtype: str,
    resolution: int,
    classes: int,
    as_json: bool,
) -> None:
    """Make a profile from latencies that were measured somewhere else."""
    from zenopt.latency.csvfit import fit_profile, read_rows
    from zenopt.latency.output import prepare_output

    show_warnings()
    prepare_output(output, (".json",))
    rows = read_rows(table_path, resolution=resolution, num_classes=classes)
    profile = fit_profile(
        rows,
        name=Path(output).stem,
        device=device_name,
        batch=batch,
        dtype=dtype,
        source=Path(table_path).name,
    )
    profile.save(output)
    if as_json:
        print_json({"output": output, "model": dict(profile.model), "errors": dict(profile.errors)})
        return
    click.echo(f"{output}: {len(rows)} networks")
    click.echo(_error_text(str(profile.errors["protocol"]), profile.errors))


@latency.command()
@click.option("--study", required=True, help="Preset or file of the study whose networks are wanted.")
@click.option("--count", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option("--output", type=click.Path(dir_okay=False), required=True, help="The CSV file to write.")
@click.option(
    "--command", help="Measure each by a program that gets an ONNX file ({onnx}) and prints milliseconds."
)
@click.option("--batch", type=click.IntRange(1, 65_536), default=1, show_default=True)
@click.option("--onnx-folder", type=click.Path(file_okay=False), help="Write an ONNX file per network here.")
@click.option("--seed", type=int, default=0, show_default=True)
@json_option
def sample(
    study: str,
    count: int,
    output: str,
    command: str | None,
    batch: int,
    onnx_folder: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Write networks to measure somewhere else, as CSV and ONNX, or measure them by a command."""
    from zenopt.latency.sample import write_sample

    show_warnings()
    written = write_sample(
        study,
        output,
        count=count,
        command=command,
        batch=batch,
        onnx_folder=onnx_folder,
        seed=seed,
        progress=lambda line: click.echo(line, err=True),
    )
    content = {
        "output": output,
        "networks": written,
        "measured": command is not None,
        "onnx_folder": onnx_folder,
    }
    if as_json:
        print_json(content)
    else:
        click.echo(f"{output}: {written} networks{', measured' if command else ', fill in latency_ms'}")


@latency.command()
@click.argument("profile")
@click.option(
    "--output", type=click.Path(dir_okay=False), required=True, help="The .html or .json file to write."
)
@json_option
def plot(profile: str, output: str, as_json: bool) -> None:
    """Draw predicted against measured latency of a profile's held-out networks."""
    from zenopt.latency import load_profile
    from zenopt.latency.figure import held_out_pairs, write_figure

    device = load_profile(profile)
    pairs = held_out_pairs(device)
    write_figure(pairs, f"{device.name}: {device.errors.get('protocol', '')}", output)
    print_json({"output": output, "networks": len(pairs)}) if as_json else click.echo(
        f"{output}: {len(pairs)} networks"
    )


@latency.command()
@click.argument("target", metavar=TARGET)
@click.option("--device", "profile", required=True, metavar="PROFILE", help="A profile's name or file.")
@_network_options
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
    from zenopt.latency.targets import find_target

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


def _counts(data: Any) -> dict[str, Any]:
    """Returns the data of a profile without the long lists."""
    kept = {key: value for key, value in data.items() if not isinstance(value, dict)}
    if isinstance(data.get("networks"), dict):
        kept["networks"] = len(data["networks"])
    return kept


def _error_text(what: str, errors: Any) -> str:
    text = f"{what}: mean error {errors['mape']:.1%}"
    if "max" in errors:
        rank = "undefined" if errors["spearman"] is None else f"{errors['spearman']:.3f}"
        text += (
            f", largest {errors['max']:.0%}, {errors['within_10']:.0%} within 10 %, "
            f"Spearman {rank} ({errors['networks']} networks)"
        )
    return text
