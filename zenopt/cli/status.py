"""``zenopt status``."""

from __future__ import annotations

import click

from zenopt.cli.options import json_option, print_json, storage_option


@click.command()
@click.option("--study", "name", required=True, metavar="NAME", help="Name of the study in the storage.")
@storage_option
@json_option
def status(name: str, storage: str, as_json: bool) -> None:
    """Show how a study stands: its best network, what trainings chose, what was exported.

    Of a linked study of trainings (NAME-trained, NAME-verify) it shows the accuracies.

    \b
    zenopt status --study demo
    """
    from zenopt.cli.progress import describe_status
    from zenopt.cli.trainings import describe_export, describe_trainings, trainings_json
    from zenopt.report.trainings import parent_of, read_trainings
    from zenopt.study.exported import read_export
    from zenopt.study.study import load_study, open_existing, read_status

    study = load_study(open_existing(storage), name)
    status, trainings, exported = read_status(study), read_trainings(study), read_export(study)
    if as_json:
        export = {} if exported is None else {"exported": dict(exported.__dict__)}
        trained = {"trainings": [trainings_json(found) for found in trainings]} if trainings else {}
        print_json({**status.to_json(), **trained, **export})
        return
    # The counts of a linked study are those of its trainings, and its best is an accuracy.
    lines = [] if parent_of(study) is not None else [describe_status(status)]
    lines += [describe_trainings(found) for found in trainings]
    lines += [describe_export(exported)] if exported is not None else []
    click.echo("\n".join(lines))
