"""``zenopt derive``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from zenopt.cli.hints import say_next
from zenopt.cli.options import (
    choosing_options,
    json_option,
    print_json,
    quiet_option,
    shown,
    storage_option,
    study_option,
    table,
)
from zenopt.cli.study_choice import searched_study
from zenopt.core.text import printable, quoted
from zenopt.core.words import plural, rounded
from zenopt.progress.panel import Panel

if TYPE_CHECKING:
    from zenopt.verify.derive import Derivation


@click.command()
@study_option
@click.option(
    "--alphas",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Of a differentiable search instead: the folder that it was given as --output.",
)
@click.option(
    "--epoch",
    type=click.IntRange(1),
    help="After which epoch of that search; by default the one it took, its last unless a rule ended it.",
)
@storage_option
@click.option(
    "--top", type=click.IntRange(1, 1000), default=1, show_default=True, help="How many, best first."
)
@click.option(
    "--candidates",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="How many of the best are scored again; at least --top.",
)
@choosing_options
@click.option(
    "--predicted",
    is_flag=True,
    help="Of all networks of the space, those of which the study's values make most expected, as predict says.",
)
@click.option(
    "--beside",
    metavar="COST",
    help="With --predicted: by the mean of the ranks of prediction and this cost, of which more is better, e.g. macs.",
)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), help="Also write them here: .csv, .json or .txt."
)
@quiet_option
@json_option
def derive(
    name: str | None,
    alphas: Path | None,
    epoch: int | None,
    storage: str,
    top: int,
    candidates: int,
    repeats: int,
    device: str,
    by: str,
    predicted: bool,
    beside: str | None,
    output: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Print the best architectures of a study, chosen as export-best chooses, or what trained alphas stand for.

    Standard output has the architectures alone, one a line; how they were chosen is said beside it, unless --quiet.
    Nothing is written but --output.

    With --predicted they need not have been evaluated: after some hundred paths of a supernet, for example.

    \b
    zenopt derive --study demo
    zenopt derive --study nasbench201 --top 10 --quiet > best.txt
    zenopt derive --alphas beta-0 --epoch 30
    zenopt evaluate-architectures best.txt --study nasbench201 \\
        --set objective.kind=train --set training.data=cifar10:data
    zenopt derive --study by-supernet --predicted --beside macs --top 10
    """
    from zenopt.core.costs import COST_KINDS
    from zenopt.core.outputs import prepare_output
    from zenopt.study.lists import ENDINGS

    if beside is not None and not predicted:
        raise click.UsageError("--beside needs --predicted.")
    if predicted and (other := _given("candidates", "repeats", "device", "by")):
        raise click.UsageError(f"--predicted and {other} exclude each other.")
    if beside is not None and beside not in COST_KINDS:
        raise click.UsageError(f"--beside is one of {', '.join(COST_KINDS)}, not {quoted(beside)}.")
    if output is not None:
        prepare_output(output, ENDINGS)
    if alphas is not None:
        others = ("name", "storage", "top", "candidates", "repeats", "device", "by", "predicted", "beside")
        if other := _given(*others):
            raise click.UsageError(f"{other} is of a study; --alphas names a differentiable search instead.")
        from zenopt.verify.derive import derive_alphas

        found, epoch = derive_alphas(alphas, epoch)
        _show(found, {"alphas": str(alphas), "epoch": epoch}, output, quiet, as_json)
        return
    if epoch is not None:
        raise click.UsageError("--epoch is of a differentiable search; name its folder with --alphas.")
    with Panel(quiet=quiet or as_json) as panel:
        from zenopt.study.study import open_existing
        from zenopt.verify.derive import derive_best, derive_predicted

        study = searched_study(open_existing(storage), name, panel, "the best of")
        if predicted:
            panel.start(None, "")
            found = derive_predicted(study, top, beside=beside)
        else:
            found = derive_best(
                study,
                top,
                by=by,
                candidates=candidates,
                repeats=repeats,
                device=device,
                progress=panel,
            )
    _show(found, {"study": study.study_name}, output, quiet, as_json)


def _given(*names: str) -> str | None:
    """Return the first of some options that the command line has; ``None`` where it has none of them."""
    context = click.get_current_context()
    options = {item.name: item.opts[-1] for item in context.command.params}
    sources = {name: context.get_parameter_source(name) for name in names}
    return next((options[name] for name in names if sources[name] == ParameterSource.COMMANDLINE), None)


def _show(
    found: Derivation, source: dict[str, object], output: str | None, quiet: bool, as_json: bool
) -> None:
    """Print what was found, and write it where asked; ``source`` says of what."""
    from zenopt.study.lists import write_rows

    rows = [item.to_json() for item in found.best]
    if output is not None:
        write_rows(output, rows)
    if as_json:
        print_json(
            {
                **source,
                "by": found.by,
                "value": found.label,
                "output": output,
                "architectures": rows,
            }
        )
        return
    if not quiet:
        click.echo(_table(found), err=True)
    for item in found.best:
        click.echo(printable(item.structure))
    if output is not None and not quiet:
        click.echo(f"{output}: {plural(len(rows), 'architecture')}", err=True)
    say_next(("zenopt describe STRUCTURE", "its layers and costs"))


def _table(found: Derivation) -> str:
    """Return a line per architecture: what it was chosen by, and what it costs."""
    costs = [name for name in ("params", "macs") if all(name in item.sample.costs for item in found.best)]
    is_drawn = any(item.std is not None for item in found.best)
    is_measured = any(item.latency_ms is not None for item in found.best)
    said = {"training": ", by short trainings", "search": ", as searched", "prediction": ""}.get(
        found.by, ", scored again" if is_drawn else ""
    )
    has_trial = any(item.trial is not None for item in found.best)
    rows = [
        [
            *([] if not has_trial else ["-" if item.trial is None else str(item.trial)]),
            shown(item.value),
            *([] if not is_drawn else ["-" if item.std is None else f"{item.std:.3g}"]),
            *([] if not is_measured else ["-" if item.latency_ms is None else f"{item.latency_ms:.4g}"]),
            *(rounded(item.sample.costs[name]) for name in costs),
        ]
        for item in found.best
    ]
    header = [
        *(["trial"] if has_trial else []),
        "value",
        *(["std"] if is_drawn else []),
        *(["measured ms"] if is_measured else []),
        *({"params": "params", "macs": "MACs"}[name] for name in costs),
    ]
    return f"{printable(found.label + said)}\n{table(rows, header)}"
