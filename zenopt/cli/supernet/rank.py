"""``zenopt supernet rank``."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zenopt.cli.options import (
    FiniteRange,
    device_option,
    json_option,
    print_json,
    quiet_option,
    resamples_option,
    seed_option,
    split_column,
    storage_option,
    table,
)
from zenopt.core.errors import DataError, StudyError
from zenopt.core.figurepage import ENDINGS
from zenopt.core.outputs import prepare_output
from zenopt.core.words import plural
from zenopt.progress.panel import Panel

if TYPE_CHECKING:
    from zenopt.core.statistics import Interval, RankStatistics
    from zenopt.supernet.files import SupernetFacts, TrainedSupernet
    from zenopt.supernet.judging import PathJudge
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
@seed_option("Of the sample and the intervals.")
@resamples_option
@click.option(
    "--over-epochs",
    is_flag=True,
    help="Also rank by the weights that supernet train --keep-every kept; the training may still be under way.",
)
@click.option(
    "--equal-macs",
    type=FiniteRange(0, 1, min_open=True),
    metavar="SHARE",
    help="Also compare networks of equal MACs, those that differ by at most this share, e.g. 0.05.",
)
@click.option(
    "--figure",
    type=click.Path(dir_okay=False),
    metavar="HTML",
    help="Draw the ranking, or the agreement over epochs (.html, or .json for plotly).",
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
    over_epochs: bool,
    equal_macs: float | None,
    figure: str | None,
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
    zenopt supernet rank --weights small-supernet --study cifar-small-trained \\
        --over-epochs --figure epochs.html
    """
    if (table_name is None) == (study_name is None):
        raise click.UsageError("Give either --table CSV#COLUMN or --study NAME.")
    if scores is not None:
        prepare_output(scores)
    if figure is not None:
        prepare_output(figure, ENDINGS)
    with Panel(quiet=quiet or as_json) as panel:
        from zenopt.supernet.files import kept_epochs, read_supernet
        from zenopt.supernet.judging import PathJudge
        from zenopt.supernet.rank import rank as compare
        from zenopt.supernet.rank import rank_over_epochs
        from zenopt.train.distributed import resolve_device

        def judge_of(supernet: TrainedSupernet) -> PathJudge:
            return PathJudge(supernet, str(resolve_device(device)), images, settling, amp)

        kept = kept_epochs(weights) if over_epochs else []
        supernet = read_supernet(weights, kept[-1] if kept else None)
        architectures, known = (
            _of_table(supernet.facts, table_name, sample, seed)
            if table_name is not None
            else _of_study(supernet.facts, storage, str(study_name), sample, seed)
        )
        options: dict[str, Any] = {
            "equal_macs": equal_macs, "resamples": resamples, "seed": seed, "progress": panel
        }  # fmt: skip
        if over_epochs:
            found = rank_over_epochs(weights, architectures, known, judge_of, **options)
        else:
            found = [compare(supernet, architectures, known, judge_of(supernet), **options)]
    if scores is not None:
        _write(scores, found)
    if figure is not None:
        _draw(figure, found, weights, over_epochs)
    if as_json:
        own = _json(found[-1])
        print_json({**own, "epochs": [_json(own) for own in found]} if over_epochs else own)
        return
    click.echo(_text(found, over_epochs))
    last = found[-1]
    left_out = len(architectures) - len(last.known)
    if left_out:
        click.echo(f"{plural(left_out, 'network')} left out: outside the supernet's space.")
    click.echo(
        f"{plural(len(last.known), 'network')}, judged on {plural(last.images, 'image')}, {last.seconds:.2f} s each."
    )
    if equal_macs is not None:
        click.echo(
            f"Equal MACs: Kendall over pairs of networks that differ by at most {equal_macs:.3g} of them."
        )
    if figure is not None:
        click.echo(f"Figure: {figure}")


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

    from zenopt.study.evaluators.train import LEARNING_RATE_KEY
    from zenopt.study.study import load_study, open_existing, read_spec

    study = load_study(open_existing(storage), name)
    spec = read_spec(study)
    assert spec is not None
    if spec.objective.kind not in ("train", "table"):
        raise StudyError(
            f"The values of study {name!r} are no accuracies of trainings (objective.kind {spec.objective.kind}); name "
            "a study whose trials were trained, such as NAME-trained."
        )
    rates: dict[str, dict[float | None, list[float]]] = {}
    for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        own = trial.user_attrs
        if "structure" in own and trial.values and "duplicate_of" not in own:
            by_rate = rates.setdefault(str(own["structure"]), {})
            by_rate.setdefault(own.get(LEARNING_RATE_KEY), []).append(trial.values[0])
    # Of several learning rates the one that suits a network, of several seeds the mean.
    known = {text: max(map(statistics.fmean, by_rate.values())) for text, by_rate in rates.items()}
    texts = sorted(known)
    if sample is not None and sample > len(texts):
        raise DataError(
            f"Study {name!r} has {plural(len(texts), 'trained network')}; --sample asks for {sample}."
        )
    random.Random(seed).shuffle(texts)
    space = _space(facts)
    return [space.parse(text) for text in texts[:sample]], known


