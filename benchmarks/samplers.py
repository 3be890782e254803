"""Best measured score over trials, by sampler, at the same number of trials and in the same narrow bounds.

    python benchmarks/samplers.py --study cifar-params1m --trials 100 --seeds 3 --figure samplers.html

Every sampler sees the same objective, budget and score batch. Over-budget proposals count as trials. Prints the mean
over seeds of the best score after 10, 30, 100 ... trials, and CPU seconds per trial (proposal and scoring). Writes the
curves as JSON and, with --figure, as a plotly page.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import optuna
import torch

from zenopt.storage import open_storage
from zenopt.study.objective import Objective, run_trial
from zenopt.study.sampling import make_sampler
from zenopt.study.spec import StudySpec
from zenopt.study.study import join_study, load_study

CONFIGURATIONS: dict[str, list[str]] = {
    "zen, screened": [],
    "zen, screening off": ["sampler.screening=off"],
    "tpe": ["sampler.name=tpe"],
    "nsga2": ["sampler.name=nsga2"],
    "random": ["sampler.name=random"],
}


def curve(preset: str, overrides: list[str], seed: int, trials: int) -> tuple[list[float | None], float]:
    """Return the best feasible measured score after each trial, and CPU seconds per trial."""
    spec = StudySpec.load(preset, ["space.bounds=narrow", f"seed={seed}", *overrides])
    storage = open_storage("memory:")
    spec = join_study(spec, storage, "benchmark", "cpu")
    study = load_study(storage, "benchmark", make_sampler(spec))
    objective = Objective(spec, study)
    best: list[float | None] = []
    start = time.process_time()
    for _ in range(trials):
        run_trial(study, objective)
        trial = study.get_trials(deepcopy=False)[-1]
        is_measured = trial.state == optuna.trial.TrialState.COMPLETE and "score_mean" in trial.user_attrs
        value = trial.value if is_measured else None
        known = [item for item in (best[-1] if best else None, value) if item is not None]
        best.append(max(known) if known else None)
    return best, (time.process_time() - start) / trials


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", default="cifar-params1m")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=list(CONFIGURATIONS), help="a subset of the samplers")
    parser.add_argument("--output", type=Path, help="JSON with all curves")
    parser.add_argument("--figure", type=Path, help="plotly page with all curves")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    results: dict[str, dict[str, list]] = {}
    # Samplers take turns within a seed, so that a change in the machine's load meets all of them.
    for seed in range(options.seeds):
        for name in options.only or CONFIGURATIONS:
            best, seconds = curve(options.study, CONFIGURATIONS[name], seed, options.trials)
            entry = results.setdefault(name, {"curves": [], "cpu_s_per_trial": []})
            entry["curves"].append(best)
            entry["cpu_s_per_trial"].append(seconds)
            print(f"seed {seed}  {name:20s} best {best[-1]}  {seconds:.3f} CPU s per trial", flush=True)
    marks = sorted({mark for mark in (10, 30, 100, 300, options.trials) if mark <= options.trials})
    print("\n" + f"{'sampler':20s}" + "".join(f"{f'best@{mark}':>18s}" for mark in marks) + "  CPU s/trial")
    for name, entry in results.items():
        cells = []
        for mark in marks:
            values = [curve[mark - 1] for curve in entry["curves"] if curve[mark - 1] is not None]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.fmean(values):9.2f} +- {spread:5.2f}" if values else "none feasible")
        seconds = statistics.fmean(entry["cpu_s_per_trial"])
        print(f"{name:20s}" + "".join(f"{cell:>18s}" for cell in cells) + f"  {seconds:11.3f}")
    if options.output:
        options.output.write_text(
            json.dumps({"options": vars(options), "results": results}, default=str, indent=1)
        )
    if options.figure:
        draw(results, options.study, options.figure)


def draw(results: dict[str, dict[str, list]], study: str, path: Path) -> None:
    """Write the curves, mean over seeds with the range, as a self-contained page."""
    import plotly.graph_objects as go

    colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7f7f7f", "#e69f00"]
    figure = go.Figure()
    for (name, entry), colour in zip(results.items(), colours, strict=False):
        columns = [
            [value for value in column if value is not None] for column in zip(*entry["curves"], strict=True)
        ]
        x = [trial for trial, column in enumerate(columns, start=1) if len(column) == len(entry["curves"])]
        shown = [columns[trial - 1] for trial in x]
        low, high = [min(column) for column in shown], [max(column) for column in shown]
        figure.add_scatter(
            x=[*x, *reversed(x)], y=[*high, *reversed(low)], fill="toself", fillcolor=colour, opacity=0.15,
            line={"width": 0}, hoverinfo="skip", showlegend=False,
        )  # fmt: skip
        figure.add_scatter(
            x=x, y=[statistics.fmean(c) for c in shown], name=name, line={"color": colour, "width": 2}
        )
    figure.update_layout(
        title=f"{study}, narrow bounds: best measured Zen-score (mean and range over seeds)",
        xaxis_title="trials", yaxis_title="best measured Zen-score", template="plotly_white",
        width=900, height=520, legend={"orientation": "h", "y": 1.08, "x": 0},
    )  # fmt: skip
    figure.write_html(path, include_plotlyjs=True, config={"displayModeBar": False})


if __name__ == "__main__":
    main()
