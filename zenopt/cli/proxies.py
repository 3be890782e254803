"""``zenopt proxies``."""

from __future__ import annotations

import click

from zenopt.cli.hints import say_next
from zenopt.cli.options import json_option, print_json, table


@click.command()
@json_option
def proxies(as_json: bool) -> None:
    """List the proxies: what is better, what they cost, what they need."""
    from zenopt.proxies.registry import summaries

    found = summaries()
    if as_json:
        print_json(
            [
                {
                    "name": proxy.name,
                    "direction": proxy.direction,
                    "cost_class": proxy.cost_class,
                    "needs": list(proxy.needs),
                    "description": proxy.description,
                }
                for proxy in found
            ]
        )
        return
    rows = [
        (proxy.name, proxy.direction, proxy.cost_class, " ".join(proxy.needs), proxy.description)
        for proxy in found
    ]
    click.echo(table(rows, ("proxy", "better", "cost", "needs", "description")))
    say_next(("zenopt score STRUCTURE --proxy NAME", "score a network by one"))
