"""``zenopt status``."""

from __future__ import annotations

import shlex

import click

from zenopt.cli.hints import of_results, of_study, say_next
from zenopt.cli.options import json_option, print_json, storage_option, study_option, wrapped
from zenopt.cli.study_choice import chosen_study
from zenopt.core.text import printable_lines


@click.command()
@study_option
@storage_option
@json_option
def status(name: str | None, storage: str, as_json: bool) -> None:
    """Show how a study stands: its best network, what trainings chose, what was exported.

    Of a linked study of trainings (NAME-trained, NAME-verify) it shows the accuracies.

    \b
    zenopt status
    zenopt status --study demo
    """
    from zenopt.cli.trainings import describe_export, describe_runs, describe_trainings, trainings_json
    from zenopt.progress.search import describe_status
    from zenopt.report.trainings import parent_of, read_trainings
    from zenopt.study.exported import read_export
    from zenopt.study.study import open_existing, read_status
    from zenopt.study.trained import read_runs

    study = chosen_study(open_existing(storage), name)
    found, trainings, exported = read_status(study), read_trainings(study), read_export(study)
    runs = read_runs(study)
    if as_json:
        export = {} if exported is None else {"exported": dict(exported.__dict__)}
        trained = {"trainings": [trainings_json(item) for item in trainings]} if trainings else {}
        own_runs = {"runs": runs} if runs else {}
        print_json({**found.to_json(), **trained, **own_runs, **export})
        return
    parent = parent_of(study)
    # The counts of a linked study are those of its trainings, and its best is an accuracy.
    lines = [] if parent is not None else [describe_status(found)]
    lines += [describe_trainings(item) for item in trainings]
    lines += [describe_runs(runs)] if runs else []
    lines += [describe_export(exported)] if exported is not None else []
    click.echo(printable_lines("\n".join(lines)))
    searched = parent or found.name
    study_words = of_study(searched)
    if found.spec is None and parent is None:
        click.echo(
            wrapped(
                "It was not made by zenopt optimize: report, export-best and predict need the spec that a study of "
                "zenopt's keeps. Optuna's own tools read it."
            )
        )
        if found.best is not None and found.best.structure:
            say_next((f"zenopt describe {shlex.quote(found.best.structure)}", "its best network"))
    elif found.best is None and parent is None:
        say_next((f"zenopt optimize {of_study(searched, '--study-name')} --trials 100", "search on"))
    else:
        has_networks = found.spec is None or found.spec.has_networks
        say_next(*of_results(searched, study_words, has_networks))
