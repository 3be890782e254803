"""What a number of short trainings finds: random search, aging evolution, the second stage and the learned search.

    python benchmarks/real_trainings.py --data imagefolder:DATA --output FOLDER
    python benchmarks/real_trainings.py --data imagefolder:DATA --output FOLDER --whole --methods random,surrogate

Every method gets the same number of trainings (15, 30 and 60) on `cifar-small`, judged on training images held back, and chooses its
winner from them as `zenopt optimize` does: finalists with further seeds, which count as trainings. The winner is then trained with five
seeds on all training images and judged on the test images, which decided nothing. `--whole` searches without the preset's bounds
on kernels, bottlenecks and the last layer. Whatever is in FOLDER already is not done again; methods may run side by side.

Trainings of searches run at one learning rate (2), those of the second stage choose among 2 and 4 as the preset says, which is among the
trainings counted. `--amp` makes the trainings of searches, not those of winners, use bfloat16.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import optuna
import torch

from zenopt.core.seeds import derive_rng
from zenopt.samplers.guided import draw_candidates
from zenopt.storage import open_storage
from zenopt.study.search import run_search
from zenopt.study.spec import StudySpec
from zenopt.study.study import join_study, load_study
from zenopt.train.data import open_data
from zenopt.train.distributed import World
from zenopt.train.networks import NetworkSource
from zenopt.train.run import train
from zenopt.verify.candidates import facts_of
from zenopt.verify.final import Winner, choose, finish, run_second_stage
from zenopt.verify.linked import Candidate, Place, TrainingStudy, training_spec, verified

#: Networks of each class, and finalists, of a second stage of so many trainings: four classes at two rates, then the rest.
SECOND_STAGE = {15: (2, 2), 30: (6, 2), 60: (13, 3)}
WHOLE = "space.options={stage_strides: [1, 2, 2, 2], stem_stride: 1}"
EPOCHS = 6


def spec_of(method: str, args: argparse.Namespace, mark: int) -> StudySpec:
    settings = [f"training.data={args.data}", f"training.epochs={EPOCHS}", "training.pruner=none"]
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
    place = Place(storage, url, args.output / "runs")
    if method == "second stage":
        # Its searches cost seconds; only trainings count. The trainings of smaller marks are among those of larger ones.
        if name not in {study.study_name for study in storage.get_all_studies()}:
            run_search(spec, url, name, trials=spec.trials, workers=1, storage=storage, runs=place.runs)
        winner = run_second_stage(name, spec, place, print)
        return winner, trained(storage, f"{name}-trained")
    wanted = mark - spec.training.finalists * (spec.training.seeds - 1)
    if method == "random":
        # Draws of parameters hardly ever fit the budget: networks are drawn and shrunk into it.
        drawn = draw_candidates(
            spec.build_space(), spec.limits(), max(SECOND_STAGE), derive_rng(args.seed, 0, "random")
        )
        candidates = [Candidate("random", str(own), facts_of(str(own), spec)) for own in drawn[:wanted]]
        join_study(training_spec(spec), storage, f"{name}-trained", "cpu", linked=True)
        trainings = TrainingStudy(training_spec(spec), place, f"{name}-trained", of=None)
        rates = {"random": spec.training.rates[0]}
        winner = choose(trainings, verified(trainings.train(candidates, rates=rates)), rates, print)
        return winner, trained(storage, trainings.name)
    join_study(spec, storage, name, "cpu")
    while (count := trained(storage, name)) < wanted:
        run_search(spec, url, name, trials=wanted - count, workers=1, storage=storage, runs=place.runs)
        print(f"{name}: {trained(storage, name)} trainings", flush=True)
    return finish(name, spec, place, print), trained(storage, name)


def judge(winner: Winner, args: argparse.Namespace) -> list[float]:
    """Return the test accuracies of a winner, trained on all images with every seed."""
    best = winner.verified[0]
    spec = spec_of("random", args, 15)
    recipe = winner.recipe.at_rate(best.learning_rate)
    recipe = recipe.model_copy(update={"precision": recipe.precision.model_copy(update={"amp": None})})
    source = NetworkSource.from_structure(best.candidate.structure, spec.resolution, spec.use_se, "chain")
    found = []
    for seed in range(args.seeds):
        key = f"{abs(hash_of(best.candidate.structure)):x}-lr{best.learning_rate:g}-seed{seed}"
        history = train(
            source,
            open_data(args.data),
            recipe,
            output=args.output / "final" / key,
            world=World(0, 1, torch.device("cpu")),
            seed=seed,
            resume="auto",
            workers=0,
        ).history
        found.append(history[-1]["top1"])
    return found


def hash_of(text: str) -> int:
    import zlib

    return zlib.crc32(text.encode())


def run(method: str, mark: int, args: argparse.Namespace) -> dict[str, Any]:
    path = args.output / f"{method.replace(' ', '-')}{'-whole' * args.whole}-{args.seed}-{mark}.json"
    if path.is_file():
        return dict(json.loads(path.read_text()))
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--methods", default="random,aging,second stage,surrogate")
    parser.add_argument("--marks", default="15,30,60")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--amp", action="store_true")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    print(
        "| method | trainings | test top-1 %, mean | each seed | held back | rate | convs | params | M MACs |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for method in args.methods.split(","):
        for mark in map(int, args.marks.split(",")):
            row = run(method, mark, args)
            facts = row["facts"]
            print(
                f"| {method} | {row['trainings']} | {statistics.mean(row['top1']):.1f} "
                f"| {' '.join(f'{value:.2f}' for value in row['top1'])} "
                f"| {' '.join(f'{value:.1f}' for value in row['held_back'])} | {row['rate']:g} "
                f"| {facts['convs']:.0f} | {facts['params']:,.0f} | {facts['macs'] / 1e6:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
