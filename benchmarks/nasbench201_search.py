"""Warm-up and move proposal on NAS-Bench-201: evaluations needed to reach an accuracy, with and without a cheap score.

    python benchmarks/nasbench201_search.py --table nb201_accuracy.csv.gz --seeds 30 --figure search.svg

The objective reads the table, so that an evaluation is free and only their number counts. Architectures the table does
not list are outside the space: random draws and moves skip them. The cheap score is computed once per architecture and
kept. Every search sees the same seeds. Prints medians and quartiles; --json writes the curves, --figure an SVG.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna

from zenopt.core.budget import Budget
from zenopt.core.errors import ProxyError
from zenopt.core.tables import load_table
from zenopt.latency.limits import Limits
from zenopt.proxies.registry import ScoreSettings, get_proxy
from zenopt.samplers import AgingSampler, Guide, GuidedSampler, ZenSampler
from zenopt.spaces.nasbench201.space import NasBench201Space
from zenopt.spaces.tabular import TabularSpace

POPULATION, TOURNAMENT = 64, 10
#: Random architectures before an evolution that does not wait for a full population.
FEW = 8
COLORS = (
    "#7f7f7f", "#1f77b4", "#17becf", "#2ca02c", "#bcbd22", "#d62728", "#9467bd", "#ff7f0e", "#8c564b",
)  # fmt: skip
LIMITS = Limits(Budget(), resolution=32, num_classes=10)
SETTINGS = ScoreSettings(32, 10, 1, 0.01, 0, 0, "cpu", True, False)


def cheap_scores(space: TabularSpace, name: str) -> dict[str, float | None]:
    """Return a closed-form proxy's score of the whole table; ``None`` where it fails."""
    proxy = get_proxy(name)
    function: Callable[..., float] = proxy.on_architecture or proxy.function
    scores: dict[str, float | None] = {}
    for architecture in space.architectures():
        try:
            value = function(architecture, SETTINGS)
            scores[str(architecture)] = value if proxy.direction == "maximize" else -value
        except ProxyError:
            scores[str(architecture)] = None
    return scores


def make_samplers(
    space: TabularSpace, value: Callable[[Any], float | None], trials: int, warm_up: int
) -> dict[str, Callable[[int], optuna.samplers.BaseSampler]]:
    """Return the searches that are compared, by name; each is called with a seed."""

    def aging(seed: int, begin: int | None = None, **guide: int) -> AgingSampler:
        return AgingSampler(
            space,
            LIMITS,
            seed=seed,
            population_size=POPULATION,
            tournament=TOURNAMENT,
            random_initial=begin,
            guide=Guide(value, **guide) if guide else None,
        )

    first = POPULATION
    return {
        # An aging evolution that never ends its random beginning.
        "random": lambda seed: AgingSampler(space, LIMITS, seed=seed, population_size=trials),
        "aging": aging,
        f"aging, {FEW} random first": lambda seed: aging(seed, FEW),
        "aging, moves": lambda seed: aging(seed, FEW, moves=24),
        f"aging, moves, {first} random first": lambda seed: aging(seed, first, moves=24),
        "aging, warm-up": lambda seed: aging(seed, warm_up=warm_up, first=first),
        "aging, warm-up and moves": lambda seed: aging(seed, warm_up=warm_up, first=FEW, moves=24),
        "zen": lambda seed: ZenSampler(space, LIMITS, seed=seed, population_size=POPULATION),
        "zen, warm-up": lambda seed: GuidedSampler(
            space,
            LIMITS,
            seed=seed,
            population_size=POPULATION,
            guide=Guide(value, warm_up=warm_up, first=first),
        ),
    }


def search(sampler: optuna.samplers.BaseSampler, space: TabularSpace, truth: Any, trials: int) -> list[float]:
    """Return the best accuracy so far after each evaluation."""
    study = optuna.create_study(direction="maximize", sampler=sampler)
    best: list[float] = []

    def objective(trial: optuna.Trial) -> float:
        text = str(space.suggest(trial))
        trial.set_user_attr("structure", text)
        value = float(truth[text])
        best.append(max(value, best[-1]) if best else value)
        return value

    study.optimize(objective, n_trials=trials)
    return best


def needed(curve: Sequence[float], accuracy: float) -> float:
    """Return the number of evaluations until an accuracy is reached; infinite if it is not."""
    return next((index for index, value in enumerate(curve, 1) if value >= accuracy), math.inf)


def quartiles(numbers: Sequence[float]) -> tuple[float, float, float]:
    """Return lower quartile, median and upper quartile; infinite numbers count as larger than all."""
    ordered = sorted(numbers)
    last = len(ordered) - 1
    return ordered[round(0.25 * last)], statistics.median(ordered), ordered[round(0.75 * last)]


