"""``zenopt score``."""

from __future__ import annotations

import click

from zenopt.cli.options import (
    NETWORK,
    FiniteRange,
    device_option,
    json_option,
    network_options,
    print_json,
    seed_option,
    show_warnings,
)
from zenopt.core.words import plural


@click.command()
@click.argument("network", metavar=NETWORK)
@click.option("--proxy", default="zen", show_default=True, help="A proxy (see `zenopt proxies`).")
@network_options
@click.option(
    "--batch-size", type=click.IntRange(1, 65_536), default=16, show_default=True, help="Images in the batch."
)
@click.option(
    "--repeats",
    type=click.IntRange(1, 100_000),
    default=1,
    show_default=True,
    help="Fresh draws, of which the mean is given.",
)
@click.option(
    "--gamma",
    type=FiniteRange(0, min_open=True),
    default=0.01,
    show_default=True,
    help="Size of the input perturbation (Zen-scores).",
)
@seed_option("Of weights and inputs.")
@device_option("cpu", "Torch device.")
@click.option(
    "--residual/--no-residual",
    default=None,
    help="Score with or without residual links; the proxy has a default.",
)
@json_option
def score(
    network: str,
    proxy: str,
    resolution: int | None,
    classes: int | None,
    use_se: bool | None,
    batch_size: int,
    repeats: int,
    gamma: float,
    seed: int,
    device: str,
    residual: bool | None,
    as_json: bool,
) -> None:
    """Score a network by a training-free proxy.

    A bundle is scored at its own resolution, with its own classes and gates. A NAME is that of a published ZenNet or of
    a preset (its initial structure), SPACE:TEXT (nasbench-macro:11111111), timm:MODEL or torchvision:MODEL.

    \b
    zenopt score demo-bundle --repeats 8
    zenopt score net.txt --resolution 32 --proxy zen-closed-form
    zenopt score zennet_imagenet1k_latency01ms --repeats 2
    zenopt score timm:resnet18 --proxy synflow-log
    """
    from zenopt.study.targets import find_target

    show_warnings()
    # What is wrong with the name is said before torch is imported.
    found = find_target(network, resolution=resolution, num_classes=classes, use_se=use_se)
    from zenopt.proxies import get_proxy
    from zenopt.study.scoring import score_target

    proxy_found = get_proxy(proxy)
    result = score_target(
        found,
        proxy_found,
        batch_size=batch_size,
        repeats=repeats,
        gamma=gamma,
        seed=seed,
        device=device,
        residual=residual,
    )
    brings_images = proxy_found.own_resolution is not None
    if as_json:
        asked = {"num_classes": found.num_classes, "use_se": found.use_se}
        print_json({**result.to_json(), **({} if brings_images else asked)})
        return
    spread = f" +- {result.std:.4g} over {len(result.values)} draws" if len(result.values) > 1 else ""
    asked_for = f", {plural(found.num_classes, 'class')}{', squeeze-excite' if found.use_se else ''}"
    click.echo(
        f"{result.source}: {result.mean:.6g}{spread} (at {result.resolution} px"
        f"{'' if brings_images else asked_for}; {result.seconds:.2f} s on {result.device})"
    )
