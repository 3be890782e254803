"""The commands `train`, `evaluate` and `deploy`: options in, one run out. The work is done in other files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from zenopt.core.text import one_line, printable


def _network_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which network, shared by both commands."""
    for option in reversed(
        [
            click.option(
                "--bundle", type=click.Path(path_type=Path), help="A folder that export-best wrote."
            ),
            click.option("--structure", help="A structure string, or a file that holds one."),
            click.option("--model", help="timm:NAME, torchvision:NAME, or a published ZenNet."),
            click.option(
                "--resolution", type=click.IntRange(8), help="Input side, pixels (with --structure)."
            ),
            click.option("--se", "use_se", is_flag=True, help="Build squeeze-excite (with --structure)."),
        ]
    ):
        command = option(command)
    return command


@click.command("train")
@_network_options
@click.option(
    "--data",
    "data_name",
    required=True,
    help="imagefolder:PATH, imagenet:PATH, cifar10:PATH, cifar100:PATH, synthetic[:N].",
)
@click.option("--weights", type=click.Path(path_type=Path), help="Start from these weights (fine-tuning).")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder of the run.")
@click.option(
    "--recipe", "recipe_name", default="basic", show_default=True, help="A recipe's name, or a YAML file."
)
@click.option("--epochs", type=click.IntRange(1), help="Replaces the recipe's number.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replaces a field of the recipe; repeatable.",
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0), help="Of weights, order and augmentation."
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:N, mps, or auto.")
@click.option("--resume", is_flag=True, help="Continue the run in --output.")
@click.option("--auto-resume", is_flag=True, help="Continue the run in --output if there is one.")
@click.option(
    "--checkpoint-steps",
    default=1000,
    show_default=True,
    type=click.IntRange(1),
    help="Steps between checkpoints within an epoch.",
)
@click.option(
    "--loader-workers",
    type=click.IntRange(0),
    help="Processes that prepare batches; chosen by the recipe unless given.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else.")
def train_command(
    bundle: Path | None,
    structure: str | None,
    model: str | None,
    resolution: int | None,
    use_se: bool,
    data_name: str,
    weights: Path | None,
    output: Path,
    recipe_name: str,
    epochs: int | None,
    overrides: tuple[str, ...],
    seed: int,
    device: str,
    resume: bool,
    auto_resume: bool,
    checkpoint_steps: int,
    loader_workers: int | None,
    as_json: bool,
) -> None:
    """Train a network and keep its weights and metrics."""
    from zenopt.train.distributed import join_world
    from zenopt.train.progress import observer
    from zenopt.train.recipe import load_recipe
    from zenopt.train.run import train

    recipe = load_recipe(recipe_name, overrides, **({"epochs": epochs} if epochs else {}))
    source, expected = _source(bundle, structure, model, resolution, use_se)
    with join_world(device) as world:
        watcher = observer(shown=world.is_first)
        try:
            result = train(
                source,
                data_name,
                recipe,
                output=output,
                world=world,
                weights=weights,
                seed=seed,
                resume="must" if resume else "auto" if auto_resume else "never",
                workers=loader_workers,
                checkpoint_steps=checkpoint_steps,
                expected_classes=expected,
                observer=watcher,
            )
        finally:
            watcher.close()
        if not world.is_first:
            return
    metrics = result.metrics
    if as_json:
        click.echo(json.dumps(metrics))
        return
    best = metrics["best"]
    click.echo(
        f"top-1 {metrics['top1']:.2f} %  top-5 {metrics['top5']:.2f} %  after {metrics['epochs']} epochs"
    )
    click.echo(f"best top-1 {best['top1']:.2f} % at epoch {best['epoch']}")
    click.echo(f"training took {metrics['seconds']:.0f} s; see {output}")


