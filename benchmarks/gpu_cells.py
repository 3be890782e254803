"""Supernets and differentiable searches of cells at full size, in parts, and what tables of networks say of them.

    make gpu-long DATA=FOLDER TABLES=FOLDER PARTS="supernets cells"
    python benchmarks/gpu_cells.py --data imagefolder:DATA --tables FOLDER --output FOLDER \\
        --device cuda:0 --jobs 8 --minutes 8.5

`supernets` trains the supernets of NAS-Bench-Macro and NAS-Bench-201 by several schedules and ranks networks of the
tables by them. `cells` searches NAS-Bench-201 by DARTS, what keeps it from collapsing, GDAS, SNAS and DrNAS, with
several seeds; the table says what a cell is worth. Everything is done by commands of zenopt (`supernet train`,
`supernet rank`, `differentiable`), which OUTPUT/logs/NAME.log shows. What is in OUTPUT/results is not done again, and
what was cut off goes on from its last checkpoint: the same command until it says done. A ranking that is cut off
begins anew. After every part, OUTPUT/cells.md has the tables and OUTPUT/cells.json all figures.

TABLES has nas_bench_macro_cifar10.csv.gz and nb201_accuracy.csv.gz, in itself, in a folder `tables`, or beside it.
DATA is all of CIFAR-10 where the accuracies of the tables are to be compared with. Reduced, on a CPU:

    python benchmarks/gpu_cells.py --data imagefolder:DATA --tables FOLDER --output FOLDER --share 0.1 \\
        --resolution 16 --search-epochs 10 --supernet-epochs 10 --seeds 0,1 \\
        --method-set network.channels=4 --method-set network.cells=1
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import parts
from cells_page import page, search_figures, supernet_figures
from learned_search import TABLES
from nas_methods import CELLS
from supernet_rank import BENCHES, VARIANTS

from zenopt.cli.data_option import check_data
from zenopt.core.errors import ZenoptError
from zenopt.core.words import plural
from zenopt.executors.processes import available_cores
from zenopt.spaces.registry import get_space
from zenopt.spaces.tabular import space_table
from zenopt.train.distributed import resolve_device
from zenopt.train.errors import TrainError
from zenopt.train.folder import held

#: Steps between checkpoints within an epoch; a part that is cut off loses no more.
CHECKPOINT_STEPS = 100
#: Options that all figures of an output have in common.
SETTINGS = (
    "data", "device", "share", "resolution", "supernet_epochs", "search_epochs", "supernet_set", "search_set",
    "method_set", "sample", "images", "settling",
)  # fmt: skip


@dataclass(frozen=True)
class Training:
    """How the supernets of a benchmark are trained: table, epochs, fields of the recipe `supernet`, variants."""

    table: str
    epochs: int
    recipe: Sequence[str]
    variants: Sequence[str]


@dataclass(frozen=True)
class Method:
    """A differentiable search: method and regulariser of the command, and epochs as published for NAS-Bench-201."""

    name: str
    regulariser: str | None
    epochs: int


SUPERNETS = {
    "nasbench-macro": Training(
        "macro cifar10", 100, ("model.init=shortcuts",), ("uniform", "fair", "few-shot")
    ),
    # As single-path one-shot is reproduced on this space: SGD, 0.05 to 0, batches of 256, 250 epochs.
    "nasbench201": Training(
        CELLS[0],
        250,
        (
            "batch_size=256",
            "optimizer={name: sgd, lr: 0.05, momentum: 0.9, nesterov: false, weight_decay: 2.5e-4, clip_norm: 5}",
            "schedule.warmup_epochs=0",
        ),
        ("uniform", "fair", "few-shot", "close"),
    ),
}
METHODS = {
    "darts-v1": Method("darts-v1", None, 50),
    "darts-v2": Method("darts-v2", None, 50),
    "gdas": Method("gdas", None, 250),
    "snas": Method("snas", None, 100),
    "drnas": Method("drnas", None, 100),
    "darts-v1 with beta decay": Method("darts-v1", "beta-decay", 100),
    "darts-v1 ended by eigenvalue": Method("darts-v1", "eigenvalue", 50),
    "darts-v1 ended by skips": Method("darts-v1", "skips", 50),
}
PARTS = ("supernets", "cells")
EVERY = [f"{space}:{variant}" for space, own in SUPERNETS.items() for variant in own.variants]


@dataclass(frozen=True)
class Task:
    """Commands that come to one row of figures.

    Attributes:
        part: `supernets` or `cells`.
        of: What is trained or searched, and how; a row of the table.
        seed: Of it.
        name: Of its files.
        commands: In order, each with the file of its result.
    """

    part: str
    of: tuple[str, ...]
    seed: int
    name: str
    commands: tuple[parts.Command, ...]

    def missing(self) -> list[parts.Command]:
        """Return the commands whose results are not there."""
        return [own for own in self.commands if own.result is not None and not own.result.is_file()]

    def results(self) -> list[dict[str, Any]]:
        """Return what the commands printed, in order; all must be there."""
        assert not self.missing()
        return [json.loads(own.result.read_text()) for own in self.commands if own.result is not None]


# -- what is to be done ---------------------------------------------------------------------------------------------


def repeated(option: str, values: Iterable[object]) -> list[object]:
    return [word for value in values for word in (option, value)]


def common(args: argparse.Namespace, name: str) -> list[object]:
    """Return the options of a training, whatever it trains."""
    return [
        *repeated("--set", [f"resolution={args.resolution}"]), "--data", args.data, "--share", args.share,
        "--device", args.device, "--auto-resume", "--checkpoint-steps", CHECKPOINT_STEPS, "--json",
        "--output", args.output / "runs" / name,
    ]  # fmt: skip


def supernet_task(args: argparse.Namespace, table: Path, space: str, variant: str, seed: int) -> Task:
    """Return the training of a supernet, and the ranking of networks by it."""
    own, how, bench = SUPERNETS[space], VARIANTS[variant], BENCHES[space]
    name = f"{space}-{variant}-{seed}"
    results = args.output / "results"
    train = parts.zenopt_command(
        "supernet", "train", "--study", TABLES[own.table][0], "--whole-space", "--sampling", how.sampling,
        *(("--split", bench.split) if how.is_split else ()), *(("--schedule", how.schedule) if how.schedule else ()),
        "--epochs", args.supernet_epochs or own.epochs, *repeated("--recipe-set", (*own.recipe, *args.supernet_set)),
        "--images", args.images, "--settling", args.settling, "--seed", seed, *common(args, name),
        result=results / f"{name}-trained.json",
    )  # fmt: skip
    rank = parts.zenopt_command(
        "supernet", "rank", "--weights", args.output / "runs" / name, "--table", f"{table}#{bench.column}",
        "--sample", args.sample, "--device", args.device, "--json", result=results / f"{name}.json",
    )  # fmt: skip
    return Task("supernets", (space, variant), seed, name, (train, rank))


def search_task(args: argparse.Namespace, table: Path, label: str, seed: int) -> Task:
    """Return a differentiable search; its architecture becomes a trial of a study in OUTPUT/cells.db."""
    own, (preset, _, column) = METHODS[label], TABLES[CELLS[0]]
    name = f"{label.replace(' ', '-')}-{seed}"
    search = parts.zenopt_command(
        "differentiable", "--study", preset, "--set", f"objective.table={table}", "--set", f"objective.column={column}",
        "--method", own.name, *repeated("--regulariser", [own.regulariser] if own.regulariser else []),
        *repeated("--method-set", args.method_set), "--epochs", args.search_epochs or own.epochs,
        *repeated("--recipe-set", args.search_set), "--seed", seed,
        "--storage", f"sqlite:///{args.output / 'cells.db'}",
        *common(args, name), result=args.output / "results" / f"{name}.json",
    )  # fmt: skip
    return Task("cells", (label,), seed, name, (search,))


def tasks_of(args: argparse.Namespace, tables: Mapping[str, Path]) -> list[Task]:
    """Return everything that is asked for, as far as there are tables: supernets, then every method seed by seed."""
    found = []
    if "supernets" in args.parts:
        for seed in args.supernet_seeds:
            for space, _, variant in (name.partition(":") for name in args.supernets):
                table = SUPERNETS[space].table
                if table in tables:
                    found.append(supernet_task(args, tables[table], space, variant, seed))
    if "cells" in args.parts and CELLS[0] in tables:
        found += [
            search_task(args, tables[CELLS[0]], label, seed) for seed in args.seeds for label in args.methods
        ]
    return found


def find_tables(folder: Path) -> dict[str, Path]:
    """Return the tables that there are, by name; say which are not."""
    found = {}
    for name in (SUPERNETS["nasbench-macro"].table, CELLS[0]):
        file = Path(TABLES[name][1]).name
        places = (folder / file, folder / "tables" / file, folder.parent / file)
        path = next((own for own in places if own.is_file()), None)
        if path is None:
            print(f"{file} is not in {folder}: what needs it is left out.", flush=True)
        else:
            found[name] = path.resolve()
    return found


# -- the whole ------------------------------------------------------------------------------------------------------


def figures(tasks: Iterable[Task], tables: Mapping[str, Path]) -> dict[str, Any]:
    """Return all figures of what is done."""
    done = [task for task in tasks if not task.missing()]
    values: list[Mapping[str, float]] = []
    if CELLS[0] in tables:
        known = space_table(get_space("nasbench201")(), tables[CELLS[0]])
        values = [known.column(TABLES[name][2]) for name in CELLS]
    supernets, cells = ([task for task in done if task.part == part] for part in PARTS)
    return {
        "supernets": [supernet_figures(task.of, task.seed, *task.results()) for task in supernets],
        "cells": [search_figures(task.of[0], task.seed, values, *task.results()) for task in cells],
        "best_of_table": [max(own.values()) for own in values],
    }


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--tables", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--parts", default=",".join(PARTS), help="which, in which order")
    parser.add_argument("--supernets", default=",".join(EVERY), help="by default all")
    parser.add_argument("--supernet-seeds", default="0")
    parser.add_argument("--methods", default=",".join(METHODS), help="by default all")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="of the searches")
    parser.add_argument("--supernet-epochs", type=int, help="by default 100 and 250, by the space")
    parser.add_argument("--search-epochs", type=int, help="by default 50 to 250, as published for the method")
    parser.add_argument("--share", type=float, default=1.0, help="of the images")
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--supernet-set", action="append", default=[], metavar="KEY=VALUE", help="recipe")
    parser.add_argument("--search-set", action="append", default=[], metavar="KEY=VALUE", help="recipe")
    parser.add_argument("--method-set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--sample", type=int, default=500, help="networks that a supernet ranks")
    parser.add_argument("--images", type=int, default=1000, help="that judge a path")
    parser.add_argument("--settling", type=int, default=500, help="images for the statistics of a path")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1, help="trainings and searches at a time")
    parser.add_argument("--minutes", type=float, help="end the part then; the same command goes on")
    parser.add_argument("--until", type=float, help="the same as seconds since 1970")
    return parser


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options; end with one line where they are wrong."""
    parser = options()
    args = parser.parse_args(argv)
    for name, known in {"parts": PARTS, "methods": METHODS, "supernets": EVERY}.items():
        found = [own.strip() for own in getattr(args, name).split(",")]
        unknown = sorted(set(found) - set(known))
        if unknown:
            parser.exit(2, f"--{name}: {unknown[0]!r} is none of {', '.join(known)}.\n")
        setattr(args, name, found)
    try:
        args.seeds, args.supernet_seeds = (
            [int(seed) for seed in text.split(",")] for text in (args.seeds, args.supernet_seeds)
        )
    except ValueError as error:
        parser.exit(2, f"--seeds and --supernet-seeds are integers separated by commas: {error}.\n")
    if args.minutes is not None:
        args.until = time.time() + 60 * args.minutes
    try:
        check_data(args.data)
        args.device = str(resolve_device(args.device))
    except ZenoptError as error:
        parser.exit(2, f"{error}\n")
    args.settings = json.loads(json.dumps({name: getattr(args, name) for name in SETTINGS}))
    args.changed = {
        name: value
        for name, value in args.settings.items()
        if name not in ("data", "device") and value != parser.get_default(name)
    }
    kept = args.output / "settings.json"
    before = json.loads(kept.read_text()) if kept.is_file() else args.settings
    different = [name for name in SETTINGS if before[name] != args.settings[name]]
    if different:
        parser.exit(
            2,
            f"{args.output} holds figures of another --{different[0].replace('_', '-')} ({before[different[0]]}); "
            "choose another --output, or the same options.\n",
        )
    return args


