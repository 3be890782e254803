"""Hypervolume over evaluations on NAS-Bench-201: accuracy up, MACs down, by sampler.

    python benchmarks/nasbench201_pareto.py --table nb201_accuracy.csv.gz --seeds 10

Hypervolume is relative to that of the whole table; the reference point is 80 % accuracy and the largest MACs. Only
evaluated architectures count: proposals that the table does not list are drawn again at no cost.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
import optuna

from zenopt.core.budget import Budget
from zenopt.core.costs import count
from zenopt.core.pareto import front_numbers, hypervolume
from zenopt.core.tables import load_table
from zenopt.latency.limits import Limits
from zenopt.samplers import ZenSampler
from zenopt.spaces.nasbench201.space import NasBench201Space
from zenopt.spaces.tabular import TabularSpace

REFERENCE_ACCURACY = 80.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", required=True)
    parser.add_argument("--column", default="cifar10_test")
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", nargs="*", help="names of samplers; by default all")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    space = TabularSpace(NasBench201Space(), options.table, options.column)
    truth = load_table(options.table).column(options.column)
    limits = Limits(Budget(), resolution=32, num_classes=10)
    macs = {str(cell): count(cell, 32, 10).macs / 1e6 for cell in space.architectures()}
    points = np.array([(truth[text], -macs[text]) for text in macs])
    reference = (REFERENCE_ACCURACY, -max(macs.values()))
    whole = hypervolume(points[front_numbers(points, 1) == 0], reference)

    samplers = {
        "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
        "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
        "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=32),
        "zen": lambda seed: ZenSampler(space, limits, seed=seed, population_size=32),
        "zen, 32 random first": lambda seed: ZenSampler(
            space, limits, seed=seed, population_size=32, random_initial=32
        ),
    }
    marks = [mark for mark in (25, 50, 100, 200, 400) if mark <= options.evaluations]
    print(f"share of the table's hypervolume ({len(macs)} architectures), mean of {options.seeds} seeds")
    print("| sampler | " + " | ".join(f"{mark} evaluations" for mark in marks) + " |")
    print("|---" * (len(marks) + 1) + "|")
    for name, make in samplers.items():
        if options.only and name not in options.only:
            continue
        shares = []
        for seed in range(options.seeds):
            study = optuna.create_study(directions=["maximize", "minimize"], sampler=make(seed))
            found: list[tuple[float, float]] = []
            while len(found) < options.evaluations:
                trial = study.ask()
                text = str(space.suggest(trial))
                trial.set_user_attr("structure", text)
                if text not in truth:
                    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                    continue
                study.tell(trial, [truth[text], macs[text]])
                found.append((truth[text], -macs[text]))
            shares.append([hypervolume(found[:mark], reference) / whole for mark in marks])
        means = [statistics.fmean(column) for column in zip(*shares, strict=True)]
        print(f"| {name} | {' | '.join(f'{value:.4f}' for value in means)} |", flush=True)


if __name__ == "__main__":
    main()
