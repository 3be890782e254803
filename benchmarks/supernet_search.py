"""What a search finds by a supernet and ten trainings: points below the best network of NAS-Bench-Macro.

    python benchmarks/supernet_search.py --weights macro-supernet --table nas_bench_macro_cifar10.csv.gz
        --scores paths.json [--seeds N] [--paths N] [--evaluations N] [--rows S] [--methods M,...]

A training is a look-up in the table, a path an evaluation of the supernet; its accuracy is certain, so those in
``--scores`` are not computed again, and an interrupted run goes on. The search in the supernet is aging evolution over
the listed networks. With ``--rows 0.6`` every seed has another random part of the table.

supernet        the ten best paths of the search, as ``zenopt derive --top 10`` gives them
supernet+macs   the ten best by the mean of the ranks that paths and multiply-adds have among the search's networks
macs, params    the ten of most
random          ten of the listed
surrogate       ten evaluations of the sampler that learns, begun with multiply-adds
informed        the same, begun with what the search in the supernet found (``sampler.surrogate.warm_start``)
drawn           the same, begun with as many random paths, from a pool of half as many more
drawn+macs      begun with multiply-adds (``sampler.surrogate.ranking``), but told of the random paths
predicted+macs  no sampler: the ten best by the mean rank of multiply-adds and of what the predictor makes of the paths
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import optuna
import torch
from learned_search import PATIENCE, Task

from zenopt.core.statistics import average_ranks
from zenopt.correlate.sample import draw_sample
from zenopt.predictors.earlier import InformedReader
from zenopt.predictors.networks import NetworkReader
from zenopt.samplers.candidates import Candidates
from zenopt.samplers.surrogate import SurrogateSampler
from zenopt.spaces.tabular import space_table
from zenopt.supernet.files import read_supernet
from zenopt.supernet.judging import PathJudge

TABLE, COLUMN = "macro cifar10", "mean_acc"


class Paths:
    """Accuracies of paths by text, each computed once and kept in a file."""

    def __init__(self, weights: Path, file: Path, parse: Callable[[str], object]) -> None:
        supernet = read_supernet(weights)
        self._judge = PathJudge(supernet, amp=supernet.facts.recipe.precision.amp)
        self._file, self._parse = file, parse
        self.known: dict[str, float] = json.loads(file.read_text()) if file.is_file() else {}

    def __getitem__(self, text: str) -> float:
        if text not in self.known:
            self.known[text] = self._judge.accuracy(self._parse(text))
            if len(self.known) % 20 == 0:
                self.keep()
        return self.known[text]

    def keep(self) -> None:
        """Write what is known."""
        fresh = self._file.with_suffix(".tmp")
        fresh.write_text(json.dumps(self.known))
        os.replace(fresh, self._file)


def evolved(task: Task, paths: Paths, seed: int, count: int) -> dict[str, float]:
    """Return the paths that an aging evolution evaluated, in order."""
    sampler, all_slots = task.sampler("aging", seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    found: dict[str, float] = {}
    idle = 0
    while len(found) < count and idle < PATIENCE:
        trial = study.ask()
        text = str(task.space.suggest(trial, all_slots=all_slots))
        if text not in task.values:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            idle += 1
            continue
        idle = idle + 1 if text in found else 0
        found[text] = paths[text]
        study.tell(trial, found[text])
    return found


def informed_candidates(task: Task, earlier: Mapping[str, float]) -> Candidates:
    """Return the candidates with what is expected of their paths as one more input, the last."""
    whole, limits = task.gathered(), task.spec.limits()
    reader = NetworkReader(task.space, limits.resolution, limits.num_classes)
    informed = InformedReader(reader, task.space, {"supernet": earlier})
    inputs = informed.read([task.space.parse(text) for text in whole.texts])
    return Candidates(whole.texts, inputs, informed, is_whole=True)


def learned(
    task: Task, seed: int, evaluations: int, candidates: Candidates, ranking: str = "auto"
) -> list[str]:
    """Return what the sampler ``surrogate`` evaluates."""
    sampler = SurrogateSampler(
        task.space, task.spec.limits(), seed=seed, candidates=candidates, ranking=ranking
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    found: dict[str, None] = {}
    while len(found) < evaluations:
        trial = study.ask()
        text = str(task.space.suggest(trial))
        study.tell(trial, task.values[text])
        found[text] = None
    return list(found)


def best_of(values: Mapping[str, float], count: int) -> list[str]:
    """Return the texts of the largest values; the first of equal ones."""
    return sorted(values, key=lambda text: -values[text])[:count]


def methods_of(
    task: Task, paths: Paths, pool: Sequence[str], seed: int, args: argparse.Namespace
) -> dict[str, Callable[[], Sequence[str]]]:
    """Return what each method evaluates in the table."""
    count = args.evaluations
    rng = np.random.default_rng(seed)
    limits = task.spec.limits()

    def costs(name: str, texts: Sequence[str]) -> dict[str, float]:
        return {text: float(getattr(limits.count(task.space.parse(text)), name)) for text in texts}

    def by_both(values: Mapping[str, float]) -> list[str]:
        macs = costs("macs", list(values))
        ranks = average_ranks(list(values.values())) + average_ranks(list(macs.values()))
        return best_of(dict(zip(values, ranks.tolist(), strict=True)), count)

    def drawn() -> dict[str, float]:
        texts = rng.permutation([text for text in pool if text in task.values]).tolist()[: args.paths]
        return {text: paths[text] for text in texts}

    def predicted() -> dict[str, float]:
        found = informed_candidates(task, drawn())
        return dict(zip(found.texts, found.inputs.matrix[:, -1].tolist(), strict=True))

    def informed(earlier: Mapping[str, float], ranking: str = "auto") -> list[str]:
        return learned(task, seed, count, informed_candidates(task, earlier), ranking)

    return {
        "random": lambda: rng.permutation(sorted(task.values)).tolist()[:count],
        "params": lambda: best_of(costs("params", sorted(task.values)), count),
        "macs": lambda: best_of(costs("macs", sorted(task.values)), count),
        "supernet": lambda: best_of(evolved(task, paths, seed, args.paths), count),
        "supernet+macs": lambda: by_both(evolved(task, paths, seed, args.paths)),
        "surrogate": lambda: learned(task, seed, count, task.gathered()),
        "informed": lambda: informed(evolved(task, paths, seed, args.paths)),
        "drawn": lambda: informed(drawn()),
        "drawn+macs": lambda: informed(drawn(), "log MACs"),
        "predicted+macs": lambda: by_both(predicted()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", required=True, type=Path)
    parser.add_argument("--table", required=True, type=Path)
    parser.add_argument("--scores", required=True, type=Path, help="file of the paths' accuracies (.json)")
    parser.add_argument(
        "--methods",
        default="random,params,macs,supernet,supernet+macs,surrogate,informed,drawn,drawn+macs,predicted+macs",
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--paths", type=int, default=200, help="paths that a search evaluates")
    parser.add_argument("--evaluations", type=int, default=10)
    parser.add_argument("--rows", type=float)
    parser.add_argument("--macs-share", type=float, help="a budget: this quantile of the multiply-adds")
    parser.add_argument("--near", type=float, default=0.1, help="points below the best that count as found")
    args = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    whole = Task.of(args.table.parent.parent, TABLE, args.macs_share)
    paths = Paths(args.weights, args.scores, whole.space.parse)
    # Those that ``zenopt supernet rank --sample`` draws.
    listed = space_table(whole.space.space, args.table)
    pool = [str(own) for own in draw_sample(listed, [COLUMN], whole.space, args.paths * 3 // 2, 0)]
    best = max(whole.values.values())
    print(
        f"{len(whole.values):,} networks, the best {best:.2f}; {args.evaluations} evaluations, {args.paths} paths"
    )
    for method in args.methods.split(","):
        regrets = []
        with tempfile.TemporaryDirectory() as folder:
            for seed in range(args.seeds):
                task = (
                    whole if args.rows is None else whole.part(args.rows, seed, Path(folder) / f"{seed}.csv")
                )
                chosen = methods_of(task, paths, pool, seed, args)[method]()
                regrets.append(max(task.values.values()) - max(task.values[text] for text in chosen))
        paths.keep()
        low, middle, high = np.quantile(regrets, (0.25, 0.5, 0.75))
        found = sum(regret <= args.near + 1e-9 for regret in regrets)
        print(
            f"{method:14} {middle:.2f} [{low:.2f}, {high:.2f}] points below the best, mean {np.mean(regrets):.2f}, "
            f"worst {max(regrets):.2f}; within {args.near:g} in {found} of {args.seeds}",
            flush=True,
        )


if __name__ == "__main__":
    main()
