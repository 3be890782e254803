"""What each score is worth, space by space: rank correlations with the accuracies of public tables.

    python benchmarks/scores_by_space.py FOLDER [--data imagefolder:PATH] [--spaces S,...] [--minutes M] [--seeds N]
        [--json FILE] [--figure HTML]

FOLDER holds the tables; where each comes from stands in ``zenopt/studies/*-table.yaml``. Counts and closed forms are
computed for ``SAMPLE`` random networks of a table, measured proxies for as many as ``--minutes`` allow, on one
minibatch for all; some at a smaller resolution or width than the networks were trained at, as :data:`SPACES` says.
``learned N`` is the predictor of the learned search after N trainings of random networks, judged on others. Scores that
a table brings along have its name. ``--json`` keeps what earlier runs wrote of other spaces.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from zenopt.core.budget import Budget
from zenopt.core.costs import count
from zenopt.core.errors import ProxyError
from zenopt.core.statistics import rank_statistics
from zenopt.core.tables import Table
from zenopt.latency.limits import Limits
from zenopt.predictors.networks import NetworkReader
from zenopt.predictors.observations import Observations
from zenopt.predictors.surrogate import Surrogate
from zenopt.spaces import get_space
from zenopt.spaces.tabular import space_table

MACRO, MICRO = "tables/transnas_bench_101_macro.csv.gz", "tables/transnas_bench_101_micro.csv.gz"
SUITE = {
    "zen_class_scene": "zen (published)",
    "synflow_class_scene": "synflow (published)",
    "epe_nas_class_scene": "epe-nas (published)",
}
#: Random networks of a table that are judged; beyond, intervals would hardly be narrower.
SAMPLE = 1000
COUNTS = ("params", "macs", "layers")
MEASURED = ("synflow-log", "naswot", "swap", "grad_norm", "snip", "fisher", "zico", "zen")
LEARNED = (24, 48, 100)
#: Networks that a prediction is judged on.
UNSEEN = 2000
BATCH_SIZE, RESAMPLES = 16, 200


@dataclass(frozen=True)
class Entry:
    """A table.

    Attributes:
        space, options: Its space.
        resolution, classes: At which networks are counted.
        columns: Accuracies by their name here.
        measured_at, small: Resolution of measured proxies, and options of the space that make its networks cheap.
        published: Columns of scores that the table brings along; a minus turns a score round.
    """

    space: str
    file: str
    columns: Mapping[str, str]
    resolution: int = 32
    classes: int = 10
    options: Mapping[str, Any] = field(default_factory=dict)
    where: tuple[str, ...] = ()
    max_macs: float | None = None
    measured_at: int = 32
    small: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, str] = field(default_factory=dict)


SPACES: dict[str, Entry] = {
    "NAS-Bench-201": Entry(
        "nasbench201",
        "nb201_accuracy.csv.gz",
        {"CIFAR-10": "cifar10_test", "CIFAR-100": "cifar100_test", "ImageNet16-120": "imagenet16_test"},
    ),
    "NAS-Bench-Macro": Entry(
        "nasbench-macro", "tables/nas_bench_macro_cifar10.csv.gz", {"CIFAR-10": "mean_acc"}
    ),
    "MnasNet": Entry(
        "mnasnet",
        "tables/accel_nasbench_imagenet.csv.gz",
        {"ImageNet": "imagenet_val_top1"},
        resolution=224,
        classes=1000,
        measured_at=64,
    ),
    "TransNAS macro": Entry(
        "transnas-macro",
        MACRO,
        {"scene": "class_scene_val", "jigsaw": "jigsaw_val", "autoencoder": "autoencoder_val"},
        resolution=256,
        classes=47,
        measured_at=64,
        published=SUITE,
    ),
    "TransNAS micro": Entry(
        "transnas-micro",
        MICRO,
        {"scene": "class_scene_val"},
        resolution=256,
        classes=47,
        measured_at=64,
        published=SUITE,
    ),
    "NATS sizes, 100M MACs": Entry(
        "nats-sizes", "tables/nats_bench_sss_cifar10.csv.gz", {"CIFAR-10": "cifar10_test_90ep"}, max_macs=1e8
    ),
    "DARTS, 50 epochs": Entry(
        "darts",
        "tables/oncenas_darts_545.csv.gz",
        {"CIFAR-10": "valid_acc50"},
        options={"cells": 20, "channels": 36},
        small={"cells": 8, "channels": 16},
    ),
    "DARTS, NASLib": Entry(
        "darts",
        "tables/nas_bench_301_725.csv.gz",
        {"CIFAR-10": "cifar10_val"},
        options={"cells": 8, "channels": 32},
        small={"cells": 8, "channels": 16},
        published={
            name: f"{name} (published)"
            for name in (
                "epe_nas",
                "fisher",
                "grad_norm",
                "grasp",
                "jacov",
                "l2_norm",
                "nwot",
                "plain",
                "snip",
            )
        },
    ),
    "superres, 6 epochs": Entry(
        "superres", "superres_trained_cifar10.csv", {"CIFAR-10 subset": "top1_percent"}, where=("epochs=6",)
    ),
}


def networks(entry: Entry, table: Table, space: Any) -> list[Any]:
    """Return the networks of a table that have all values and fit the budget, in a random order."""
    texts = sorted(
        text for text in table.structures if all(text in table.column(c) for c in entry.columns.values())
    )
    random.Random(0).shuffle(texts)
    limits = Limits(Budget(macs=entry.max_macs), entry.resolution, entry.classes)
    return [own for own in map(space.parse, texts) if entry.max_macs is None or limits.check(own).is_feasible]


def free_scores(entry: Entry, chosen: Sequence[Any], table: Table) -> dict[str, list[float | None]]:
    """Return counts, closed forms and published scores."""
    costs = [count(own, entry.resolution, entry.classes) for own in chosen]
    found: dict[str, list[float | None]] = {
        name: [float(getattr(own, name)) for own in costs] for name in COUNTS
    }
    for name in type(chosen[0]).closed_forms:
        if name in ("zen", "synflow"):
            found[f"{name}, closed form"] = [closed_form(own, name, entry) for own in chosen]
    for column, name in entry.published.items():
        values = table.column(column)
        found[name] = [values.get(str(own)) for own in chosen]
    return found


def closed_form(architecture: Any, name: str, entry: Entry) -> float | None:
    """Return a closed form of an architecture; ``None`` where it has none, e.g. without any flow."""
    try:
        own: float | None = architecture.closed_form(
            name, resolution=entry.resolution, num_classes=entry.classes, batch_size=64
        )
    except ProxyError:
        return None
    return own


def measured_scores(
    entry: Entry, chosen: Sequence[Any], images: Any, seconds: float, source: str
) -> tuple[dict[str, list[float | None]], dict[str, float]]:
    """Return measured proxies of as many networks as the time allows, and seconds of one."""
    # Imported late: without measured proxies nothing here needs torch.
    import torch

    from zenopt.correlate.batch import make_minibatch
    from zenopt.correlate.measure import Measurement

    torch.set_num_threads(1)
    batch = make_minibatch(images, BATCH_SIZE, entry.measured_at, entry.classes, 0, source=source)
    settings = Measurement(batch, entry.classes)
    small = get_space(entry.space)(**entry.small) if entry.small else None
    found: dict[str, list[float | None]] = {name: [] for name in MEASURED}
    spent = dict.fromkeys(MEASURED, 0.0)
    start = time.process_time()
    for own in chosen:
        scores = settings.score(small.parse(str(own)) if small is not None else own, MEASURED)
        for name, score in scores.items():
            found[name].append(score.value)
            spent[name] += score.seconds
        if time.process_time() - start > seconds:
            break
    done = len(found[MEASURED[0]])
    return found, {name: own / done for name, own in spent.items()}


def judge(scores: Sequence[float | None], truth: Sequence[float]) -> dict[str, Any]:
    """Return rank correlations with 95 % bootstrap intervals; failures rank last."""
    found = rank_statistics([-np.inf if s is None else s for s in scores], truth, resamples=RESAMPLES)
    return {
        "kendall": [found.kendall.value, found.kendall.low, found.kendall.high],
        "spearman": [found.spearman.value, found.spearman.low, found.spearman.high],
        "n": found.n,
        "failed": sum(score is None for score in scores),
    }


def learned(
    reader: NetworkReader, every: Sequence[Any], truth: Sequence[float], trained: int, seeds: int
) -> dict[str, Any]:
    """Return what the predictor is worth: means over random choices, with the 2.5 and 97.5 % quantiles."""
    inputs, values = reader.read(every), np.array(truth)
    texts = [str(own) for own in every]
    kendalls = []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(texts))
        known, unseen = order[:trained], order[trained : trained + UNSEEN]
        surrogate = Surrogate(inputs, ranking=reader.ranking)
        surrogate.learn(Observations.of(inputs.rows(known), [texts[i] for i in known], values[known]))
        kendalls.append(kendalltau(surrogate.predict(inputs.rows(unseen)).mean, values[unseen]).statistic)
    low, high = np.quantile(kendalls, (0.025, 0.975)).tolist()
    return {
        "kendall": [float(np.mean(kendalls)), low, high],
        "n": min(UNSEEN, len(texts) - trained),
        "seeds": seeds,
    }


def draw(results: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write Kendall's correlations as a map of spaces and scores."""
    import plotly.graph_objects as go

    # Several runs write one file; tables spell names as they like.
    places = {name: place for place, name in enumerate(SPACES)}
    spaces = sorted(results, key=lambda name: places.get(name.split(": ")[0], len(places)))
    scores = [
        {name.replace("_", "-"): own for name, own in results[space]["scores"].items()} for space in spaces
    ]
    found = dict.fromkeys(name for own in scores for name in own)
    # Learned scores come last, those that a table brings along before them.
    names = sorted(found, key=lambda name: ("published" in name) + 2 * name.startswith("learned"))
    rows = [[own.get(name, {}).get("kendall", [None])[0] for name in names] for own in scores]
    figure = go.Figure(
        go.Heatmap(
            z=rows, x=names, y=spaces, zmin=-0.9, zmax=0.9, colorscale="RdBu", xgap=2, ygap=2,
            text=[["" if value is None else f"{value:.2f}".replace("0.", ".") for value in row] for row in rows],
            texttemplate="%{text}", textfont={"size": 11}, colorbar={"title": "Kendall", "thickness": 14},
        )
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(tickangle=-45, side="top")
    figure.update_layout(
        template="plotly_white", width=1150, height=160 + 32 * len(results),
        margin={"l": 10, "r": 10, "t": 130, "b": 10}, font={"size": 12},
    )  # fmt: skip
    figure.write_html(path, include_plotlyjs=True, config={"displayModeBar": False})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", help="Images of the minibatch, e.g. imagefolder:PATH; by default noise.")
    parser.add_argument("--spaces", default=";".join(SPACES), help="Names, separated by semicolons.")
    parser.add_argument(
        "--minutes", type=float, default=2.0, help="CPU time of measured proxies for each space."
    )
    parser.add_argument("--most", type=int, default=200, help="Networks that are measured at most.")
    parser.add_argument("--seeds", type=int, default=10, help="Random choices to learn from.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    images = None
    if arguments.data is not None and arguments.minutes > 0:
        from zenopt.train.data import open_training_images

        images = open_training_images(arguments.data, seed=0)
    results: dict[str, Any] = {}
    if arguments.json is not None and arguments.json.is_file():
        results = json.loads(arguments.json.read_text(encoding="utf-8"))
    for name in filter(None, arguments.spaces.split(";")):
        entry = SPACES[name.strip()]
        space = get_space(entry.space)(**entry.options)
        table = space_table(space, arguments.folder / entry.file, entry.where)
        every = networks(entry, table, space)
        free = free_scores(entry, every[:SAMPLE], table)
        measured: dict[str, list[float | None]] = {}
        seconds: dict[str, float] = {}
        if arguments.minutes > 0:
            measured, seconds = measured_scores(
                entry, every[: arguments.most], images, 60 * arguments.minutes, arguments.data or "noise"
            )
        reader = NetworkReader(space, entry.resolution, entry.classes)
        for label, column in entry.columns.items():
            truth = [table.column(column)[str(own)] for own in every]
            found = {own: judge(scores, truth[: len(scores)]) for own, scores in (free | measured).items()}
            for trained in LEARNED:
                if 2 * trained < len(every):
                    found[f"learned {trained}"] = learned(reader, every, truth, trained, arguments.seeds)
            key = f"{name.strip()}: {label}" if len(entry.columns) > 1 else name.strip()
            results[key] = {
                "networks": len(every),
                "ranking": reader.ranking,
                "seconds": seconds,
                "scores": found,
            }
            print(f"\n{key}: {len(every):,} networks, begins with {reader.ranking}")
            for score, own in sorted(found.items(), key=lambda item: -(item[1]["kendall"][0] or -1.0)):
                value, low, high = (np.nan if part is None else part for part in own["kendall"])
                rho = own.get("spearman", [np.nan])[0]
                cost = f"{seconds[score]:.2f} s" if score in seconds else ""
                print(
                    f"  {score:24} Kendall {value:6.3f} [{low:6.3f}, {high:6.3f}]  Spearman "
                    f"{np.nan if rho is None else rho:6.3f}  n {own['n']:5} failed {own.get('failed', 0):3} {cost}",
                    flush=True,
                )
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(results) + "\n", encoding="utf-8")
    if arguments.figure is not None:
        draw(results, arguments.figure)


if __name__ == "__main__":
    main()
