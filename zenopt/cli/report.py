"""``zenopt report``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from zenopt.cli.hints import imported
from zenopt.cli.options import json_option, print_json, split_study, storage_option, study_option
from zenopt.cli.study_choice import chosen_study
from zenopt.core.text import printable
from zenopt.core.words import plural

if TYPE_CHECKING:
    from zenopt.report.sections import Section


@click.command()
@study_option
@storage_option
@click.option(
    "-o",
    "--output",
    default="report.html",
    show_default=True,
    metavar="FILE",
    help="File to write: .html; with --figure .svg, .png, .pdf or .json.",
)
@click.option(
    "--compare",
    multiple=True,
    metavar="NAME...",
    help="More studies beside the first: of the same storage by NAME, of another one as URL#NAME.",
)
@click.argument("more", nargs=-1, metavar="")
@click.option(
    "--top", type=click.IntRange(1, 50), default=6, show_default=True, help="Networks side by side."
)
@click.option(
    "--figure",
    metavar="KEY",
    help="Write one figure instead of the report: network, network-trial-N, best-time, score-params, ...",
)
@json_option
def report(
    name: str | None,
    storage: str,
    output: str,
    compare: tuple[str, ...],
    more: tuple[str, ...],
    top: int,
    figure: str | None,
    as_json: bool,
) -> None:
    """Write a study, running or finished, as one HTML file that opens anywhere.

    A click on a point of a figure opens its trial: costs, structure, picture, and commands that go on from it.
    What short trainings found (a second stage, zenopt verify) is shown with the study, and by itself as
    --study NAME-trained.

    \b
    zenopt report --study demo -o report.html
    zenopt report --study demo --compare demo-narrow demo-tpe
    zenopt report --study demo --compare sqlite:///other.db#demo
    zenopt report --study demo --figure network -o best.svg
    """
    from zenopt.report import write_figure, write_report
    from zenopt.storage import mask_password
    from zenopt.study.study import load_study, open_existing

    if more and not compare:
        raise click.UsageError(f"unexpected argument {more[0]!r}; further studies go after --compare.")
    if name is None:
        name = chosen_study(open_existing(storage), None).study_name
    wanted = list(
        dict.fromkeys([(storage, name), *(split_study(text, storage) for text in (*compare, *more))])
    )
    opened = {url: open_existing(url) for url, _ in wanted}
    studies = [load_study(opened[url], known) for url, known in wanted]
    # A name may occur in several storages.
    often = {known for known, count in Counter(known for _, known in wanted).items() if count > 1}
    names = [f"{known} in {mask_password(url)}" if known in often else known for url, known in wanted]
    if figure is not None:
        write_figure(studies, figure, output, labels=names)
        content: dict[str, Any] = {"output": output, "figure": figure, "studies": names}
        text = f"Wrote figure {figure} of {', '.join(map(printable, names))} to {output}."
    else:
        sections = write_report(studies, output, top=top, labels=names, imports=imported())
        keys = [found.key for found in sections[0].figures]
        content = {
            "output": output,
            "studies": names,
            "trials": [section.data.size if section.shows_search else 0 for section in sections],
            "trainings": [sum(found.count for found in section.trainings) for section in sections],
            "figures": keys,
        }
        text = f"Wrote {output}: {', '.join(map(_summary, sections))}."
    if as_json:
        print_json(content)
    else:
        click.echo(text)


def _summary(section: Section) -> str:
    from zenopt.report.trainings import OWN_KIND

    trainings = [
        plural(found.count, "training") + ("" if found.kind == OWN_KIND else f" ({found.kind})")
        for found in section.trainings
    ]
    trials = [plural(section.data.size, "trial")] if section.shows_search else []
    return f"{printable(section.name)} with {' and '.join([*trials, *trainings])}"
