"""``zenopt deploy``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zenopt.cli.options import json_option, print_json
from zenopt.cli.training import data_options, network_options, read_network

#: How a file is loaded, the most useful one first.
_USES = {
    "onnx-int8": "import onnxruntime; onnxruntime.InferenceSession('{file}')",
    "onnx": "import onnxruntime; onnxruntime.InferenceSession('{file}')",
    "torchscript": "import torch; torch.jit.load('{file}')",
    "torch-export": "import torch; torch.export.load('{file}').module()",
    "python": "import runpy; print(runpy.run_path('{file}')['build']())",
}


@click.command("deploy")
@network_options
@click.option(
    "--weights",
    required=True,
    type=click.Path(path_type=Path),
    help="best.pt or last.pt of a run; other weights with an option that says which network.",
)
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder for the files.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["torchscript", "torch-export", "onnx"]),
    help="Repeatable; a model.py that needs only torch is always written.",
)
@click.option("--int8", is_flag=True, help="Also an int8 ONNX file for CPUs, calibrated on training images.")
@data_options(required=False, help_text="Gives every file's accuracy; --int8 needs it: ")
@click.option("--calibration-images", default=512, show_default=True, type=click.IntRange(1))
@json_option
def deploy_command(
    weights: Path,
    output: Path,
    formats: tuple[str, ...],
    int8: bool,
    data_name: str | None,
    download: bool,
    share: float,
    calibration_images: int,
    as_json: bool,
    **network: Any,
) -> None:
    """Export a trained network, with folded norms, checked against the original.

    \b
    zenopt deploy --weights runs/demo/best.pt --format onnx --int8 \\
        --data cifar10:PATH --output deployed
    zenopt deploy --model zennet_imagenet1k_flops400M_SE \\
        --weights flops400M.pth --format onnx --output deployed
    """
    from zenopt.train.deploy import deploy_weights
    from zenopt.train.progress import observer

    if data_name is None and (download or share != 1.0):
        raise click.UsageError("--download and --share need --data.")
    meant = read_network(network, required=False)
    watcher = observer(shown=True)
    try:
        facts = deploy_weights(
            weights,
            output,
            formats,
            source=None if meant is None else meant.source,
            data_name=data_name,
            share=share,
            download=download,
            int8=int8,
            calibration_images=calibration_images,
            observer=watcher,
        )
    finally:
        watcher.close()
    if as_json:
        print_json(facts)
        return
    if "top1" in facts:
        click.echo(f"{'eager':14s} top-1 {facts['top1']:.2f} %")
    for entry in facts["files"]:
        parts = [f"{entry['format']:14s} {entry['file']}"]
        if "bytes" in entry:
            parts.append(f"{entry['bytes'] / 1e6:.2f} MB")
        if "max_error" in entry:
            parts.append(f"largest error {entry['max_error']:.2g}")
        if "top1" in entry:
            parts.append(f"top-1 {entry['top1']:.2f} %")
        click.echo("  ".join(parts))
    how = "with the mean and std" if facts["mean"] else "as"
    click.echo(f"Images are {facts['resolution']} px, normalised {how} in {output / 'deploy.json'}")
    names = {entry["format"]: entry["file"] for entry in facts["files"]}
    for format, use in _USES.items():
        if format in names:
            click.echo(f'Next: python -c "{use.format(file=output / names[format])}"')
            break
