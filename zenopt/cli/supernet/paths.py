"""``zenopt supernet paths``."""

from __future__ import annotations

from typing import Any

import click

from zenopt.cli.options import json_option, print_json, seed_option, shown, table
from zenopt.cli.study_choice import chosen_spec
from zenopt.cli.supernet.plan import SAMPLINGS, make_plan, path_options
from zenopt.core.figurepage import ENDINGS
from zenopt.core.outputs import prepare_output
from zenopt.core.words import plural


@click.command()
@path_options
@click.option(
    "--sampling",
    "samplings",
    type=click.Choice(SAMPLINGS),
    multiple=True,
    default=("fair",),
    show_default=True,
    help="How the paths are drawn, as in supernet train; repeatable, to compare them.",
)
@click.option(
    "--steps",
    type=click.IntRange(1, 1_000_000),
    default=1000,
    show_default=True,
    help="Steps of the training whose paths are counted.",
)
@seed_option("Of the paths.")
@click.option("--output", metavar="FILE.html", help="Write histograms of their costs (.html or .json).")
@json_option
def paths(
    name: str,
    storage: str,
    overrides: tuple[str, ...],
    samplings: tuple[str, ...],
    steps: int,
    seed: int,
    output: str | None,
    as_json: bool,
    **path_choice: Any,
) -> None:
    """Show what the paths cost that a supernet would be trained on.

    Nothing is trained. With a --band, also how evenly it is covered: the share of the paths in that tenth of it which
    has the fewest, 10 % at best.

    \b
    zenopt supernet paths --study ofa --whole-space --band macs=150e6:450e6 \\
        --sampling uniform --sampling strolling --output paths.html
    """
    if output is not None:
        prepare_output(output, ENDINGS)
    spec = chosen_spec(name, storage, overrides)
    from zenopt.supernet.coverage import cover, summary, write_coverage

    plans = [make_plan(spec, path_choice, seed=seed, sampling=own) for own in dict.fromkeys(samplings)]
    found = [cover(plan, steps) for plan in plans]
    band = plans[0].band
    if output is not None:
        title = f"Paths of {spec.space.name}, {plural(steps, 'step')}"
        write_coverage(found, band, title, output)
    if as_json:
        print_json(
            {
                own.sampling: {
                    "paths": len(own.costs["macs"]),
                    "seconds_per_step": own.seconds,
                    **summary(own, band),
                }
                for own in found
            }
        )
        return
    rows = [
        (
            own.sampling,
            cost,
            shown(facts["least"]),
            shown(facts["largest"]),
            f"{facts['rarest_tenth']:.1%}" if "rarest_tenth" in facts else "-",
        )
        for own in found
        for cost, facts in summary(own, band).items()
    ]
    click.echo(table(rows, ("sampling", "cost", "least", "largest", "rarest tenth of the band")))
    for own in found:
        click.echo(
            f"{own.sampling}: {plural(len(own.costs['macs']), 'path')}, {own.seconds * 1000:.1f} ms a step."
        )
    if output is not None:
        click.echo(f"Figure: {output}")