def _space(facts: SupernetFacts) -> Any:
    from zenopt.study.sections import SpaceSection

    options = {name: value for name, value in facts.options.items() if name != "initial"}
    return SpaceSection(name=facts.space, initial=facts.options.get("initial"), options=options).build()


def _rows(found: Ranking) -> list[tuple[str, RankStatistics]]:
    return [("supernet", found.statistics), *found.of_costs.items()]


def _text(found: Sequence[Ranking], over_epochs: bool) -> str:
    """Return a line for the supernet, or for each of its epochs, and one for each cost."""
    last = found[-1]
    epochs = [(f"epoch {own.epoch}", own.statistics, f"{own.mean_accuracy:.1f} %") for own in found]
    rows = epochs if over_epochs else [("supernet", last.statistics, f"{last.mean_accuracy:.1f} %")]
    every = [*rows, *((name, own, "") for name, own in last.of_costs.items())]
    has_alike = last.statistics.alike is not None
    return table(
        [
            (
                name,
                _interval(own.kendall),
                *([_interval(own.alike)] if own.alike is not None else ()),
                _interval(own.spearman),
                _interval(own.top),
                accuracy,
            )
            for name, own, accuracy in every
        ],
        ("ranked by", "Kendall", *(["at equal MACs"] if has_alike else ()), "Spearman", "best tenth", "mean"),
    )


def _interval(found: Interval) -> str:
    if found.value is None:
        return "-"
    ends = "" if found.low is None or found.high is None else f" [{found.low:.3f}, {found.high:.3f}]"
    return f"{found.value:.3f}{ends}"


def _json(found: Ranking) -> dict[str, Any]:
    def facts(own: Interval) -> dict[str, float | None]:
        return {"value": own.value, "low": own.low, "high": own.high}

    def agreement(own: RankStatistics) -> dict[str, Any]:
        alike = {} if own.alike is None else {"equal_macs": facts(own.alike)}
        return {
            "kendall": facts(own.kendall), **alike, "spearman": facts(own.spearman), "top": facts(own.top)
        }  # fmt: skip

    return {
        "networks": len(found.known),
        "images": found.images,
        "seconds": found.seconds,
        "epoch": found.epoch,
        "mean_accuracy": None if math.isnan(found.mean_accuracy) else found.mean_accuracy,
        **{name: agreement(own) for name, own in _rows(found)},
    }


def _draw(path: str, found: Sequence[Ranking], weights: Path, over_epochs: bool) -> None:
    from zenopt.core.figurepage import write_figure
    from zenopt.supernet.figure import epochs_figure, ranking_figure, words_of

    drawn = epochs_figure(found) if over_epochs else ranking_figure(found[-1])
    title = f"Ranking of {weights.name}{' over the epochs of its training' if over_epochs else ''}"
    write_figure(drawn, title, words_of(found), path)


def _write(path: str, found: Sequence[Ranking]) -> None:
    """Write a row for each network; of earlier epochs a column each."""
    import csv

    last, earlier = found[-1], found[:-1]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("structure", "supernet", "known", *(f"epoch_{own.epoch}" for own in earlier)))
        writer.writerows(
            (text, value, last.known[text], *(own.accuracies[text] for own in earlier))
            for text, value in last.accuracies.items()
        )
