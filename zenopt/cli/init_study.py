"""``zenopt init-study``."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from zenopt.cli.hints import say_next
from zenopt.cli.options import json_option, print_json, set_option, wrapped
from zenopt.core.text import printable
from zenopt.core.words import listed


@click.command()
@click.option("--space", required=True, metavar="SPACE", help="A space: see zenopt components --kind space.")
@click.option(
    "--objective",
    default="proxy",
    show_default=True,
    metavar="EVALUATOR|PROXY",
    help="proxy, table, train, supernet, an evaluator of your own, or the name of a proxy.",
)
@click.option("--sampler", metavar="SAMPLER", help="See zenopt components --kind sampler; by default zen.")
@set_option("Value of a field, e.g. budget.params=5e5; repeatable.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False), help="Write it here (.yaml) instead of on stdout."
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@json_option
def init_study(
    space: str,
    objective: str,
    sampler: str | None,
    overrides: tuple[str, ...],
    output: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write a study file with every field that fits: its default, what it may be, and what it means.

    zenopt optimize --study FILE takes it as it is. What only you know (a table, images, a supernet) stands in it with
    the words YOURS TO FILL IN, unless --set gives it.

    \b
    zenopt init-study --space nasbench201 --objective naswot --output cells.yaml
    zenopt init-study --space superres --objective train --sampler surrogate \\
        --set budget.params=1e6 --output mine.yaml
    """
    from zenopt.core.errors import OutputError
    from zenopt.core.outputs import prepare_output
    from zenopt.study.template import make_template

    if output is not None and Path(output).exists() and not force:
        raise OutputError(f"{output} is there already; --force replaces it.")
    if output is not None:
        prepare_output(output, (".yaml", ".yml"))
    found = make_template(space, objective, sampler, overrides)
    if output is not None:
        Path(output).write_text(found.text, encoding="utf-8")
    if as_json:
        print_json(
            {
                "output": output,
                "fill_in": sorted(found.yours),
                "spec": found.spec.model_dump(mode="json"),
                "text": found.text,
            }
        )
        return
    if output is None:
        click.echo(found.text, nl=False)
    else:
        click.echo(f"{output}: a study of {space} by {objective}")
    if found.yours:
        click.echo(wrapped(printable(f"Fill in {listed(sorted(found.yours))}.")), err=True)
    if output is not None:
        say_next((f"zenopt optimize --study {shlex.quote(output)}", "run it"))
