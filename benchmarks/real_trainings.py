"""What a number of short trainings finds: random search, aging evolution, the second stage and the learned search.

    python benchmarks/real_trainings.py --data imagefolder:DATA --output FOLDER
    python benchmarks/real_trainings.py --data imagefolder:DATA --output FOLDER --whole --methods random,surrogate

Every method gets the same number of trainings (15, 30 and 60) on `cifar-small`, judged on training images held
back, and chooses its winner from them as `zenopt optimize` does: finalists with further seeds, which count as
trainings. The winner is then trained with five seeds on all training images and judged on the test images, which
decided nothing. `--whole` searches without the preset's bounds on kernels, bottlenecks and the last layer.
Whatever is in FOLDER already is not done again; methods may run side by side.

On a GPU, and in parts, each of which goes on where the last one stopped (`make gpu-long`):

    python benchmarks/real_trainings.py --data imagefolder:DATA --output FOLDER --marks 60 --seed 0,1,2 --epochs 30 \\
        --methods "random,second stage,surrogate" --device cuda:0 --workers 2 --jobs 9 --minutes 8.5

Trainings of searches run at one learning rate (2), those of the second stage choose among 2 and 4 as the preset
says, which is among the trainings counted. `--amp` makes all trainings use bfloat16.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

import optuna
import parts
import torch

from zenopt.core.errors import ZenoptError
from zenopt.core.seeds import derive_rng
from zenopt.samplers.guided import draw_candidates
from zenopt.storage import open_storage
from zenopt.study.search import run_search
from zenopt.study.spec import StudySpec
from zenopt.study.study import join_study, load_study
from zenopt.train.data import open_data
from zenopt.train.distributed import World, resolve_device
from zenopt.train.networks import NetworkSource
from zenopt.train.run import train
from zenopt.verify.candidates import facts_of
from zenopt.verify.final import Winner, choose, finish, run_second_stage
from zenopt.verify.linked import Candidate, Place, TrainingStudy, training_spec, verified

#: Networks of each class, and finalists, of a second stage of so many trainings: four classes at two rates, the rest.
SECOND_STAGE = {15: (2, 2), 30: (6, 2), 60: (13, 3)}
WHOLE = "space.options={stage_strides: [1, 2, 2, 2], stem_stride: 1}"
EPOCHS = 6


class OutOfTime(Exception):
    """The part is over; the next one goes on."""


class Clock:
    """Ends a part at a time of day: first as a Ctrl-C does, which lets trainings come to their ends, then at once.

    Checkpoints are written after every epoch, so that the next part does at most one epoch of each training again.
    """

    def __init__(self, until: float | None) -> None:
        self.is_over = False
        self._end = math.inf if until is None else until
        if until is not None:
            signal.signal(signal.SIGTERM, self._interrupt)
            threading.Thread(target=self._run, daemon=True).start()

    def check(self) -> None:
        if self.is_over:
            raise OutOfTime

    def _run(self) -> None:
        for before_s in (parts.LAST_START_S, parts.LAST_END_S, 0):
            time.sleep(max(0.0, self._end - before_s - time.time()))
            self.is_over = True
            os.kill(os.getpid(), signal.SIGTERM)

    def _interrupt(self, *_: object) -> None:
        # Searches have a handler of their own; here is what lies between them, and the final trainings.
        if self._end - parts.LAST_END_S <= time.time() + 1:
            raise OutOfTime


def spec_of(method: str, args: argparse.Namespace, mark: int) -> StudySpec:
    settings = [f"training.data={args.data}", f"training.epochs={args.epochs}", "training.pruner=none"]
    settings += [f"seed={args.seed}"]
    settings += [WHOLE] * args.whole
    settings += ["training.overrides=[precision.amp=bf16]"] * args.amp
    if method == "second stage":
        per_class, finalists = SECOND_STAGE[mark]
        settings += [f"training.per_class={per_class}", f"training.finalists={finalists}"]
    else:
        settings += [f"sampler.name={method}", "objective.kind=train", "objective.then=null"]
        settings += ["classes=[]", "training.rates=[2]"]
    return StudySpec.load("cifar-small", settings)


def trained(storage: optuna.storages.BaseStorage, name: str) -> int:
    """Return the number of trainings of a study."""
    if name not in {study.study_name for study in storage.get_all_studies()}:
        return 0
    trials = load_study(storage, name).get_trials(deepcopy=False)
    return sum(bool(trial.intermediate_values) and "duplicate_of" not in trial.user_attrs for trial in trials)


def search(method: str, args: argparse.Namespace, mark: int) -> tuple[Winner, int]:
    """Return the winner of a method, and the number of trainings that it rests on."""
    name = f"{method.replace(' ', '-')}{'-whole' * args.whole}-{args.seed}"
    url = f"sqlite:///{args.output / name}.db"
    storage = open_storage(url)
    spec = spec_of(method, args, mark)
    place = Place(storage, url, args.output / "runs", devices=(args.device,), workers=args.workers)
    if method == "second stage":
        # Its searches cost seconds; only trainings count. Those of smaller marks are among those of larger ones.
        missing = spec.trials - settled(storage, name)
        if missing > 0:
            run_search(
                spec,
                url,
                name,
                trials=missing,
                workers=1,
                devices=place.devices,
                storage=storage,
                runs=place.runs,
            )
        args.clock.check()
        winner = run_second_stage(name, spec, place, print)
        return winner, trained(storage, f"{name}-trained")
    wanted = mark - spec.training.finalists * (spec.training.seeds - 1)
    if method == "random":
        # Draws of parameters hardly ever fit the budget: networks are drawn and shrunk into it.
        drawn = draw_candidates(
            spec.build_space(), spec.limits(), max(SECOND_STAGE), derive_rng(args.seed, 0, "random")
        )
        candidates = [Candidate("random", str(own), facts_of(str(own), spec)) for own in drawn[:wanted]]
        join_study(training_spec(spec), storage, f"{name}-trained", args.device, linked=True)
        trainings = TrainingStudy(training_spec(spec), place, f"{name}-trained", of=None)
        rates = {"random": spec.training.rates[0]}
        winner = choose(trainings, verified(trainings.train(candidates, rates=rates)), rates, print)
        return winner, trained(storage, trainings.name)
    join_study(spec, storage, name, args.device)
    while (count := trained(storage, name)) < wanted:
        args.clock.check()
        run_search(
            spec, url, name, trials=wanted - count, workers=args.workers, devices=place.devices, storage=storage,
            runs=place.runs,
        )  # fmt: skip
        print(f"{name}: {trained(storage, name)} trainings", flush=True)
    return finish(name, spec, place, print), trained(storage, name)


def judge(winner: Winner, args: argparse.Namespace) -> list[float]:
    """Return the test accuracies of a winner, trained on all images with every seed."""
    best = winner.verified[0]
    spec = spec_of("random", args, 15)
    recipe = winner.recipe.at_rate(best.learning_rate)
    source = NetworkSource.from_structure(best.candidate.structure, spec.resolution, spec.use_se, "chain")
    found = []
    for seed in range(args.seeds):
        args.clock.check()
        key = f"{abs(hash_of(best.candidate.structure)):x}-lr{best.learning_rate:g}-seed{seed}"
        history = train(
            source,
            open_data(args.data),
            recipe,
            output=args.output / "final" / key,
            world=World(0, 1, torch.device(args.device)),
            seed=seed,
            resume="auto",
            workers=0,
        ).history
        found.append(history[-1]["top1"])
    return found


def settled(storage: optuna.storages.BaseStorage, name: str) -> int:
    """Return the number of finished trials of a study."""
    if name not in {study.study_name for study in storage.get_all_studies()}:
        return 0
    return sum(trial.state.is_finished() for trial in load_study(storage, name).get_trials(deepcopy=False))


def hash_of(text: str) -> int:
    import zlib

    return zlib.crc32(text.encode())


def result_of(method: str, mark: int, args: argparse.Namespace) -> Path:
    return args.output / f"{method.replace(' ', '-')}{'-whole' * args.whole}-{args.seed}-{mark}.json"


def run(method: str, mark: int, args: argparse.Namespace) -> dict[str, Any]:
    path = result_of(method, mark, args)
    if path.is_file():
        return dict(json.loads(path.read_text()))
    args.clock.check()
    winner, count = search(method, args, mark)
    best = winner.verified[0]
    top1 = judge(winner, args)
    found = {
        "method": method,
        "space": "whole" if args.whole else "bounded",
        "mark": mark,
        "trainings": count,
        "structure": best.candidate.structure,
        "facts": dict(best.candidate.facts),
        "rate": best.learning_rate,
        "held_back": list(best.top1),
        "top1": top1,
    }
    path.write_text(json.dumps(found, indent=1))
    return found


def side_by_side(args: argparse.Namespace, wanted: list[tuple[str, int]]) -> None:
    """Do methods and seeds as processes of this program, `--jobs` at a time; each writes FOLDER/METHOD-SEED.log."""
    same = ["--data", args.data, "--output", args.output, "--marks", args.marks, "--seeds", args.seeds]
    same += ["--epochs", args.epochs, "--device", args.device, "--workers", args.workers]
    same += ["--whole"] * args.whole + ["--amp"] * args.amp + ["--parent", os.getpid()]
    same += [] if args.until is None else ["--until", args.until]
    chains = {}
    for method, seed in wanted:
        words = [sys.executable, __file__, "--methods", method, "--seed", seed, *same]
        chains[f"{method.replace(' ', '-')}-{seed}"] = [parts.Command([str(word) for word in words])]
    failed = parts.side_by_side(chains, args.output, jobs=args.jobs, until=args.until, has_clocks=True)
    if failed:
        name = next(iter(failed))
        raise SystemExit(f"{name} failed; {args.output / name}.log says why.")


def show(method: str, row: dict[str, Any]) -> None:
    facts = row["facts"]
    print(
        f"| {method} | {row['trainings']} | {statistics.mean(row['top1']):.1f} "
        f"| {' '.join(f'{value:.2f}' for value in row['top1'])} "
        f"| {' '.join(f'{value:.1f}' for value in row['held_back'])} | {row['rate']:g} "
        f"| {facts['convs']:.0f} | {facts['params']:,.0f} | {facts['macs'] / 1e6:.2f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--methods", default="random,aging,second stage,surrogate")
    parser.add_argument("--marks", default="15,30,60")
    parser.add_argument("--seeds", type=int, default=5, help="of every winner's final trainings")
    parser.add_argument("--seed", default="0", help="of the searches; several with commas")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--amp", action="store_true")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=1, help="trainings at a time in a search")
    parser.add_argument("--jobs", type=int, default=1, help="methods and seeds at a time")
    parser.add_argument("--minutes", type=float, help="end the part then; the same command goes on")
    parser.add_argument("--until", type=float, help="the same as seconds since 1970")
    # For its own processes.
    parser.add_argument("--parent", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    try:
        resolve_device(args.device)
    except ZenoptError as error:
        parser.exit(2, f"{error}\n")
    if args.parent is not None:
        parts.watch_parent(args.parent)
    if args.minutes is not None:
        args.until = time.time() + 60 * args.minutes
    args.output.mkdir(parents=True, exist_ok=True)
    # Its processes have clocks of their own; it waits for them.
    args.clock = Clock(None if args.jobs > 1 else args.until)
    marks = [int(mark) for mark in args.marks.split(",")]
    wanted = [(method, int(seed)) for seed in args.seed.split(",") for method in args.methods.split(",")]
    if args.jobs > 1:
        side_by_side(args, wanted)
    print(
        "| method | trainings | test top-1 %, mean | each seed | held back | rate | convs | params | M MACs |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    missing = 0
    for method, seed in wanted:
        args.seed = seed
        for mark in marks:
            path = result_of(method, mark, args)
            try:
                if args.jobs == 1:
                    run(method, mark, args)
            except (OutOfTime, ZenoptError, KeyboardInterrupt):
                # A search that was ended says in an error of its own what it has not done.
                if not args.clock.is_over:
                    raise
            if path.is_file():
                show(method, json.loads(path.read_text()))
            missing += not path.is_file()
    if missing:
        whole = len(wanted) * len(marks)
        print(f"{missing} of {whole} results are not there yet; run the same command again to go on.")
        raise SystemExit(parts.UNFINISHED)


if __name__ == "__main__":
    main()
