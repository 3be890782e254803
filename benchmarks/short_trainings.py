"""What short trainings save: full trainings until a search has one of the best networks of a table of learning curves.

    python benchmarks/short_trainings.py TABLE [--study darts-table] [--curve 10=valid_acc10,50=valid_acc50]
        [--methods M,...] [--seeds N] [--rows S] [--top S] [--budget N]

TABLE has a column of values for each of some lengths of training. A method is a sampler, or ``SAMPLER+PRUNER``: then a
look-up is ended after the first length where the pruner says so, and costs its share of a full training. A search
ends when it has trained one of the best networks (``--top``) to the end. Every seed searches another random part of
the table.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import optuna
from scipy.stats import kendalltau

from zenopt.core.errors import BudgetError
from zenopt.core.tables import Table
from zenopt.spaces.tabular import space_table
from zenopt.study.objective import Objective, run_trial
from zenopt.study.pruners import make_pruner
from zenopt.study.sampling import make_sampler
from zenopt.study.spec import StudySpec
from zenopt.study.study import join_study, load_study

METHODS = (
    "random", "random+halving", "random+median", "random+percentile", "aging", "aging+halving", "surrogate",
    "surrogate+halving", "surrogate+median", "surrogate+percentile",
)  # fmt: skip


def write_part(table: Table, curve: Mapping[int, str], rows: float, seed: int, file: Path) -> None:
    """Write a random part of the networks that have all values."""
    columns = {epoch: table.column(name) for epoch, name in curve.items()}
    texts = [text for text in table.structures if all(text in own for own in columns.values())]
    chosen = np.random.default_rng(seed).permutation(len(texts))[: round(rows * len(texts))]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["structure", *curve.values()])
        for index in sorted(chosen.tolist()):
            writer.writerow([texts[index], *(own[texts[index]] for own in columns.values())])


def search(spec: StudySpec, level: float, budget: float) -> tuple[float, int, int]:
    """Return the full trainings until a value reaches a level, how many ran to the end, and how many were ended."""
    last = max(spec.objective.columns_by_epoch)
    storage = optuna.storages.InMemoryStorage()
    spec = join_study(spec, storage, "one", "cpu")
    study = load_study(storage, "one", make_sampler(spec), make_pruner(spec))
    objective = Objective(spec, study)
    cost, full, short, drawn = 0.0, 0, 0, 0
    while cost < budget and drawn < 5000:
        if spec.sampler.name == "random":
            # Uniform parameters hit nothing that a sparse table lists.
            order = np.random.default_rng(spec.seed).permutation(
                list(map(str, objective._space.architectures()))
            )
            if drawn == len(order):
                break
            study.enqueue_trial(objective._space.encode(objective._space.parse(order[drawn])))
        drawn += 1
        try:
            run_trial(study, objective)
        except BudgetError:
            # Everything was trained, the best ones not to their end.
            break
        trial = study.get_trials(deepcopy=False)[-1]
        if "duplicate_of" in trial.user_attrs or not trial.intermediate_values:
            continue
        cost += max(trial.intermediate_values) / last
        is_full = trial.state == optuna.trial.TrialState.COMPLETE
        full, short = full + is_full, short + (not is_full)
        if is_full and trial.value is not None and trial.value >= level:
            return cost, full, short
    return np.inf, full, short


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path)
    parser.add_argument("--study", default="darts-table")
    parser.add_argument("--curve", default="10=valid_acc10,50=valid_acc50", metavar="EPOCHS=COLUMN,...")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--rows", type=float, default=0.6)
    parser.add_argument("--top", type=float, default=0.01)
    parser.add_argument(
        "--budget", type=float, default=100.0, help="Full trainings after which a search is given up."
    )
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    curve = {int(epoch): column for epoch, column in (own.split("=") for own in arguments.curve.split(","))}
    settings = {"objective.table": str(arguments.table), "objective.column": curve[max(curve)]}
    spec = StudySpec.load(arguments.study, settings)
    whole = space_table(spec.space.build(), arguments.table)
    final = whole.column(curve[max(curve)])
    for epoch, column in sorted(curve.items())[:-1]:
        values = whole.column(column)
        both = [text for text in final if text in values]
        tau = kendalltau([values[text] for text in both], [final[text] for text in both]).statistic
        print(f"{len(both)} networks: values after {epoch} epochs and after {max(curve)}, Kendall {tau:.2f}")
    with tempfile.TemporaryDirectory() as folder:
        for method in arguments.methods.split(","):
            sampler, _, pruner = method.partition("+")
            costs, fulls, shorts = [], [], []
            for seed in range(arguments.seeds):
                file = Path(folder) / f"{seed}.csv"
                if not file.exists():
                    write_part(whole, curve, arguments.rows, seed, file)
                own = spec.overridden(
                    {
                        "objective.table": str(file),
                        "objective.columns_by_epoch": curve,
                        "sampler": {"name": sampler},
                        "training.pruner": pruner or "none",
                        "seed": seed,
                    }
                )
                listed = sorted(space_table(own.space.build(), file).column(curve[max(curve)]).values())
                level = listed[-max(1, round(arguments.top * len(listed)))]
                cost, full, short = search(own, level, arguments.budget)
                costs.append(cost)
                fulls.append(full)
                shorts.append(short)
            low, middle, high = np.quantile(costs, (0.25, 0.5, 0.75), method="inverted_cdf")
            print(
                f"{method:20} {middle:6.1f} [{low:.1f}, {high:.1f}] full trainings; on average {np.mean(fulls):.1f} to "
                f"the end and {np.mean(shorts):.1f} short ones",
                flush=True,
            )


if __name__ == "__main__":
    main()
