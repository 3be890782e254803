"""``zenopt models``."""

from __future__ import annotations

import click

from zenopt.cli.hints import say_next
from zenopt.cli.options import json_option, print_json
from zenopt.core.text import quoted
from zenopt.core.words import plural


@click.command()
@click.argument("pattern", default="*")
@json_option
def models(pattern: str, as_json: bool) -> None:
    """List the published ZenNets whose names match a glob PATTERN.

    \b
    zenopt models "*latency*"
    zenopt evaluate --model zennet_imagenet1k_latency01ms \\
        --weights latency01ms.pth --data imagenet:/data/imagenet
    """
    from zenopt.spaces.chain.zoo import card, list_models

    cards = [card(name) for name in list_models(pattern)]
    if as_json:
        print_json([found.__dict__ for found in cards])
        return
    if not cards:
        raise click.BadParameter(
            f"no published network matches {quoted(pattern)}; zenopt models lists all.", param_hint="PATTERN"
        )
    for found in cards:
        gates = ", squeeze-excite" if found.use_se else ""
        click.echo(f"{found.name:34s} {found.resolution} px, {plural(found.num_classes, 'class')}{gates}")
    if cards:
        say_next((f"zenopt describe {cards[0].name}", "its layers and costs"))
