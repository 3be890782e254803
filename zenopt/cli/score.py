"""``zenopt score``."""

from __future__ import annotations

import click

from zenopt.cli.options import device_option, json_option, print_json, show_warnings


@click.command()
@click.argument("network", metavar="STRUCTURE|FILE|BUNDLE|NAME")
@click.option("--proxy", default="zen", show_default=True, help="A proxy (see `zenopt proxies`).")
@click.option(
    "--resolution",
    type=click.IntRange(1, 8192),
    show_default="224; NAS-Bench-201: 32",
    help="Image side, px.",
)
@click.option("--classes", type=click.IntRange(1, 1_000_000), show_default="1000; NAS-Bench-201: 10")
@click.option("--batch-size", type=click.IntRange(1, 65_536), default=16, show_default=True)
@click.option("--repeats", type=click.IntRange(1, 100_000), default=1, show_default=True, help="Fresh draws.")
@click.option(
    "--gamma", type=click.FloatRange(0, min_open=True), default=0.01, show_default=True, help="Perturbation."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@device_option("cpu", "Torch device.")
@click.option("--se", "use_se", is_flag=True, help="With squeeze-excite gates.")
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
    batch_size: int,
    repeats: int,
    gamma: float,
    seed: int,
    device: str,
    use_se: bool,
    residual: bool | None,
    as_json: bool,
) -> None:
    """Score a network by a training-free proxy.

    A NAME is that of a published ZenNet, nasbench201:ARCHSTR, timm:MODEL or torchvision:MODEL.

    \b
    zenopt score demo-bundle --resolution 32 --classes 100 --repeats 8
    zenopt score "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,1)" --resolution 32 --proxy zen-closed-form
    zenopt score "nasbench201:|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|" --proxy naswot
    zenopt score timm:resnet18 --proxy synflow-log
    """
    from zenopt.export.names import resolve
    from zenopt.proxies import get_proxy
    from zenopt.study.scoring import score_named

    show_warnings()
    named = resolve(network)
    found = score_named(
        named,
        get_proxy(proxy),
        resolution=resolution or named.resolution,
        num_classes=classes or named.num_classes,
        batch_size=batch_size,
        repeats=repeats,
        gamma=gamma,
        seed=seed,
        device=device,
        residual=residual,
        use_se=use_se,
    )
    if as_json:
        print_json(found.to_json())
        return
    spread = f" +- {found.std:.4g} over {len(found.values)} draws" if len(found.values) > 1 else ""
    click.echo(f"{found.source}: {found.mean:.6g}{spread} ({found.seconds:.2f} s on {found.device})")
