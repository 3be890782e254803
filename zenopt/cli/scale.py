"""``zenopt scale``."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zenopt.cli.hints import say_next
from zenopt.cli.options import NETWORK, FiniteRange, json_option, print_json, show_warnings, table, wrapped

if TYPE_CHECKING:
    from zenopt.core.costs import Costs
    from zenopt.export.bundle import Bundle
    from zenopt.latency.targets import Target
    from zenopt.spaces.chain.scaling import Factors

_FACTOR = FiniteRange(0, min_open=True)
#: Costs that ``--to`` may name.
_TARGETS = ("params", "macs")


@click.command()
@click.argument("network", metavar=NETWORK)
@click.option(
    "--width", type=_FACTOR, help="Factor of all widths; those of super-blocks stay multiples of 8."
)
@click.option(
    "--depth",
    type=_FACTOR,
    help="Factor of the depths of residual blocks, rounded up, or of the number of cells in a stack.",
)
@click.option("--resolution", type=_FACTOR, help="Factor of the side of the input image.")
@click.option(
    "--to",
    "target",
    metavar="COST=VALUE",
    help="Instead of factors: the largest compound scaling (EfficientNet's) within macs=VALUE or params=VALUE.",
)
@click.option("-o", "--output", type=click.Path(file_okay=False), metavar="DIR", help="Write a new bundle.")
@click.option("--force", is_flag=True, help="Replace a bundle that is there.")
@json_option
def scale(
    network: str,
    width: float | None,
    depth: float | None,
    resolution: float | None,
    target: str | None,
    output: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Make a found network wider, deeper, or larger in resolution, and show what it then costs.

    What is not given stays as it is. Scaled networks are neither scored nor trained: a search with the larger budget
    may well find a better one.

    \b
    zenopt scale demo-bundle --width 1.3 --depth 1.2 --resolution 1.15
    zenopt scale demo-bundle --to macs=100e6 --output demo-100m
    zenopt scale found-8x16 --width 2.25 --depth 2.5 --output found-20x36
    """
    from zenopt.core.costs import count
    from zenopt.export.bundle import check_bundle_folder
    from zenopt.latency.training_speed import training_speed
    from zenopt.spaces.chain.scaling import Factors, scaled_resolution
    from zenopt.study.targets import find_target

    show_warnings()
    factors = (width, depth, resolution)
    if (target is None) == all(factor is None for factor in factors):
        raise click.UsageError("give factors (--width, --depth, --resolution), or --to COST=VALUE.")
    found = find_target(network)
    if output is not None:
        check_bundle_folder(output, overwrite=force)
    wanted = (
        Factors(width or 1.0, depth or 1.0, resolution or 1.0)
        if target is None
        else _compound(found, *_read_target(target))
    )
    side = scaled_resolution(found.resolution, wanted)
    larger = _scaled(found, wanted)
    before = count(found.architecture, found.resolution, found.num_classes, use_se=found.use_se)
    after = count(larger, side, found.num_classes, use_se=found.use_se)
    folder = None
    if output is not None:
        from zenopt.export.bundle import write_bundle
        from zenopt.export.standalone import write_bundle_model

        bundle = _bundle(network, found, larger, side, after, wanted)
        folder = write_bundle(bundle, output, overwrite=force)
        write_bundle_model(bundle, folder)
    if as_json:
        print_json(
            {
                "structure": str(larger),
                "resolution": side,
                "factors": vars(wanted),
                "before": vars(before),
                "after": vars(after),
                "output": None if folder is None else str(folder),
            }
        )
        return
    click.echo(
        f"Width x {wanted.width:.3g}, depth x {wanted.depth:.3g}, resolution x {wanted.resolution:.3g}"
    )
    rows = [("resolution", f"{found.resolution}", f"{side}", f"{side / found.resolution:.2f}")]
    for key, name in (
        ("params", "params"),
        ("macs", "MACs"),
        ("layers", "layers"),
        ("convs", "convolutions"),
    ):
        old, new = getattr(before, key), getattr(after, key)
        rows.append((name, f"{old:,}", f"{new:,}", f"{new / old:.2f}"))
    click.echo(table(rows, ("cost", "before", "after", "ratio")))
    click.echo(wrapped(f"Training: {training_speed(after.macs, after.activation_bytes).text}"))
    click.echo(str(larger))
    if folder is None:
        typed = " ".join(
            f"--{name} {factor:g}"
            for name, factor in zip(("width", "depth", "resolution"), factors, strict=True)
            if factor
        )
        say_next(
            (
                f"zenopt scale {shlex.quote(network)} {typed or f'--to {target}'} --output DIR",
                "keep it as a bundle",
            )
        )
    else:
        place = shlex.quote(str(folder))
        run = shlex.quote(f"runs/{folder.name}")
        say_next((f"zenopt train --bundle {place} --data imagefolder:PATH --output {run}", "train it"))


def _read_target(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if name not in _TARGETS or not 0 < value < math.inf:
        raise click.UsageError(f"--to {text!r}: expected macs=VALUE or params=VALUE, e.g. macs=600e6.")
    return name, value


def _compound(found: Target, name: str, value: float) -> Factors:
    from zenopt.core.costs import count
    from zenopt.spaces.chain.scaling import compound_to, scaled_resolution

    def used(factors: Factors) -> float:
        side = scaled_resolution(found.resolution, factors)
        return float(
            getattr(count(_scaled(found, factors), side, found.num_classes, use_se=found.use_se), name)
        )

    return compound_to(used, value)


def _scaled(found: Target, factors: Factors) -> Any:
    """Return the architecture scaled by the rule of its family.

    Raises:
        StructureError: If its space offers none.
    """
    from zenopt.core.errors import StructureError
    from zenopt.spaces.base import NOT_SCALABLE
    from zenopt.spaces.registry import get_space, space_of

    if found.architecture is None:
        raise StructureError(f"{NOT_SCALABLE}; {found.text} is neither.")
    space: Any = get_space(space_of(found.architecture.family))()
    return space.scale(found.architecture, width=factors.width, depth=factors.depth)


def _bundle(network: str, found: Target, larger: Any, side: int, costs: Costs, factors: Factors) -> Bundle:
    from zenopt.export.bundle import Bundle, versions

    source = f"bundle `{network}`" if Path(network).exists() else f"`{found.text}`"
    return Bundle(
        structure=str(larger),
        family=larger.family,
        resolution=side,
        num_classes=found.num_classes,
        use_se=found.use_se,
        costs=vars(costs),
        origin=f"Scaled from {source}: width x {factors.width:.4g}, depth x {factors.depth:.4g}, resolution x "
        f"{factors.resolution:.4g}.",
        versions=versions(),
    )