def report(args: argparse.Namespace, tasks: Sequence[Task], tables: Mapping[str, Path]) -> int:
    """Write all figures, those of other calls too, print the tables, and return how many tasks are not done."""
    missing = [task for task in tasks if task.missing()]
    all_seeds = {key: range(max(getattr(args, key)) + 1) for key in ("seeds", "supernet_seeds")}
    every = {"parts": PARTS, "supernets": EVERY, "methods": list(METHODS), **all_seeds}
    known = tasks_of(argparse.Namespace(**{**vars(args), **every}), tables)
    content = {
        "environment": parts.environment(args.device), "settings": args.settings, "changed": args.changed,
        "done": len(tasks) - len(missing), "of": len(tasks), **figures(known, tables),
    }  # fmt: skip
    parts.write_json(args.output / "cells.json", content)
    (args.output / "cells.md").write_text(page(content), encoding="utf-8")
    for task in missing:
        log = args.output / "logs" / f"{task.name}.log"
        text = log.read_text("utf-8", "replace") if log.is_file() else ""
        if epochs := re.findall(r"^epoch (\d+)/(\d+)", text, re.M):
            print(f"{task.name}: {' of '.join(epochs[-1])} epochs")
    print(f"\n{page(content)}", flush=True)
    return len(missing)


