"""``zenopt evaluate``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from zenopt.cli.hints import with_same_imports
from zenopt.cli.options import device_option, json_option, print_json
from zenopt.cli.training import data_options, network_options, read_network
from zenopt.core.text import printable
from zenopt.core.words import plural


@click.command("evaluate")
@network_options
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="best.pt, last.pt, a ZenNAS checkpoint or a state_dict.",
)
@click.option(
    "--pretrained",
    is_flag=True,
    help="The library's own weights (with timm: and torchvision:); a published ZenNet's of the folder ZENOPT_WEIGHTS.",
)
@data_options(required=True)
@click.option(
    "--crop-size",
    type=click.IntRange(8),
    help="Side of the centre crop, pixels; the published ZenNets: 320 (12ms: 380).",
)
@click.option(
    "--crop-ratio",
    type=click.FloatRange(0, 1, min_open=True),
    help="Crop / resized short side; 0.875 unless the recipe or the library says otherwise.",
)
@click.option("--batch-size", default=256, show_default=True, type=click.IntRange(1))
@device_option()
@click.option("--amp", type=click.Choice(["fp16", "bf16"]), help="Lower precision.")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    help="Write accuracies and confusion matrix as one HTML file.",
)
@json_option
def evaluate_command(
    weights: Path | None,
    pretrained: bool,
    data_name: str,
    download: bool,
    share: float,
    crop_size: int | None,
    crop_ratio: float | None,
    batch_size: int,
    device: str,
    amp: str | None,
    report: Path | None,
    as_json: bool,
    **network: Any,
) -> None:
    """Evaluate weights on the test images: top-1, top-5, throughput, each class.

    Weights that a training run wrote say themselves which network they are of.

    \b
    zenopt evaluate --weights runs/demo/best.pt --data cifar10:PATH
    zenopt evaluate --model zennet_imagenet1k_latency01ms \\
        --weights latency01ms.pth --data imagenet:/data/imagenet
    """
    from zenopt.train.distributed import join_world
    from zenopt.train.progress import observer
    from zenopt.train.run import evaluate_weights

    if pretrained and weights is not None:
        raise click.UsageError("Give --weights or --pretrained.")
    model = network["model"]
    meant = read_network(network, required=False)
    source = None if meant is None else meant.source
    if pretrained and source is not None and source.kind == "structure":
        if model is None:
            raise click.UsageError(
                "--pretrained needs --model: only published networks have weights of their own."
            )
        from zenopt.spaces.chain.zoo import find_weights

        weights, pretrained = find_weights(model), False
    with join_world(device) as world:
        watcher = observer(shown=world.is_first)
        try:
            evaluation, classes = evaluate_weights(
                source,
                data_name,
                weights=weights,
                pretrained=pretrained,
                crop_size=crop_size,
                crop_ratio=crop_ratio,
                batch_size=batch_size,
                amp=amp,
                share=share,
                download=download,
                world=world,
                observer=watcher,
            )
        finally:
            watcher.close()
        if not world.is_first:
            return
    if report is not None:
        from zenopt.report.training import write_evaluation_report

        write_evaluation_report(report, evaluation, classes, title=f"{weights or model} on {data_name}")
    if as_json:
        print_json(evaluation.facts(classes))
        return
    for name in evaluation.broken:
        click.echo(f"Skipped a broken image: {printable(name)}", err=True)
    click.echo(f"top-1 {evaluation.top1:.2f} %  top-5 {evaluation.top5:.2f} %  loss {evaluation.loss:.4f}")
    click.echo(
        f"{plural(evaluation.images, 'image')}, {evaluation.images_per_second:.1f} images/s (forward passes alone)"
    )
    for name, found in evaluation.per_class(classes).items():
        click.echo(f"  {printable(name):24s} {'no images' if found is None else f'{found:6.2f} %'}")
    if weights is not None and source is None:
        folder = shlex.quote(str(weights.parent / "deployed"))
        deploy = f"zenopt deploy --weights {shlex.quote(str(weights))} --format onnx --output {folder}"
        click.echo(f"Next: {with_same_imports(deploy)}")
