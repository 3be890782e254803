"""``zenopt evaluate-architectures``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from zenopt.cli.data_option import check_data
from zenopt.cli.hints import of_results, of_study, say_next
from zenopt.cli.options import (
    devices_option,
    executor_options,
    json_option,
    print_json,
    quiet_option,
    read_devices,
    set_option,
    shown,
    storage_option,
    table,
    warn,
)
from zenopt.cli.study_choice import named_spec, spec_options
from zenopt.core.words import plural, rounded
from zenopt.progress.panel import Panel

if TYPE_CHECKING:
    from zenopt.study.evaluating import Evaluated, Evaluation


@click.command()
@click.argument("file", metavar="FILE|-")
@spec_options("Whose space and objective: a preset, a YAML file, or a stored study.")
@set_option("Override a field, e.g. objective.kind=train; repeatable.")
@click.option(
    "--study-name",
    metavar="NAME",
    help="Study that keeps the values; by default the name of --study or --space with -evaluated.",
)
@storage_option
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    help="Evaluations at a time; by default one per core, or per device given; on a cluster what there is room for.",
)
@executor_options
@devices_option("Torch devices, shared out among the workers: cpu, cuda:0, mps.")
@click.option(
    "--runs",
    default="runs",
    show_default=True,
    type=click.Path(file_okay=False),
    help="Folder of the trainings, where networks are trained.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    help="Write the result here: .csv or .json, best first; .txt: the architectures alone.",
)
@quiet_option
@json_option
def evaluate_architectures(
    file: str,
    study: str | None,
    space: str | None,
    overrides: tuple[str, ...],
    study_name: str | None,
    storage: str,
    workers: int | None,
    on: str,
    resources: str,
    devices: str,
    runs: str,
    output: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Evaluate a list of architectures by the objective of a study, and show the best first.

    FILE has one architecture a line, or is CSV (column structure) or JSON, as zenopt sample writes them; - is standard
    input. Every architecture is a trial of the study NAME-evaluated, whatever it costs, and is evaluated once: the same
    command goes on where it was stopped, and may run several times at once.

    \b
    zenopt sample --space nasbench201 --count 100 --output cells.csv
    zenopt evaluate-architectures cells.csv --space nasbench201 \\
        --set proxy.name=naswot
    zenopt evaluate-architectures cells.csv --study nasbench201 \\
        --set objective.kind=train --set training.data=cifar10:data
    """
    from zenopt.core.outputs import check_folder, prepare_output
    from zenopt.study.lists import ENDINGS, read_architectures, write_rows

    if output is not None:
        prepare_output(output, ENDINGS)
    spec = named_spec(study, space, storage, overrides)
    if spec.objective.kind == "train" and spec.training.data is not None:
        check_data(spec.training.data, "training.data")
        check_folder(runs)
    text = None
    if file == "-":
        text = sys.stdin.read()
    architectures = read_architectures("standard input" if file == "-" else file, spec.space.build(), text)
    with Panel(quiet=quiet or as_json) as panel:
        import optuna

        from zenopt.study.evaluating import evaluate_list, open_place

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        place = open_place(
            spec,
            storage,
            workers=workers,
            devices=read_devices(devices),
            runs=runs,
            on=on,
            resources=resources,
            progress=panel,
        )
        sign = -1 if spec.direction() == "minimize" else 1
        best: list[float] = []

        def show(result: Evaluated) -> None:
            if result.value is not None:
                best[:] = [sign * max(sign * value for value in (result.value, *best))]
                panel.advance(0, best=best[0])

        found = evaluate_list(architectures, spec, place, study_name, on_result=show)
    rows = [item.to_json() for item in found.results]
    if output is not None:
        write_rows(output, rows)
    _tell(found)
    if as_json:
        print_json({"study": found.study, "value": found.label, "output": output, "architectures": rows})
    else:
        click.echo(value_table(found.results))
        click.echo(f"Value: {found.label}.")
        if output is not None:
            click.echo(f"{output}: {plural(len(rows), 'architecture')}")
        if not storage.startswith("memory:"):
            say_next(*of_results(found.study, of_study(found.study), has_networks=False))
    if found.missing and found.run is not None and found.run.stopped:
        raise click.exceptions.Exit(130)
    if found.missing and found.run is not None and found.run.failures:
        raise click.exceptions.Exit(1)


def _tell(found: Evaluation) -> None:
    """Say what went wrong, and what is missing."""
    for failure in found.run.failures if found.run is not None else ():
        warn(failure)
    if found.missing:
        warn(
            f"{plural(found.missing, 'architecture')} of {len(found.results):,} not finished: under way elsewhere, or "
            "stopped; the same command goes on."
        )


def value_table(results: tuple[Evaluated, ...]) -> str:
    """Return a line per architecture, with what it costs; reasons stand where there is no value."""
    has_std = any(item.std is not None for item in results)
    all_fit = all(item.sample.is_feasible for item in results)
    names = [name for name in ("params", "macs") if all(name in item.sample.costs for item in results)]

    def row(item: Evaluated) -> list[str]:
        structure = f"{item.structure} ({item.note})" if item.note else item.structure
        return [
            "-" if item.value is None else shown(item.value),
            *([] if not has_std else ["-" if item.std is None else shown(item.std)]),
            *(rounded(item.sample.costs[name]) for name in names),
            *([] if all_fit else ["yes" if item.sample.is_feasible else "no"]),
            structure,
        ]

    titles = {"params": "params", "macs": "MACs"}
    header = ["value", *(["std"] if has_std else []), *(titles[name] for name in names)]
    return table([row(item) for item in results], [*header, *([] if all_fit else ["fits"]), "architecture"])
