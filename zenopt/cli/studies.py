"""``zenopt studies``."""

from __future__ import annotations

import click

from zenopt.cli.hints import of_study, say_next
from zenopt.cli.options import json_option, print_json, table


@click.command()
@click.option("--storage", metavar="URL", help="List the studies stored there instead of the presets.")
@json_option
def studies(storage: str | None, as_json: bool) -> None:
    """List the presets, or the studies in a storage.

    \b
    zenopt studies
    zenopt studies --storage sqlite:///zenopt.db
    """
    if storage is None:
        _presets(as_json)
    else:
        _stored(storage, as_json)


def _presets(as_json: bool) -> None:
    from zenopt.study.spec import StudySpec, list_presets

    specs = [StudySpec.load(name) for name in list_presets()]
    if as_json:
        print_json([spec.model_dump(mode="json") for spec in specs])
        return
    rows = [
        (
            spec.name,
            spec.space.name,
            str(spec.resolution),
            {"proxy": spec.proxy.name, "table": "(a table)"}.get(
                spec.objective.kind, f"({spec.objective.kind})"
            ),
            spec.description,
        )
        for spec in specs
    ]
    click.echo(table(rows, ("preset", "space", "px", "score", "description")))
    say_next(("zenopt optimize --study demo", "run a preset; this one takes a minute"))


def _stored(storage: str, as_json: bool) -> None:
    from zenopt.study.study import load_study, open_existing, read_status

    opened = open_existing(storage)
    names = sorted(study.study_name for study in opened.get_all_studies())
    statuses = [read_status(load_study(opened, name)) for name in names]
    if as_json:
        print_json([status.to_json() for status in statuses])
        return
    if not statuses:
        click.echo("No studies yet.")
        return
    rows = []
    for status in statuses:
        best = "-" if status.best is None else f"{status.best.value:.3f}"
        if status.spec is not None and len(status.spec.objectives) > 1:
            best += f" (front of {len(status.front)})"
        space = status.spec.space.name if status.spec is not None else "-"
        rows.append((status.name, space, str(status.trials), str(status.complete), str(status.running), best))
    click.echo(table(rows, ("study", "space", "trials", "complete", "running", "best")))
    say_next((f"zenopt status {of_study(statuses[0].name)}", "the progress of a study"))
