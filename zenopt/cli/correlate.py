"""``zenopt correlate``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zenopt.cli.correlate_results import results_json, results_text
from zenopt.cli.hints import say_next
from zenopt.cli.options import (
    FiniteRange,
    device_option,
    executor_options,
    json_option,
    print_json,
    quiet_option,
    resamples_option,
    seed_option,
    show_warnings,
    split_column,
    wrapped,
)
from zenopt.core.errors import DataError
from zenopt.core.outputs import prepare_output
from zenopt.core.words import plural
from zenopt.progress.panel import Panel

if TYPE_CHECKING:
    from zenopt.correlate.measure import Spread
    from zenopt.correlate.report import Correlation


@click.command()
@click.option(
    "--space", default="nasbench201", show_default=True, help="The family of the architectures in the table."
)
@click.option(
    "--table",
    "path",
    required=True,
    metavar="CSV[#COLUMN]",
    help="CSV or CSV.gz with a column arch_str or structure and one column per data set.",
)
@click.option("--proxies", required=True, metavar="P[,P...]", help="Proxies (see `zenopt proxies`).")
@click.option(
    "--columns",
    metavar="C[,C...]",
    help="Columns to compare with; by default those whose names say accuracy.",
)
@click.option(
    "--where",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="Keep only these rows of the table, e.g. epochs=18.",
)
@click.option(
    "--sample",
    type=click.IntRange(min=2),
    metavar="N",
    help="Architectures drawn from the table; by default all. A larger sample contains a smaller one.",
)
@seed_option("Seed of the sample, the batch and the weights.")
@click.option(
    "--data",
    metavar="KIND:PATH",
    help="Real training images: imagefolder:PATH (PATH/train/CLASS/* or PATH/CLASS/*), imagenet:PATH, cifar10:PATH, "
    "cifar100:PATH, synthetic[:N]. By default noise with random labels.",
)
@click.option(
    "--batch-size", type=click.IntRange(2, 65_536), default=64, show_default=True, help="Images in the batch."
)
@click.option(
    "--resolution", type=click.IntRange(4, 8192), default=32, show_default=True, help="Image side, px."
)
@click.option(
    "--classes",
    type=click.IntRange(1, 1_000_000),
    default=10,
    show_default=True,
    help="Outputs of the networks.",
)
@click.option(
    "--build",
    type=click.Choice(["official", "zero-cost"]),
    default="official",
    show_default=True,
    help="Network of a NAS-Bench-201 cell: the benchmark's own, or that of the zero-cost-nas release.",
)
@click.option(
    "--top",
    "top_share",
    type=FiniteRange(0, 1, min_open=True),
    default=0.1,
    show_default=True,
    help="Share of the architectures that counts as top.",
)
@resamples_option
@device_option("cpu", "Torch device.")
@click.option(
    "--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Torch threads on the CPU."
)
@click.option(
    "--cache",
    "cache_path",
    type=click.Path(dir_okay=False),
    default="zenopt-scores.db",
    show_default=True,
    help="SQLite file of scores, from which an interrupted run goes on.",
)
@click.option(
    "--combine",
    "is_combined",
    is_flag=True,
    help="Also judge combinations: vote, mean of ranks, and three that are learned on one part and judged "
    "on the rest; surrogate is the predictor of the learned search.",
)
@click.option(
    "--features",
    "has_features",
    is_flag=True,
    help="Let what is learned also read the shape of a network: paths and operations of a cell, size and depth.",
)
@click.option(
    "--inputs",
    metavar="G[,G...]",
    help="Groups of inputs that surrogate may read (genes, shape, costs, scores, paths); by default all. Which of "
    "them it reads, evidence decides.",
)
@click.option(
    "--train",
    type=click.IntRange(min=3),
    metavar="N",
    help="Architectures that are learned from; by default half of them.",
)
@click.option(
    "--learn",
    "learn_path",
    type=click.Path(dir_okay=False),
    metavar="JSON",
    help="Learn from all of them and write the result, a proxy of the name learned:JSON.",
)
@click.option(
    "--scores",
    "scores_path",
    type=click.Path(dir_okay=False),
    metavar="CSV",
    help="Write the scores, one column per proxy: a table that can guide a search.",
)
@click.option("--figure", type=click.Path(dir_okay=False), metavar="HTML", help="Write a scatter figure.")
@executor_options
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    help="Workers that score; by default this process alone, and on a cluster as many as there is room for.",
)
@quiet_option
@json_option
def correlate(
    space: str,
    path: str,
    proxies: str,
    columns: str | None,
    where: tuple[str, ...],
    sample: int | None,
    seed: int,
    data: str | None,
    batch_size: int,
    resolution: int,
    classes: int,
    build: str,
    top_share: float,
    resamples: int,
    device: str,
    threads: int,
    cache_path: str,
    is_combined: bool,
    has_features: bool,
    inputs: str | None,
    train: int | None,
    learn_path: str | None,
    scores_path: str | None,
    figure: str | None,
    on: str,
    resources: str,
    workers: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Compare proxies with known accuracies, by rank correlation.

    Positive means the proxy is right, whatever its direction; architectures it fails on rank last. Intervals are 95 %
    bootstrap intervals over architectures.

    \b
    zenopt correlate --table nb201.csv.gz --proxies params,snip --sample 300
    zenopt correlate --table nb201.csv.gz --proxies snip,jacob_cov --sample 300 \\
        --data imagefolder:cifar10 --figure correlations.html
    zenopt correlate --space superres --table trained.csv --where epochs=18 \\
        --proxies zen-closed-form
    zenopt correlate --table nb201.csv.gz --columns cifar10_test \\
        --proxies params,synflow-expected --features --combine --train 300
    """
    if (has_features or train is not None) and not (is_combined or learn_path):
        raise click.UsageError(
            "--features and --train are for what is learned; add --combine or --learn JSON."
        )
    if train is not None and not is_combined:
        raise click.UsageError("--train says how many --combine learns from; --learn takes all.")
    if inputs is not None and not is_combined:
        raise click.UsageError("--inputs says what a combination may read; add --combine.")
    groups = () if inputs is None else _names(inputs, "--inputs")
    show_warnings()
    wanted = _names(proxies)
    path, column_named = split_column(path)
    if column_named is not None and columns is not None:
        raise click.UsageError(f"--table names column {column_named!r} already; leave out --columns.")
    columns = column_named if columns is None else columns
    chosen = _names(columns, "--columns") if columns is not None else None
    with Panel(quiet=quiet or as_json) as panel:
        from zenopt.proxies.registry import check_proxy
        from zenopt.spaces import get_space
        from zenopt.spaces.tabular import space_table

        drawn_from = get_space(space)()
        known = space_table(drawn_from, path, where)
        chosen = known.accuracy_columns() if chosen is None else chosen
        for column in chosen:
            known.column(column)
        for asked in wanted:
            check_proxy(asked)
        reader = None
        if is_combined:
            from zenopt.predictors.inputs import check_groups
            from zenopt.predictors.networks import NetworkReader

            reader = NetworkReader(drawn_from, resolution, classes)
            check_groups(groups, reader.groups)
        if learn_path is not None:
            _check_learnable(learn_path, chosen, wanted, data, build)
        for output in (scores_path, figure, learn_path):
            if output is not None:
                prepare_output(output)
        # Imported late: what is wrong with the request is said before torch is imported.
        import torch

        from zenopt.correlate.batch import make_minibatch
        from zenopt.correlate.combine import Combined, combine, features_of
        from zenopt.correlate.measure import Measurement, measure
        from zenopt.correlate.report import correlate as compare
        from zenopt.correlate.report import write_scores
        from zenopt.correlate.sample import draw_sample
        from zenopt.correlate.score_cache import ScoreCache

        torch.set_num_threads(threads)
        spread, device = _spread(on, resources, workers, device)
        architectures = draw_sample(known, chosen, drawn_from, sample, seed)
        images = None
        if data is not None:
            from zenopt.train.data import open_training_images

            images = open_training_images(data, seed=seed)
        batch = make_minibatch(images, batch_size, resolution, classes, seed, source=data or "noise")
        settings = Measurement(batch, classes, seed, build, device=device)
        with ScoreCache(cache_path) as cache:
            scores = measure(architectures, wanted, settings, cache, panel, spread)
        options: dict[str, Any] = {"top_share": top_share, "resamples": resamples, "seed": seed}
        if scores_path is not None:
            # Before the statistics: what took hours is safe.
            write_scores(scores_path, scores)
        found = compare(known, scores, chosen, **options)
        features = features_of(architectures, resolution, classes) if has_features else None
        combined = Combined()
        if reader is not None:
            combined = combine(
                known,
                scores,
                chosen,
                features=features,
                inputs=reader.read(architectures),
                groups=groups,
                train=train,
                progress=panel,
                **options,
            )
        if learn_path is not None:
            made = {"resolution": resolution, "num_classes": classes, "batch_size": batch_size}
            origin = {
                "space": space,
                "table": path,
                "column": chosen[0],
                "architectures": len(architectures),
                "seed": seed,
            }
            _write_learned(learn_path, known, scores, chosen[0], features, made, origin)
        if figure is not None:
            from zenopt.correlate.figure import write_figure

            title = f"{plural(len(architectures), 'architecture')} of {space}, {batch.source}"
            write_figure(figure, known, scores, found, title)
    if as_json:
        facts = {
            "space": space,
            "table": path,
            "sample": len(architectures),
            "seed": seed,
            "data": batch.source,
            "batch_size": batch_size,
            "resolution": resolution,
            "build": build,
        }
        print_json({**facts, **results_json(found, combined if is_combined else None)})
        return
    click.echo(results_text(found, combined))
    if figure is not None:
        click.echo(f"Figure: {figure}")
    if scores_path is not None:
        click.echo(f"Scores: {scores_path}")
    if learn_path is not None:
        click.echo(f"Learned score: {learn_path}; use it as --proxy learned:{learn_path}")
    _say_next(space, path, learn_path, scores_path, found)


