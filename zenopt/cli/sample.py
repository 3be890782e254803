"""``zenopt sample``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import click

from zenopt.cli.hints import say_next
from zenopt.cli.options import (
    json_option,
    print_json,
    quiet_option,
    seed_option,
    set_option,
    storage_option,
    table,
    warn,
)
from zenopt.cli.study_choice import named_spec, spec_options
from zenopt.core.words import plural, rounded
from zenopt.progress.panel import Panel

if TYPE_CHECKING:
    from zenopt.study.lists import Sample
    from zenopt.study.spec import StudySpec

#: Costs that every table shows, where they are known.
_SHOWN = ("params", "macs", "latency_ms")


@click.command()
@spec_options("Whose space and budget: a preset, a YAML file, or a stored study.")
@set_option("Override a field of the study, e.g. budget.params=5e5; repeatable.")
@storage_option
@click.option(
    "--count", "-n", type=click.IntRange(1, 1_000_000), default=10, show_default=True, help="How many."
)
@seed_option("Of the draw.")
@click.option(
    "--within-budget/--whole-space",
    default=True,
    show_default=True,
    help="Whether they keep the study's budget.",
)
@click.option(
    "--over-budget",
    type=click.Choice(["shrink", "skip"]),
    default="shrink",
    show_default=True,
    help="What becomes of draws over it, where the space cannot be listed.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    help="Write them here: .csv, .json, or .txt with one a line.",
)
@quiet_option
@json_option
def sample(
    study: str | None,
    space: str | None,
    overrides: tuple[str, ...],
    storage: str,
    count: int,
    seed: int,
    within_budget: bool,
    over_budget: Literal["shrink", "skip"],
    output: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Draw different architectures of a space, and show what they cost.

    A space that can be listed is drawn from uniformly; elsewhere draws over the budget are shrunk into it, as searches
    begin. A larger --count begins with the architectures of a smaller one.

    \b
    zenopt sample --study cifar-params1m --count 20 --set budget.params=5e5
    zenopt sample --space nasbench201 --count 100 --output cells.csv
    """
    from zenopt.core.outputs import prepare_output
    from zenopt.study.lists import ENDINGS, draw_architectures, write_rows

    if output is not None:
        prepare_output(output, ENDINGS)
    spec = named_spec(study, space, storage, overrides)
    with Panel(quiet=quiet or as_json) as panel:
        found = draw_architectures(
            spec,
            count,
            seed=seed,
            within_budget=within_budget,
            over_budget=over_budget,
            progress=panel,
        )
    rows = [item.to_json() for item in found]
    if len(found) < count:
        warn(f"only {plural(len(found), 'different architecture')} found, not {count:,}.")
    if output is not None:
        write_rows(output, rows)
    if as_json:
        print_json(
            {
                "space": spec.space.name,
                "resolution": spec.resolution,
                "seed": seed,
                "within_budget": within_budget,
                "output": output,
                "architectures": rows,
            }
        )
        return
    if output is None:
        click.echo(cost_table(found, spec))
    else:
        click.echo(f"{output}: {plural(len(found), 'architecture')}")
        source = ["--study", study] if study is not None else ["--space", str(space)]
        assignments = [word for assignment in overrides for word in ("--set", assignment)]
        words = ["zenopt", "evaluate-architectures", output, *source, *assignments]
        say_next((shlex.join(words), "their values"))


def cost_table(found: Sequence[Sample], spec: StudySpec) -> str:
    """Return a line per architecture: params, MACs, latency, what else is limited, and its text."""
    from zenopt.core.costs import COST_KINDS

    known = {name for item in found for name in item.costs}
    names = [name for name in dict.fromkeys((*_SHOWN, *spec.limits().budget.limits())) if name in known]
    titles = [COST_KINDS[name].title if name in COST_KINDS else name.replace("_", " ") for name in names]
    all_feasible = all(item.is_feasible for item in found)
    rows = [
        [
            *(rounded(item.costs[name]) if name in item.costs else "-" for name in names),
            *([] if all_feasible else ["yes" if item.is_feasible else "no"]),
            item.structure,
        ]
        for item in found
    ]
    return table(rows, [*titles, *([] if all_feasible else ["fits"]), "architecture"])
