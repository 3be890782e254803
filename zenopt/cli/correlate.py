"""``zenopt correlate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zenopt.cli.options import device_option, is_terminal, json_option, print_json, show_warnings, table
from zenopt.core.errors import DataError
from zenopt.core.text import printable


@click.command()
@click.option(
    "--space", default="nasbench201", show_default=True, help="The family of the architectures in the table."
)
@click.option(
    "--table",
    "path",
    required=True,
    metavar="CSV",
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
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of sample, batch, weights."
)
@click.option(
    "--data",
    metavar="KIND:PATH",
    help="Real training images: imagefolder:PATH (PATH/train/CLASS/* or PATH/CLASS/*), imagenet:PATH, cifar10:PATH, "
    "cifar100:PATH, synthetic[:N]. By default noise with random labels.",
)
@click.option("--batch-size", type=click.IntRange(2, 65_536), default=64, show_default=True)
@click.option(
    "--resolution", type=click.IntRange(4, 8192), default=32, show_default=True, help="Image side, px."
)
@click.option("--classes", type=click.IntRange(1, 1_000_000), default=10, show_default=True)
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
    type=click.FloatRange(0, 1, min_open=True),
    default=0.1,
    show_default=True,
    help="Share of the architectures that counts as top.",
)
@click.option(
    "--resamples", type=click.IntRange(0, 100_000), default=1000, show_default=True, help="Of the bootstrap."
)
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
    help="SQLite file of scores; an interrupted run goes on from it.",
)
@click.option(
    "--combine",
    "is_combined",
    is_flag=True,
    help="Judge combinations, too: vote, mean of ranks, and two learned on one part, judged on the rest.",
)
@click.option(
    "--features",
    "has_features",
    is_flag=True,
    help="What is learned also reads the shape: paths and operations of a cell, size and depth of others.",
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
    train: int | None,
    learn_path: str | None,
    scores_path: str | None,
    figure: str | None,
    as_json: bool,
) -> None:
    """Rank correlation of proxies with known accuracies.

    Positive means the proxy is right, whatever its direction; architectures it fails on rank last. Intervals are 95 %
    bootstrap intervals over architectures.

    \b
    zenopt correlate --table nb201_accuracy.csv.gz --proxies params,synflow-log --sample 300
    zenopt correlate --table nb201_accuracy.csv.gz --proxies snip,jacob_cov --sample 300 \\
        --data imagefolder:cifar10 --figure correlations.html
    zenopt correlate --space superres --table trained.csv --where epochs=18 --proxies zen-closed-form
    zenopt correlate --table nb201_accuracy.csv.gz --columns cifar10_test --proxies params,synflow-expected \\
        --features --combine --train 300
    """
    import torch

    from zenopt.core.tables import load_table
    from zenopt.correlate.batch import make_minibatch
    from zenopt.correlate.combine import Combined, combine, features_of
    from zenopt.correlate.measure import Measurement, measure
    from zenopt.correlate.report import correlate as compare
    from zenopt.correlate.report import results_json, write_scores
    from zenopt.correlate.sample import draw_sample
    from zenopt.correlate.score_cache import ScoreCache
    from zenopt.proxies import get_proxy
    from zenopt.spaces import get_space

    show_warnings()
    if (has_features or train is not None) and not (is_combined or learn_path):
        raise click.UsageError(
            "--features and --train are for what is learned; add --combine or --learn JSON."
        )
    if train is not None and not is_combined:
        raise click.UsageError("--train says how many --combine learns from; --learn takes all.")
    for output in (scores_path, figure, learn_path):
        _check_output(output)
    wanted = [get_proxy(own).name for own in _names(proxies)]
    torch.set_num_threads(threads)
    known = load_table(path, where)
    chosen = _names(columns, "--columns") if columns is not None else known.accuracy_columns()
    for column in chosen:
        known.column(column)
    if learn_path is not None:
        _check_learnable(learn_path, chosen, wanted, data, build)
    architectures = draw_sample(known, chosen, get_space(space)(), sample, seed)
    images = None
    if data is not None:
        from zenopt.train.data import open_training_images

        images = open_training_images(data, seed=seed)
    batch = make_minibatch(images, batch_size, resolution, classes, seed, source=data or "noise")
    settings = Measurement(batch, classes, seed, build, device=device)
    with ScoreCache(cache_path) as cache, _Progress() as progress:
        scores = measure(architectures, wanted, settings, cache, progress.show)
    options: dict[str, Any] = {"top_share": top_share, "resamples": resamples, "seed": seed}
    found = compare(known, scores, chosen, **options)
    features = features_of(architectures, resolution, classes) if has_features else None
    combined = Combined()
    if is_combined:
        combined = combine(known, scores, chosen, features=features, train=train, **options)
    if learn_path is not None:
        _write_learned(
            learn_path,
            known,
            scores,
            chosen[0],
            features,
            {"resolution": resolution, "num_classes": classes, "batch_size": batch_size},
            {
                "space": space,
                "table": path,
                "column": chosen[0],
                "architectures": len(architectures),
                "seed": seed,
            },
        )
    if scores_path is not None:
        write_scores(scores_path, scores)
    if figure is not None:
        from zenopt.correlate.figure import write_figure

        write_figure(
            figure, known, scores, found, f"{len(architectures)} architectures of {space}, {batch.source}"
        )
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
        learned = (
            {"learned_weights": combined.weights, "splits": _splits_json(combined)} if is_combined else {}
        )
        print_json({**facts, "results": results_json([*found, *combined.correlations]), **learned})
        return
    click.echo(table([_row(item) for item in (*found, *combined.correlations)], _HEADER))
    for column, by_name in combined.splits.items():
        for name, item in by_name.items():
            click.echo(
                f"{printable(column)}, {name}: {item.mean:.3f} over {item.repeats} random splits ({item.low:.3f} .. "
                f"{item.high:.3f}), {item.train} learned from, {item.test} judged"
            )
    if learn_path is not None:
        click.echo(f"Learned score: {learn_path}; use it as --proxy learned:{learn_path}")
    if figure is not None:
        click.echo(f"Figure: {figure}")


_HEADER = (
    "data set",
    "proxy",
    "Spearman",
    "95 % interval",
    "Kendall",
    "top overlap",
    "n",
    "failed",
    "s/arch",
)


def _row(item: Any) -> tuple[str, ...]:
    found = item.statistics
    return (
        item.column,
        item.proxy,
        _number(found.spearman.value),
        "-" if found.spearman.low is None else f"{found.spearman.low:.3f} .. {found.spearman.high:.3f}",
        _number(found.kendall.value),
        f"{found.top.value:.2f} of {found.top_count}",
        str(found.n),
        str(item.failed),
        f"{item.mean_seconds:.3f}",
    )


def _check_learnable(path: str, columns: list[str], names: list[str], data: str | None, build: str) -> None:
    """Refuses what a learned score could not compute again on an architecture it is given later."""
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


def _splits_json(combined: Any) -> dict[str, Any]:
    return {
        column: {name: vars(item) for name, item in by_name.items()}
        for column, by_name in combined.splits.items()
    }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _names(text: str, option: str = "--proxies") -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise click.UsageError(f"{option} needs at least one name, got {text!r}.")
    return names


def _check_output(path: str | None) -> None:
    """Refuses a file that cannot be made, before hours of scoring instead of after them."""
    if path is not None and not Path(path).absolute().parent.is_dir():
        raise DataError(f"{path} cannot be written: its folder does not exist.")


class _Progress:
    """Counts on stderr, where a person looks at it."""

    def __enter__(self) -> _Progress:
        self._is_shown = is_terminal()
        return self

    def __exit__(self, *rest: object) -> None:
        if self._is_shown:
            click.echo("\r\x1b[K", err=True, nl=False)

    def show(self, done: int, total: int) -> None:
        if self._is_shown:
            click.echo(f"\rScored {done} of {total} architectures", err=True, nl=False)