@click.command("evaluate")
@_network_options
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="best.pt, last.pt, a ZenNAS checkpoint or a state_dict.",
)
@click.option("--pretrained", is_flag=True, help="The library's own weights (with timm: and torchvision:).")
@click.option(
    "--data",
    "data_name",
    required=True,
    help="imagefolder:PATH, imagenet:PATH, cifar10:PATH, cifar100:PATH, synthetic[:N].",
)
@click.option(
    "--crop-size",
    type=click.IntRange(8),
    help="Side of the centre crop, pixels; the published ZenNets: 320 (12ms: 380).",
)
@click.option(
    "--crop-ratio",
    type=click.FloatRange(0, 1, min_open=True),
    help="Crop / resized short side; 0.875 unless the recipe says otherwise.",
)
@click.option("--batch-size", default=256, show_default=True, type=click.IntRange(1))
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:N, mps, or auto.")
@click.option("--amp", type=click.Choice(["fp16", "bf16"]), help="Lower precision.")
@click.option(
    "--report", type=click.Path(path_type=Path), help="Write the confusion matrix as one HTML file."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else.")
def evaluate_command(
    bundle: Path | None,
    structure: str | None,
    model: str | None,
    resolution: int | None,
    use_se: bool,
    weights: Path | None,
    pretrained: bool,
    data_name: str,
    crop_size: int | None,
    crop_ratio: float | None,
    batch_size: int,
    device: str,
    amp: str | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Evaluate weights on the test images: top-1, top-5, throughput, each class.

    Weights that a training run wrote say themselves which network they are of.
    """
    from zenopt.train.distributed import join_world
    from zenopt.train.run import evaluate_weights

    source = None
    if bundle or structure or model:
        source, _ = _source(bundle, structure, model, resolution, use_se)
    with join_world(device) as world:
        evaluation, classes = evaluate_weights(
            source,
            data_name,
            weights=weights,
            pretrained=pretrained,
            crop_size=crop_size,
            crop_ratio=crop_ratio,
            batch_size=batch_size,
            amp=amp,
            world=world,
        )
        if not world.is_first:
            return
    if report is not None:
        from zenopt.train.report import write_report

        write_report(report, history=[], confusion=evaluation.confusion, classes=classes, title="Evaluation")
    if as_json:
        click.echo(json.dumps(evaluation.facts(classes)))
        return
    for name in evaluation.broken:
        click.echo(f"Skipped a broken image: {printable(name)}", err=True)
    click.echo(f"top-1 {evaluation.top1:.2f} %  top-5 {evaluation.top5:.2f} %  loss {evaluation.loss:.4f}")
    click.echo(
        f"{evaluation.images} images, {evaluation.images_per_second:.1f} images/s (forward passes alone)"
    )
    for name, share in evaluation.per_class(classes).items():
        click.echo(f"  {printable(name):24s} {'no images' if share is None else f'{share:6.2f} %'}")


@click.command("deploy")
@click.option(
    "--weights", required=True, type=click.Path(path_type=Path), help="best.pt or last.pt of a run."
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
@click.option("--data", "data_name", help="As in training: gives every file's accuracy; --int8 needs it.")
@click.option("--calibration-images", default=512, show_default=True, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else.")
def deploy_command(
    weights: Path,
    output: Path,
    formats: tuple[str, ...],
    int8: bool,
    data_name: str | None,
    calibration_images: int,
    as_json: bool,
) -> None:
    """Export a trained network, with folded norms, checked against the original."""
    from zenopt.train.deploy import deploy_run

    facts = deploy_run(
        weights, output, formats, data_name=data_name, int8=int8, calibration_images=calibration_images
    )
    if as_json:
        click.echo(json.dumps(facts))
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


def _source(
    bundle: Path | None, structure: str | None, model: str | None, resolution: int | None, use_se: bool
) -> tuple[Any, int | None]:
    """Return the network's source, and the number of classes that a bundle expects."""
    from zenopt.train.networks import NetworkSource

    if sum(value is not None for value in (bundle, structure, model)) != 1:
        raise click.UsageError("Give exactly one of --bundle, --structure and --model.")
    if bundle is not None:
        from zenopt.export.bundle import read_bundle

        found = read_bundle(bundle)
        return NetworkSource.from_bundle(found, resolution), found.num_classes
    if model is not None:
        return NetworkSource.from_model(model, resolution), None
    if resolution is None:
        raise click.UsageError("--structure needs --resolution.")
    assert structure is not None
    from zenopt.cli.options import show_warnings
    from zenopt.export.names import resolve

    show_warnings()
    named = resolve(structure)
    if named.architecture is None:
        return NetworkSource.from_model(structure, resolution), None
    return NetworkSource.from_structure(named.text, resolution, use_se, named.family), None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `train` and return the exit code: 2 for anything a user can put right."""
    from zenopt.cli import LONGEST, explain, make_streams_patient, show_usage, with_imports
    from zenopt.cli.options import with_finite_numbers

    make_streams_patient()
    try:
        with_imports(with_finite_numbers(train_command)).main(
            args=arguments, prog_name="python -m zenopt.train", standalone_mode=False
        )
    except click.ClickException as error:
        show_usage(error)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted; --resume continues from the last checkpoint.", err=True)
        return 130
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        click.echo(f"Error: {one_line(message, LONGEST)}", err=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
