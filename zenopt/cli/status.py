"""``zenopt status``."""

from __future__ import annotations

import click

from zenopt.cli.options import json_option, print_json, storage_option


@click.command()
@click.option("--study", "name", required=True, metavar="NAME", help="Name of the study in the storage.")
@storage_option
@json_option
def status(name: str, storage: str, as_json: bool) -> None:
    """Show how a study stands and its best network.

    \b
    zenopt status --study demo
    """
    from zenopt.cli.search_progress import describe_status
    from zenopt.study.study import load_study, open_existing, read_status

    found = read_status(load_study(open_existing(storage), name))
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(describe_status(found))