def _say_next(
    space: str, path: str, learn_path: str | None, scores_path: str | None, found: Sequence[Correlation]
) -> None:
    best = max(found, key=lambda item: item.statistics.spearman.value or -1.0)
    spearman = best.statistics.spearman
    # Without an interval the value itself has to do.
    low = spearman.value if spearman.low is None else spearman.low
    if learn_path is None and scores_path is None and (low is None or low <= 0):
        # A score that ranks at random, or backwards, is nothing to search by.
        words = (
            "None of these scores is sure to rank better than chance here; a search that learns needs none."
        )
        if not click.get_current_context().params["quiet"]:
            click.echo(wrapped(words, stream=sys.stderr), err=True)
        preset = _preset(space, "table")
        if preset is not None:
            table = shlex.join(
                ["--set", f"objective.table={path}", "--set", f"objective.column={best.column}"]
            )
            search = f"zenopt optimize --study {preset} --sampler surrogate {table}"
            say_next((search, "search the table"))
        return
    preset = _preset(space, "proxy")
    if preset is None:
        return
    search = f"zenopt optimize --study {preset}"
    if learn_path is not None:
        say_next((f"{search} --study-name learned --set proxy.name=learned:{learn_path}", "search by it"))
    elif scores_path is not None:
        guide = f"--set sampler.guide.table={scores_path} --set sampler.guide.column={found[0].proxy}"
        say_next((f"{search} --sampler aging {guide} --set sampler.guide.moves=8", "let it guide a search"))
    else:
        say_next(
            (f"{search} --study-name by-{best.proxy} --set proxy.name={best.proxy}", "search by the best")
        )


