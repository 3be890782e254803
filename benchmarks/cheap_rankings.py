"""Rank networks that were trained by what costs nothing: Kendall's tau of rankings with accuracy.

    python benchmarks/cheap_rankings.py sqlite:///FOLDER/random-0.db#random-0-trained
    python benchmarks/cheap_rankings.py superres_trained_cifar10.csv#top1_percent --where epochs=6

A study says itself of which space its networks are; those of a table are of ``cifar-small`` without its bounds.
Networks trained several times count once, with their mean. "At equal convolutions" compares with 3,000 random networks
within the budget. Intervals are 95 % bootstrap intervals over networks.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
from real_trainings import WHOLE
from scipy.stats import kendalltau

from zenopt.predictors.networks import NetworkReader
from zenopt.predictors.ranking import Ranking
from zenopt.samplers.guided import draw_candidates
from zenopt.storage import open_storage
from zenopt.study.spec import StudySpec
from zenopt.study.study import load_study, read_spec

RANKINGS = ("zen", "log MACs", "log params", "convolutions", "zen at equal convolutions")
REFERENCE = 3000


def of_study(url: str, name: str) -> tuple[StudySpec, list[tuple[str, float]]]:
    study = load_study(open_storage(url), name)
    trials = [
        trial for trial in study.get_trials(deepcopy=False) if trial.values and trial.intermediate_values
    ]
    spec = read_spec(study)
    assert spec is not None  # it would have raised
    return spec, [(t.user_attrs["structure"], t.values[0]) for t in trials]


def of_table(path: Path, column: str, where: list[str]) -> tuple[StudySpec, list[tuple[str, float]]]:
    wanted = dict(own.split("=", 1) for own in where)
    with path.open(newline="") as file:
        rows = [
            row for row in csv.DictReader(file) if all(row[key] == value for key, value in wanted.items())
        ]
    return StudySpec.load("cifar-small", [WHOLE]), [(row["structure"], float(row[column])) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="STORAGE#STUDY or TABLE.csv#COLUMN")
    parser.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE")
    parser.add_argument("--rankings", default=",".join(RANKINGS))
    args = parser.parse_args()
    where, _, name = args.source.rpartition("#")
    spec, found = of_study(where, name) if "://" in where else of_table(Path(where), name, args.where)
    values: dict[str, list[float]] = defaultdict(list)
    for text, value in found:
        values[text].append(value)
    space, limits = spec.build_space(), spec.limits()
    reader = NetworkReader(space, limits.resolution, limits.num_classes, limits.use_se)
    reference = reader.read(draw_candidates(space, limits, REFERENCE, random.Random(0)))
    inputs = reader.read([space.parse(text) for text in values])
    accuracies = np.array([np.mean(own) for own in values.values()])
    draws = np.random.default_rng(0).integers(len(accuracies), size=(1000, len(accuracies)))
    print(f"{len(accuracies)} networks")
    for ranking in args.rankings.split(","):
        scores = Ranking.all_of(reference.join(inputs), ranking)[0].scores(inputs)
        again = [kendalltau(scores[index], accuracies[index])[0] for index in draws]
        low, high = np.nanquantile(again, [0.025, 0.975])
        print(f"{ranking:28} {kendalltau(scores, accuracies)[0]:+.2f} [{low:+.2f}, {high:+.2f}]")


if __name__ == "__main__":
    main()