def show(value: float, trials: int) -> str:
    return f">{trials}" if value == math.inf else f"{value:g}"


def write_figure(path: str, curves: dict[str, list[list[float]]], title: str) -> None:
    """Write an SVG: the median best accuracy over evaluations (log scale), quartiles as a band."""
    width, height, left, top, right, bottom = 860, 470, 62, 40, 210, 48
    steps = {name: [quartiles(column) for column in zip(*runs, strict=True)] for name, runs in curves.items()}
    count = max(map(len, steps.values()))
    # What the first evaluations find would squeeze the part that matters.
    high = max(step[2] for line in steps.values() for step in line)
    low = high - 3.0

    def x(evaluation: int) -> float:
        return left + (width - left - right) * math.log(evaluation) / math.log(count)

    def y(accuracy: float) -> float:
        inside = (max(accuracy, low) - low) / (high - low)
        return height - bottom - (height - top - bottom) * inside

    def points(line: list[tuple[float, float, float]], which: int) -> list[str]:
        return [f"{x(index):.1f},{y(step[which]):.1f}" for index, step in enumerate(line, 1)]

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12">\n<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="22" font-size="14">{title}</text>',
    ]
    for tick in (1, 3, 10, 30, 100, 300, 1000):
        if tick <= count:
            parts.append(
                f'<path d="M{x(tick):.1f} {top}V{height - bottom}" stroke="#e5e5e5"/>'
                f'<text x="{x(tick):.1f}" y="{height - bottom + 18}" text-anchor="middle">{tick}</text>'
            )
    for half in range(math.ceil(2 * low), math.floor(2 * high) + 1):
        parts.append(
            f'<path d="M{left} {y(half / 2):.1f}H{width - right}" stroke="#e5e5e5"/>'
            f'<text x="{left - 8}" y="{y(half / 2) + 4:.1f}" text-anchor="end">{half / 2:.1f}</text>'
        )
    parts.append(
        f'<text x="{left}" y="{height - 10}">evaluations; best accuracy so far, %, median and quartiles</text>'
    )
    for row, ((name, line), color) in enumerate(zip(steps.items(), COLORS, strict=False)):
        band = " ".join(points(line, 2) + points(line, 0)[::-1])
        parts.append(f'<polygon points="{band}" fill="{color}" opacity="0.12"/>')
        parts.append(
            f'<polyline points="{" ".join(points(line, 1))}" fill="none" stroke="{color}" stroke-width="2"/>'
        )
        at = top + 14 + 20 * row
        parts.append(
            f'<path d="M{width - right + 14} {at - 4}h22" stroke="{color}" stroke-width="3"/>'
            f'<text x="{width - right + 42}" y="{at}">{name}</text>'
        )
    Path(path).write_text("\n".join([*parts, "</svg>\n"]), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", required=True)
    parser.add_argument("--column", default="cifar10_test")
    parser.add_argument("--guide", default="synflow-expected", help="a closed-form proxy")
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--warm-up", type=int, default=3000, help="architectures ranked by the cheap score")
    parser.add_argument("--only", nargs="*", help="names of searches; by default all")
    parser.add_argument("--figure")
    parser.add_argument("--json")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    space = TabularSpace(NasBench201Space(), options.table, options.column)
    truth = load_table(options.table).column(options.column)
    start = time.process_time()
    cheap = cheap_scores(space, options.guide)
    seconds = time.process_time() - start
    best = max(truth.values())
    targets = [best - 0.5, best - 0.25, best - 0.1]
    print(f"{len(truth)} architectures, best {best:.2f} %; {options.guide} of all: {seconds:.1f} s of CPU")
    print(f"evaluations to reach an accuracy, median (quartiles) of {options.seeds} seeds")
    print(
        "| search | "
        + " | ".join(f"{target:.2f} %" for target in targets)
        + f" | best after {options.trials} |"
    )
    print("|---" * (len(targets) + 2) + "|")
    curves: dict[str, list[list[float]]] = {}
    samplers = make_samplers(space, lambda cell: cheap[str(cell)], options.trials, options.warm_up)
    for name, make in samplers.items():
        if options.only and name not in options.only:
            continue
        curves[name] = [search(make(seed), space, truth, options.trials) for seed in range(options.seeds)]
        cells = []
        for target in targets:
            low, middle, high = quartiles([needed(curve, target) for curve in curves[name]])
            spread = f"{show(low, options.trials)} .. {show(high, options.trials)}"
            cells.append(f"{show(middle, options.trials)} ({spread})")
        cells.append(f"{statistics.fmean(curve[-1] for curve in curves[name]):.2f} %")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(curves))
    if options.figure:
        write_figure(
            options.figure,
            curves,
            f"NAS-Bench-201 {options.column}, {options.seeds} seeds, guide {options.guide}",
        )


if __name__ == "__main__":
    main()