def _check_learnable(path: str, columns: list[str], names: list[str], data: str | None, build: str) -> None:
    """Refuse what a learned score could not compute again on an architecture it is given later."""
    from zenopt.proxies import get_proxy

    if len(columns) != 1:
        raise DataError(f"--learn learns one column; name it with --columns, one of {', '.join(columns)}.")
    if data is not None and any(get_proxy(name).needs for name in names):
        raise DataError("--learn computes proxies on noise, as a search does; leave out --data.")
    if build != "official":
        raise DataError("--learn scores the network that a search builds; use --build official.")


def _write_learned(path: str, known: Any, scores: Any, column: str, features: Any, *rest: Any) -> None:
    import json

    from zenopt.correlate.combine import learn

    learned = learn(known, scores, column, features, *rest)
    try:
        Path(path).write_text(json.dumps(learned.to_json(), allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"Learned score {path} cannot be written: {error.strerror}.") from None


def _preset(space: str, kind: str) -> str | None:
    """Return the first preset that searches a space by an objective of a kind."""
    from zenopt.study.spec import StudySpec, list_presets

    specs = map(StudySpec.load, list_presets())
    return next(
        (spec.name for spec in specs if spec.space.name == space and spec.objective.kind == kind), None
    )


def _spread(on: str, resources: str, workers: int | None, device: str) -> tuple[Spread, str]:
    """Return what scores architectures on the workers that were asked for, and the device of each."""
    from functools import partial

    from zenopt.core.extensions import named_by_person
    from zenopt.correlate.measure import one_by_one
    from zenopt.executors import make_executor

    executor = make_executor(on, resources)
    if on == "processes" and (workers or 1) == 1:
        return one_by_one, device
    executor.check_workers((device,))
    return partial(executor.map, workers=workers, modules=named_by_person()), executor.devices((device,))[0]


def _names(text: str, option: str = "--proxies") -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise click.UsageError(f"{option} needs at least one name, got {text!r}.")
    return names
