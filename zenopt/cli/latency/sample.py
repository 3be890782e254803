"""``zenopt latency sample``."""

from __future__ import annotations

import click

from zenopt.cli.hints import say_next
from zenopt.cli.options import json_option, print_json, quiet_option, show_warnings
from zenopt.core.words import plural
from zenopt.progress.panel import Panel


@click.command()
@click.option("--study", required=True, help="Preset or file of the study whose networks are wanted.")
@click.option("--count", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), required=True, help="The CSV file to write.")
@click.option(
    "--command", help="Measure each by a program that gets an ONNX file ({onnx}) and prints milliseconds."
)
@click.option("--batch", type=click.IntRange(1, 65_536), default=1, show_default=True, help="Images per run.")
@click.option("--onnx-folder", type=click.Path(file_okay=False), help="Write an ONNX file per network here.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the choice of networks.")
@quiet_option
@json_option
def sample(
    study: str,
    count: int,
    output: str,
    command: str | None,
    batch: int,
    onnx_folder: str | None,
    seed: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Write networks to measure somewhere else, as CSV and ONNX, or measure them by a command.

    \b
    zenopt latency sample --study cifar-params1m --output phone.csv \\
        --command "python run.py {onnx}"
    """
    from zenopt.core.outputs import check_folder

    show_warnings()
    if onnx_folder is not None:
        check_folder(onnx_folder)
    with Panel(quiet=quiet or as_json) as panel:
        from zenopt.latency.sample import write_sample
        from zenopt.study.spec import StudySpec

        spec = StudySpec.load(study)
        written = write_sample(
            spec.build_space(),
            output,
            resolution=spec.resolution,
            num_classes=spec.num_classes,
            use_se=spec.use_se,
            count=count,
            command=command,
            batch=batch,
            onnx_folder=onnx_folder,
            seed=seed,
            progress=panel,
        )
    content = {
        "output": output,
        "networks": written,
        "measured": command is not None,
        "onnx_folder": onnx_folder,
    }
    if as_json:
        print_json(content)
        return
    click.echo(
        f"{output}: {plural(written, 'network')}, {'measured' if command else 'latency_ms to be filled in'}"
    )
    say_next((f"zenopt latency fit --csv {output} --device-name ... --output profile.json", "make a profile"))
