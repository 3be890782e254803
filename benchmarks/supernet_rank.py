"""How well supernets rank networks of a benchmark: Kendall's tau with a table's accuracies after trainings of one cost.

    python benchmarks/supernet_rank.py --data imagefolder:DATA --table CSV --output FOLDER
    python benchmarks/supernet_rank.py ... --variants fair,few-shot --epochs 12 --resolution 16 --sample 200 --seeds 0,1
    python benchmarks/supernet_rank.py ... --space nasbench201 --variants fair,close

CSV is nas_bench_macro_cifar10.csv.gz, or nb201_accuracy.csv.gz. A variant at a number of epochs is a supernet, trained
on all but a tenth of the training images, that judges paths on that tenth; the table's accuracies decide nothing. Equal
epochs are equal numbers of steps, each of one path. What is in FOLDER already is not done again, and an interrupted
training goes on. MACs alone reach .556 over the whole table of NAS-Bench-Macro.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch

from zenopt.core.budget import Budget
from zenopt.core.errors import CheckpointError
from zenopt.core.statistics import Interval
from zenopt.correlate.sample import draw_sample
from zenopt.latency.limits import Limits
from zenopt.spaces.registry import get_space
from zenopt.spaces.tabular import space_table
from zenopt.supernet.files import read_supernet
from zenopt.supernet.judging import PathJudge
from zenopt.supernet.rank import rank
from zenopt.supernet.sampling import Sampling
from zenopt.supernet.schedule import load_schedule
from zenopt.supernet.training import SupernetPlan, check_recipe, split, train_supernet
from zenopt.train.data import open_data
from zenopt.train.distributed import World, resolve_device
from zenopt.train.recipe import load_recipe


@dataclass(frozen=True)
class Bench:
    """Whose networks are ranked: column of their accuracies, and the parameter whose values split supernets."""

    column: str
    split: str


@dataclass(frozen=True)
class Variant:
    """How a supernet is trained: how paths are drawn, whether it is split, and the schedule."""

    sampling: Sampling
    is_split: bool = False
    schedule: str | None = None


BENCHES = {
    "nasbench-macro": Bench("mean_acc", "layer1"),
    "nasbench201": Bench("cifar10_test", "edge03"),
}
VARIANTS = {
    "uniform": Variant("uniform"),
    "fair": Variant("fair"),
    "sandwich": Variant("sandwich"),
    # Parts from the first step, and after a beginning together.
    "split": Variant("fair", is_split=True),
    "few-shot": Variant("fair", is_split=True, schedule="few-shot"),
    "close": Variant("fair", schedule="sharing-curriculum"),
}
#: File of the seconds that a training took of all cores.
CPU_SECONDS = "cpu_seconds.txt"


class OfBatches:
    """Judges paths without statistics of their own: batch normalisation takes those of the judged batch."""

    def __init__(self, judge: PathJudge) -> None:
        self._judge = judge

    @torch.inference_mode()
    def accuracy(self, architecture: Any) -> float:
        network = self._judge.network(architecture)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train()
        return self._judge.accuracy_of(network)


def trained(variant: str, epochs: int, seed: int, args: argparse.Namespace) -> Path:
    """Train a supernet unless that is done; return its folder."""
    folder: Path = args.output / f"{variant}-{epochs}-{args.resolution}px-seed{seed}"
    try:
        read_supernet(folder)
    except CheckpointError:
        how, limits = VARIANTS[variant], Limits(Budget(), args.resolution, 10)
        plan = SupernetPlan(
            get_space(args.space)(**args.options),
            args.space,
            args.options,
            limits,
            how.sampling,
            seed,
            schedule=load_schedule(how.schedule) if how.schedule else None,
            split=(args.split or BENCHES[args.space].split,) if how.is_split else (),
            initial=args.initial_weights,
        )
        recipe = check_recipe(load_recipe("supernet", args.set, epochs=epochs))
        world = World(0, 1, resolve_device(args.device))
        data = split(open_data(args.data), args.held_back, plan)
        started = time.process_time()
        train_supernet(
            plan, data, recipe, output=folder, world=world, resume="auto", workers=0, judged=args.images
        )
        # The machine may be busy: what an interrupted training had taken is missing here.
        (folder / CPU_SECONDS).write_text(f"{time.process_time() - started:.0f}")
    return folder


def shown(found: Interval) -> str:
    """Return a correlation with its interval; it is undefined where all accuracies are equal."""
    if found.value is None or found.low is None or found.high is None:
        return "undefined"
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", choices=BENCHES, default="nasbench-macro")
    parser.add_argument(
        "--options", type=json.loads, default={}, help='of the space, e.g. \'{"channels": 16, "cells": 1}\''
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--table", required=True, type=Path)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--variants", default="uniform,fair", help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--split", metavar="PARAMETER", help="whose values are the parts of split supernets")
    parser.add_argument(
        "--initial-weights", type=Path, metavar="DIR", help="trained supernet that all begin with"
    )
    parser.add_argument("--epochs", default="10,30")
    parser.add_argument("--resolution", type=int, default=32, help="px; 16 costs a quarter")
    parser.add_argument("--sample", type=int, default=300, help="networks of the table; 0 takes all")
    parser.add_argument("--held-back", type=float, default=0.1, help="share of the training images")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--settling", type=int, default=500)
    parser.add_argument("--judge-amp", choices=["bf16", "fp16"], help="lower precision of the judging")
    parser.add_argument(
        "--batch-statistics", action="store_true", help="judge by the statistics of the judged batches"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of recipe supernet",
    )
    parser.add_argument("--seeds", default="0", help="of the trainings; the networks are the same")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    space, column = get_space(args.space)(**args.options), BENCHES[args.space].column
    known = space_table(space, args.table)
    architectures = draw_sample(known, [column], space, args.sample or None, 0)
    rows = []
    for variant, epochs, seed in product(
        args.variants.split(","), map(int, args.epochs.split(",")), map(int, args.seeds.split(","))
    ):
        if variant not in VARIANTS:
            parser.error(f"--variants: {variant} is none of {', '.join(VARIANTS)}")
        folder = trained(variant, epochs, seed, args)
        supernet = read_supernet(folder)
        judge: Any = PathJudge(supernet, args.device, args.images, args.settling, args.judge_amp)
        if args.batch_statistics:
            judge = OfBatches(judge)
        started = time.process_time()
        found = rank(supernet, architectures, known.column(column), judge)
        each = (time.process_time() - started) / len(found.known)
        tau, macs = found.statistics.kendall, found.of_costs["macs"].kendall
        minutes = float((folder / CPU_SECONDS).read_text()) / 60
        mean = statistics.fmean(found.accuracies.values())
        rows.append((variant, epochs, seed, minutes, mean, tau.value, tau.low, tau.high, macs.value, each))
        print(
            f"{variant:8} {epochs:4} epochs, seed {seed} {minutes:6.1f} CPU min: Kendall {shown(tau)}, "
            f"MACs {shown(macs)}, {len(found.known)} networks of {mean:.1f} % on average, {each:.2f} CPU s each",
            flush=True,
        )
    keys = (
        "variant",
        "epochs",
        "seed",
        "minutes",
        "accuracy",
        "kendall",
        "low",
        "high",
        "macs",
        "seconds_each",
    )
    name = "ranks-batch.json" if args.batch_statistics else "ranks.json"
    (args.output / name).write_text(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=2))


if __name__ == "__main__":
    main()
