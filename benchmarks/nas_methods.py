"""What every method returns after so many evaluations of a public table, beside what was published.

    python benchmarks/nas_methods.py FOLDER [--tables T,...] [--methods M,...] [--seeds N] [--few M=N,...]
        [--evaluations N] [--noise POINTS] [--json FILE]

FOLDER holds the tables, as for learned_search.py. Every search is told values, returns the network of the best value
it was told, and is judged by the table's value of that network; it ends early when it has found the best of the table.
With ``--noise`` what it is told is off by normal errors of that deviation, drawn once for each network and seed: as if
each were trained once, briefly. ``--few surrogate=10`` gives a method fewer seeds than the others. Printed are means
with 95 % intervals over seeds, and CPU seconds of a search on one core (proposals and the study around them;
evaluations are look-ups). ``--json`` keeps methods and tables of earlier runs.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from learned_search import TABLES, Task, keep_results, kept_results
from scipy.stats import t as student

CELLS = ("nasbench201 cifar10", "nasbench201 cifar100", "nasbench201 imagenet16")
METHODS = (
    "random", "aging", "aging-10", "local-search", "annealing", "reinforce", "ppo", "tpe", "zen", "surrogate"
)  # fmt: skip
#: Mean and deviation of the test accuracy in %, as the paper of NAS-Bench-201 prints them, as far as we found them
#: quoted (searches by the validation accuracy after 12 epochs, 12,000 s of simulated training on CIFAR-10).
PUBLISHED: dict[str, dict[str, tuple[float, float]]] = {
    "random": {CELLS[0]: (93.70, 0.36), CELLS[2]: (44.57, 1.25)},
    "aging-10": {CELLS[0]: (93.92, 0.30)},
    "reinforce": {CELLS[0]: (93.85, 0.37), CELLS[1]: (71.71, 1.09), CELLS[2]: (45.24, 1.18)},
}


def judge(task: Task, method: str, seeds: int, evaluations: int, noise: float) -> dict[str, Any]:
    """Return the values of what a method returns, seed by seed, and what the searches cost."""
    returned, counts = [], []
    start = time.process_time()
    for seed in range(seeds):
        # The best of the table does not end a search that is told something else.
        told = blurred(task.values, noise, seed) if noise else None
        found = task.search(method, seed, evaluations, told)
        returned.append(task.values[max(found, key=lambda text: found[text])])
        counts.append(len(found))
    seconds = (time.process_time() - start) / seeds
    return {"returned": returned, "evaluations": counts, "cpu_s": seconds, "limit": evaluations}


def blurred(values: Mapping[str, float], noise: float, seed: int) -> dict[str, float]:
    """Return values with errors."""
    errors = np.random.default_rng((seed, 201)).normal(0.0, noise, len(values)).tolist()
    return {text: value + error for (text, value), error in zip(values.items(), errors, strict=True)}


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half of its 95 % interval."""
    half = student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return float(np.mean(values)), float(half)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tables", default=",".join(CELLS), help=f"of {', '.join(TABLES)}")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--few", default="", metavar="METHOD=SEEDS,...")
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--noise", type=float, default=0.0, metavar="POINTS")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    few = {
        name: int(count) for name, _, count in (own.partition("=") for own in arguments.few.split(",") if own)
    }
    if min([arguments.seeds, *few.values()]) < 2:
        parser.error("an interval needs at least 2 seeds.")
    about = {"evaluations": arguments.evaluations, "noise": arguments.noise}
    results = kept_results(arguments.json, about, parser)
    for name in arguments.tables.split(","):
        task = Task.of(arguments.folder, name, None)
        best = max(task.values.values())
        print(f"\n{name}: {len(task.values):,} networks, the best {best:.2f}", flush=True)
        print("| method | seeds | mean returned | deviation | best found | evaluations | CPU s | published |")
        print("|---|---|---|---|---|---|---|---|")
        for method in arguments.methods.split(","):
            seeds = few.get(method, arguments.seeds)
            found = judge(task, method, seeds, arguments.evaluations, arguments.noise)
            results.setdefault(name, {})[method] = found
            keep_results(arguments.json, about, results)
            mean, half = mean_interval(found["returned"])
            published = PUBLISHED.get(method, {}).get(name)
            print(
                f"| {method} | {seeds} | {mean:.2f} ± {half:.2f} | {np.std(found['returned'], ddof=1):.2f} "
                f"| {sum(value == best for value in found['returned'])} of {seeds} "
                f"| {np.mean(found['evaluations']):.0f} | {found['cpu_s']:.2f} "
                f"| {'' if published is None else '{:.2f} (deviation {:.2f})'.format(*published)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
