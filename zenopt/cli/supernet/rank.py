"""``zenopt supernet rank``."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zenopt.cli.options import (
    device_option,
    json_option,
    print_json,
    quiet_option,
    split_column,
    storage_option,
    table,
)
from zenopt.core.errors import DataError, StudyError
from zenopt.core.outputs import prepare_output
from zenopt.core.words import plural
from zenopt.progress.panel import Panel

if TYPE_CHECKING:
    from zenopt.core.statistics import Interval, RankStatistics
    from zenopt.supernet.files import SupernetFacts
    from zenopt.supernet.rank import Ranking


@click.command()
@click.option(
    "--weights",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="What zenopt supernet train wrote.",
)
@click.option("--table", "table_name", metavar="CSV#COLUMN", help="Known accuracies: a column of a table.")
@click.option(
    "--study", "study_name", metavar="NAME", help="Known accuracies: a study whose values are trainings."
)
@storage_option
@click.option(
    "--sample",
    type=click.IntRange(3),
    metavar="N",
    help="Networks drawn from them; by default all. A larger one contains a smaller one.",
)
@click.option(
    "--images", type=click.IntRange(1), help="Held-back images that judge; by default all that are kept."
)
@click.option(
    "--settling", type=click.IntRange(2), help="Training images for statistics; by default all that are kept."
)
@click.option("--amp", type=click.Choice(["bf16", "fp16"]), help="Judge in lower precision.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the sample and the intervals."
)
@click.option(
    "--resamples",
    type=click.IntRange(0, 100_000),
    default=1000,
    show_default=True,
    help="Bootstrap resamples.",
)
@click.option(
    "--scores", type=click.Path(dir_okay=False), metavar="CSV", help="Write the accuracies of all paths."
)
@device_option("cpu", "Torch device.")
@quiet_option
@json_option
def rank(
    weights: Path,
    table_name: str | None,
    study_name: str | None,
    storage: str,
    sample: int | None,
    images: int | None,
    settling: int | None,
    amp: str | None,
    seed: int,
    resamples: int,
    scores: str | None,
    device: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Compare the order that a supernet gives networks with the order of their known accuracies.

    Kendall's tau and Spearman's rho, with 95 % bootstrap intervals over networks; params and MACs beside it.

    \b
    zenopt supernet rank --weights macro-supernet --sample 200 \\
        --table nas_bench_macro_cifar10.csv.gz#mean_acc
    zenopt supernet rank --weights small-supernet --study cifar-small-trained
    """
    if (table_name is None) == (study_name is None):
        raise click.UsageError("Give either --table CSV#COLUMN or --study NAME.")
    if scores is not None:
        prepare_output(scores)
    with Panel(quiet=quiet or as_json) as panel:
        from zenopt.supernet.files import read_supernet
        from zenopt.supernet.judging import PathJudge
        from zenopt.supernet.rank import rank as compare
        from zenopt.train.distributed import resolve_device

        supernet = read_supernet(weights)
        architectures, known = (
            _of_table(supernet.facts, table_name, sample, seed)
            if table_name is not None
            else _of_study(supernet.facts, storage, str(study_name), sample, seed)
        )
        judge = PathJudge(supernet, str(resolve_device(device)), images, settling, amp)
        found = compare(supernet, architectures, known, judge, resamples=resamples, seed=seed, progress=panel)
    if scores is not None:
        _write(scores, found)
    if as_json:
        print_json(_json(found, judge.images))
        return
    click.echo(_text(found))
    left_out = len(architectures) - len(found.known)
    if left_out:
        click.echo(f"{plural(left_out, 'network')} left out: outside the supernet's space.")
    click.echo(
        f"{plural(len(found.known), 'network')}, judged on {plural(judge.images, 'image')}, {found.seconds:.2f} s each."
    )


def _of_table(
    facts: SupernetFacts, name: str, sample: int | None, seed: int
) -> tuple[Sequence[Any], Mapping[str, float]]:
    from zenopt.correlate.sample import draw_sample
    from zenopt.spaces.tabular import space_table

    path, column = split_column(name)
    if not path or column is None:
        raise click.UsageError(f"--table is CSV#COLUMN, got {name!r}.")
    space = _space(facts)
    known = space_table(space, path)
    return draw_sample(known, [column], space, sample, seed), known.column(column)


def _of_study(
    facts: SupernetFacts, storage: str, name: str, sample: int | None, seed: int
) -> tuple[Sequence[Any], Mapping[str, float]]:
    import random

    from optuna.trial import TrialState

    from zenopt.study.study import load_study, open_existing, read_spec

    study = load_study(open_existing(storage), name)
    spec = read_spec(study)
    assert spec is not None
    if spec.objective.kind not in ("train", "table"):
        raise StudyError(
            f"The values of study {name!r} are no accuracies of trainings (objective.kind {spec.objective.kind}); name "
            "a study whose trials were trained, such as NAME-trained."
        )
    values: dict[str, list[float]] = {}
    for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        if "structure" in trial.user_attrs and trial.values:
            values.setdefault(str(trial.user_attrs["structure"]), []).append(trial.values[0])
    texts = sorted(values)
    if sample is not None and sample > len(texts):
        raise DataError(
            f"Study {name!r} has {plural(len(texts), 'trained network')}; --sample asks for {sample}."
        )
    random.Random(seed).shuffle(texts)
    space = _space(facts)
    known = {text: statistics.fmean(own) for text, own in values.items()}
    return [space.parse(text) for text in texts[:sample]], known


def _space(facts: SupernetFacts) -> Any:
    from zenopt.study.sections import SpaceSection

    options = {name: value for name, value in facts.options.items() if name != "initial"}
    return SpaceSection(name=facts.space, initial=facts.options.get("initial"), options=options).build()


def _rows(found: Ranking) -> list[tuple[str, RankStatistics]]:
    return [("supernet", found.statistics), *found.of_costs.items()]


def _text(found: Ranking) -> str:
    rows = [
        (name, _interval(own.kendall), _interval(own.spearman), _interval(own.top))
        for name, own in _rows(found)
    ]
    return table(rows, ("ranked by", "Kendall", "Spearman", "best tenth found"))


def _interval(found: Interval) -> str:
    if found.value is None:
        return "-"
    ends = "" if found.low is None or found.high is None else f" [{found.low:.3f}, {found.high:.3f}]"
    return f"{found.value:.3f}{ends}"


def _json(found: Ranking, images: int) -> dict[str, Any]:
    def facts(own: Interval) -> dict[str, float | None]:
        return {"value": own.value, "low": own.low, "high": own.high}

    return {
        "networks": len(found.known),
        "images": images,
        "seconds": found.seconds,
        **{
            name: {"kendall": facts(own.kendall), "spearman": facts(own.spearman), "top": facts(own.top)}
            for name, own in _rows(found)
        },
    }


def _write(path: str, found: Ranking) -> None:
    import csv

    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("structure", "supernet", "known"))
        writer.writerows((text, value, found.known[text]) for text, value in found.accuracies.items())