def main() -> None:
    args = parse()
    tables = find_tables(args.tables)
    tasks = tasks_of(args, tables)
    if not tasks:
        raise SystemExit("Nothing can be done without tables.")
    began, logs = time.monotonic(), args.output / "logs"

    def say(name: str, code: int) -> None:
        how = f"failed with exit code {code}; {logs / name}.log says why" if code else "done"
        print(f"{name}: {how} ({time.monotonic() - began:.0f} s of this part)", flush=True)

    try:
        with held(args.output):
            (args.output / "results").mkdir(exist_ok=True)
            parts.write_json(args.output / "settings.json", args.settings)
            chains = {task.name: task.missing() for task in tasks}
            threads = max(1, available_cores() // args.jobs)
            failed = parts.side_by_side(
                chains, logs, jobs=args.jobs, until=args.until, threads=threads, told=say
            )
            missing = report(args, tasks, tables)
    except TrainError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on from the last checkpoints.", file=sys.stderr)
        raise SystemExit(130) from None
    if failed:
        raise SystemExit(f"{plural(len(failed), 'task')} failed: {', '.join(failed)}.")
    if missing:
        print(f"{missing} of {len(tasks)} are not done yet; run the same command again to go on.")
        raise SystemExit(parts.UNFINISHED)


if __name__ == "__main__":
    main()
