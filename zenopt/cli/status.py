"""``zenopt status``."""

from __future__ import annotations

import click

from zenopt.cli.hints import of_study, say_next
from zenopt.cli.options import json_option, print_json, storage_option, study_option
from zenopt.cli.study_choice import chosen_study
from zenopt.core.text import printable_lines


@click.command()
@study_option
@storage_option
@json_option
def status(name: str | None, storage: str, as_json: bool) -> None:
    """Show the progress of a study and its best network.

    \b
    zenopt status
    zenopt status --study demo
    """
    from zenopt.cli.search_progress import describe_status
    from zenopt.study.study import open_existing, read_status

    found = read_status(chosen_study(open_existing(storage), name))
    if as_json:
        print_json(found.to_json())
        return
    click.echo(printable_lines(describe_status(found)))
    study = of_study(found.name)
    if found.best is None:
        say_next((f"zenopt optimize {of_study(found.name, '--study-name')} --trials 100", "search on"))
    else:
        say_next(
            (f"zenopt report {study}", "figures, and pictures of the best networks"),
            (f"zenopt export-best {study} --output {found.name}-bundle", "the winner, ready to train"),
        )
