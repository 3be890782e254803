"""Warm-up and move proposal on NAS-Bench-201: evaluations needed to reach an accuracy, with and without a cheap score.

    python benchmarks/nasbench201_search.py --table nb201_accuracy.csv.gz --seeds 30 --figure search.html

The objective reads the table, so that an evaluation is free and only their number counts. Architectures the table does
not list are outside the space: random draws and moves skip them. The cheap score is computed once per architecture and
kept. Every search sees the same seeds. Prints medians and quartiles over seeds, and with --json writes the curves.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna

from zenopt.budget import Budget
from zenopt.errors import ProxyError
from zenopt.limits import Limits
from zenopt.proxies.registry import ScoreSettings, get_proxy
from zenopt.samplers import AgingSampler, Guide, GuidedSampler, ZenSampler
from zenopt.spaces.nasbench201 import NasBench201Space
from zenopt.spaces.tabular import TabularSpace
from zenopt.tables import load_table

POPULATION, TOURNAMENT = 64, 10
LIMITS = Limits(Budget(), resolution=32, num_classes=10)
SETTINGS = ScoreSettings(32, 10, 1, 0.01, 0, 0, "cpu", True, False)


def cheap_scores(space: TabularSpace, name: str) -> dict[str, float | None]:
    """Returns a closed-form proxy's score of the whole table; ``None`` where it fails."""
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
    """Returns the searches that are compared, by name; each is called with a seed."""

    def aging(seed: int, **guide: int) -> AgingSampler:
        return AgingSampler(
            space,
            LIMITS,
            seed=seed,
            population_size=POPULATION,
            tournament=TOURNAMENT,
            guide=Guide(value, **guide) if guide else None,
        )

    first = POPULATION
    return {
        # An aging evolution that never ends its random beginning.
        "random": lambda seed: AgingSampler(space, LIMITS, seed=seed, population_size=trials),
        "aging": aging,
        "aging, warm-up": lambda seed: aging(seed, warm_up=warm_up, first=first),
        "aging, moves": lambda seed: aging(seed, moves=24),
        "aging, warm-up and moves": lambda seed: aging(seed, warm_up=warm_up, first=first, moves=24),
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
    """Returns the best accuracy so far after each evaluation."""
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
    """Returns the number of evaluations until an accuracy is reached; infinite if it is not."""
    return next((index for index, value in enumerate(curve, 1) if value >= accuracy), float("inf"))


def quartiles(numbers: Sequence[float]) -> tuple[float, float, float]:
    """Returns lower quartile, median and upper quartile; infinite numbers count as larger than all."""
    ordered = sorted(numbers)
    last = len(ordered) - 1
    return ordered[round(0.25 * last)], statistics.median(ordered), ordered[round(0.75 * last)]


def show(value: float, trials: int) -> str:
    return f">{trials}" if value == float("inf") else f"{value:g}"


def write_figure(path: str, curves: dict[str, list[list[float]]], title: str) -> None:
    """Writes the median best accuracy over evaluations, with quartiles as a band."""
    import plotly.graph_objects as go
    from plotly.colors import qualitative

    figure = go.Figure()
    for color, (name, runs) in zip(qualitative.D3, curves.items(), strict=False):
        steps = [quartiles(column) for column in zip(*runs, strict=True)]
        x = list(range(1, len(steps) + 1))
        red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
        figure.add_trace(
            go.Scatter(
                x=x + x[::-1],
                y=[step[2] for step in steps] + [step[0] for step in steps][::-1],
                fill="toself",
                fillcolor=f"rgba({red},{green},{blue},0.12)",
                line={"width": 0},
                legendgroup=name,
                showlegend=False,
                hoverinfo="skip",
            )
        )
        figure.add_trace(
            go.Scatter(x=x, y=[step[1] for step in steps], name=name, legendgroup=name, line={"color": color})
        )
    figure.update_layout(
        title=title,
        template="plotly_white",
        xaxis={"title": "evaluations", "type": "log"},
        yaxis={"title": "best accuracy so far, % (median and quartiles)"},
    )
    figure.write_html(path, include_plotlyjs=True)


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
