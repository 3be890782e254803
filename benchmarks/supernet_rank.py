"""How well supernets rank NAS-Bench-Macro: Kendall's tau with the table's accuracies after trainings of several costs.

    python benchmarks/supernet_rank.py --data imagefolder:DATA --table CSV --output FOLDER
    python benchmarks/supernet_rank.py ... --variants fair --epochs 12 --resolution 16 --sample 200

CSV is nas_bench_macro_cifar10.csv.gz. A variant is a way of sampling at a number of epochs. Every supernet is trained
on all but a tenth of the training images and judges paths on that tenth; the table's accuracies decide nothing. What is
in FOLDER already is not done again, and an interrupted training goes on. MACs alone reach .556 over the whole table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any, get_args

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
from zenopt.supernet.training import SupernetPlan, check_recipe, split, train_supernet
from zenopt.train.data import open_data
from zenopt.train.distributed import World, resolve_device
from zenopt.train.recipe import load_recipe

SPACE, COLUMN = "nasbench-macro", "mean_acc"
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


def trained(sampling: Sampling, epochs: int, args: argparse.Namespace) -> Path:
    """Train a supernet unless that is done; return its folder."""
    folder: Path = args.output / f"{sampling}-{epochs}-{args.resolution}px-seed{args.seed}"
    try:
        read_supernet(folder)
    except CheckpointError:
        limits = Limits(Budget(), args.resolution, 10)
        plan = SupernetPlan(get_space(SPACE)(), SPACE, {}, limits, sampling, args.seed)
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
    parser.add_argument("--data", required=True)
    parser.add_argument("--table", required=True, type=Path)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--variants", default="uniform,fair")
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
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    space = get_space(SPACE)()
    known = space_table(space, args.table)
    architectures = draw_sample(known, [COLUMN], space, args.sample or None, args.seed)
    rows = []
    for sampling in args.variants.split(","):
        if sampling not in get_args(Sampling):
            parser.error(f"--variants: {sampling} is none of {', '.join(get_args(Sampling))}")
        for epochs in map(int, args.epochs.split(",")):
            folder = trained(sampling, epochs, args)
            supernet = read_supernet(folder)
            judge: Any = PathJudge(supernet, args.device, args.images, args.settling, args.judge_amp)
            if args.batch_statistics:
                judge = OfBatches(judge)
            started = time.process_time()
            found = rank(supernet, architectures, known.column(COLUMN), judge, seed=args.seed)
            each = (time.process_time() - started) / len(found.known)
            tau, macs = found.statistics.kendall, found.of_costs["macs"].kendall
            minutes = float((folder / CPU_SECONDS).read_text()) / 60
            mean = statistics.fmean(found.accuracies.values())
            rows.append((sampling, epochs, minutes, mean, tau.value, tau.low, tau.high, macs.value, each))
            print(
                f"{sampling:8} {epochs:4} epochs {minutes:6.1f} CPU min: Kendall {shown(tau)}, MACs {shown(macs)}, "
                f"{len(found.known)} networks of {mean:.1f} % on average, {each:.2f} CPU s each",
                flush=True,
            )
    keys = ("sampling", "epochs", "minutes", "accuracy", "kendall", "low", "high", "macs", "seconds_each")
    (args.output / "ranks.json").write_text(
        json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=2)
    )


if __name__ == "__main__":
    main()
