"""``zenopt components``."""

from __future__ import annotations

from itertools import groupby

import click

from zenopt.cli.hints import say_next
from zenopt.cli.options import json_option, print_json, table


@click.command()
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="KIND",
    help="Only these: family, space, block, evaluator, proxy, sampler, ...; repeatable.",
)
@json_option
def components(kinds: tuple[str, ...], as_json: bool) -> None:
    """List what studies can name: what it is, and where it comes from.

    From is "built in", the installed package whose entry point registers it, or the module that --import has
    registered. What else a study takes by module:object is not registered, and not listed.

    \b
    zenopt components --kind sampler
    zenopt components --kind space --kind block --import my_blocks.py
    """
    from zenopt.study.components import list_components

    found = list_components(kinds)
    if as_json:
        print_json([item.to_json() for item in found])
        return
    for index, (kind, items) in enumerate(groupby(found, key=lambda item: item.kind)):
        rows = [(item.name, str(item.origin), item.description) for item in items]
        if index:
            click.echo()
        click.echo(table(rows, (kind, "from", "what")))
    if not kinds:
        say_next(("zenopt components --kind KIND", "one kind alone"))
