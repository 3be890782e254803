"""Figures of supernets and of differentiable searches of cells, and their tables; see gpu_cells.py."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nas_methods import CELLS, mean_interval
from supernet_rank import shown

from zenopt.core.statistics import Interval
from zenopt.core.words import plural

#: Accuracy on CIFAR-10 in percent below which a cell of NAS-Bench-201 is none to use: the published collapse is 54.3.
COLLAPSED = 60.0
EDGES = 6
#: Mean test accuracies that one method is to reach, on the data sets of CELLS.
GOAL = (94.3, 73.4, 46.4)
#: Kendall's tau of published supernets of NAS-Bench-201.
PUBLISHED_KENDALL = {
    ("nasbench201", "uniform"): ".50 to .54",
    ("nasbench201", "few-shot"): ".55 to .69",
}
#: Test accuracies on the data sets of CELLS, as the paper of NAS-Bench-201 prints them.
PUBLISHED = {
    "darts-v1": (54.30, 15.61, 16.32),
    "darts-v2": (54.30, 15.61, 16.32),
    "gdas": (93.61, 70.70, 41.71),
}


def supernet_figures(
    of: Sequence[str], seed: int, training: Mapping[str, Any], ranking: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the figures of a supernet: how it was trained, and how it ranks."""
    return {
        "space": of[0], "variant": of[1], "seed": seed,
        **{key: training[key] for key in ("epochs", "resolution", "train_images", "changes", "seconds")},
        "networks": ranking["networks"], "images": ranking["images"], "mean_accuracy": ranking["mean_accuracy"],
        "kendall": ranking["supernet"]["kendall"], "spearman": ranking["supernet"]["spearman"],
        "macs_kendall": ranking["macs"]["kendall"], "seconds_each": ranking["seconds"],
    }  # fmt: skip


def search_figures(
    method: str, seed: int, values: Sequence[Mapping[str, float]], found: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the figures of a search: its cell, and what the table says of it, data set by data set."""
    cell = found["architecture"]
    accuracies = [own.get(cell) for own in values]
    skips = cell.count("skip_connect")
    known = accuracies[0]
    return {
        "method": method, "seed": seed, "cell": cell, "accuracies": accuracies, "skips": skips,
        # Of a cell that the table does not list, only the published collapse is known.
        "is_collapsed": known < COLLAPSED if known is not None else True if skips == EDGES else None,
        **{key: found[key] for key in ("epochs", "epoch", "was_ended", "resolution", "network_params")},
        **{key: found[key] for key in ("train_images", "held_back_images", "changes", "seconds")},
    }  # fmt: skip


def supernet_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| space | training | seed | epochs | images | paths, mean accuracy % | Kendall's tau | MACs, same networks "
        "| networks | published |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        tau, macs = (shown(Interval(**row[key])) for key in ("kendall", "macs_kendall"))
        mean = "-" if row["mean_accuracy"] is None else f"{row['mean_accuracy']:.1f}"
        lines.append(
            f"| {row['space']} | {row['variant']} | {row['seed']} | {row['epochs']} | {row['train_images']:,} | {mean} "
            f"| {tau} | {macs} | {row['networks']} | {PUBLISHED_KENDALL.get((row['space'], row['variant']), '')} |"
        )
    return lines


def mean_text(values: Sequence[float | None]) -> str:
    """Return the mean of what is listed with half of its 95 % interval over seeds."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return f"{known[0]:.2f}" if known else "-"
    return "{:.2f} ± {:.2f}".format(*mean_interval(known))


def by_method(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["method"], []).append(row)
    return found


def search_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        "| method | epochs | images | seeds | CIFAR-10 | CIFAR-100 | ImageNet16-120 | CIFAR-10, each seed "
        "| skips, each seed | collapsed | not listed | published |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for method, own in by_method(rows).items():
        each = [row["accuracies"] for row in own]
        means = " | ".join(
            mean_text([accuracies[place] for accuracies in each]) for place in range(len(CELLS))
        )
        first = " ".join("-" if known[0] is None else f"{known[0]:.2f}" for known in each)
        images = own[0]["train_images"] + own[0]["held_back_images"]
        skips = " ".join(str(row["skips"]) for row in own)
        judged = [row["is_collapsed"] for row in own if row["is_collapsed"] is not None]
        published = " / ".join(f"{value:.2f}" for value in PUBLISHED.get(method, ()))
        lines.append(
            f"| {method} | {own[0]['epochs']} | {images:,} | {len(own)} | {means} | {first} | {skips} "
            f"| {sum(judged)} of {len(judged)} | {sum(known[0] is None for known in each)} | {published} |"
        )
    return lines


def goal_lines(rows: Sequence[Mapping[str, Any]], best: Sequence[float]) -> list[str]:
    """Return what the searches say of the goals."""
    reached = []
    for method, own in by_method(rows).items():
        listed = [row["accuracies"] for row in own if None not in row["accuracies"]]
        means = [statistics.fmean(values) for values in zip(*listed, strict=True)]
        if listed and all(mean >= goal for mean, goal in zip(means, GOAL, strict=True)):
            reached.append(f"{method} ({plural(len(listed), 'listed cell')})")
    goal, most = (" / ".join(f"{value:.2f}" for value in values) for values in (GOAL, best))
    return [
        f"A cell has collapsed that has less than {COLLAPSED:g} % on CIFAR-10, or, where the table does not list it, "
        f"{EDGES} skip connections; of others that it does not list, nothing is said. Means are of listed cells alone, "
        "± half of the 95 % interval over seeds.",
        "",
        f"The goal {goal} is reached by {', '.join(reached) or 'no method'}; the best of this table have {most}.",
    ]


def page(content: Mapping[str, Any]) -> str:
    """Return the tables of all figures."""
    facts, changed = content["environment"], content["changed"]
    size = f"Not as published: {json.dumps(changed)[1:-1]}." if changed else "All images, epochs and sizes."
    lines = [
        f"{facts['device']}, PyTorch {facts['torch']}, {facts['date']}; {content['settings']['data']}. {size}",
        f"{content['done']} of {content['of']} trainings and searches are done.",
    ]
    if content["supernets"]:
        lines += ["", *supernet_lines(content["supernets"])]
    if content["cells"]:
        lines += ["", *search_lines(content["cells"])]
        lines += ["", *goal_lines(content["cells"], content["best_of_table"])]
    return "\n".join(lines) + "\n"
