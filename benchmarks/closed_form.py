"""Closed form against measurement: rank agreement, errors, and evaluations per second, in one run.

    python benchmarks/closed_form.py

Errors are against reference scores (tests/fixtures/zen_score_means.json, batch 16) that nothing was fitted on. Speeds
are of one thread; each line also gives the ratio to one measurement (batch 16) of the same networks.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from zenopt.core.costs import count
from zenopt.proxies import score_architecture
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.closed_form import ChainEvaluator, closed_form_zen
from zenopt.spaces.chain.closed_form.evolution import evaluator_of
from zenopt.spaces.chain.superres import SuperResSpace

SCORES = Path(__file__).parents[1] / "tests/fixtures/zen_score_means.json"


def rank_agreement(left: np.ndarray, right: np.ndarray) -> float:
    """Spearman's correlation; there are no ties."""
    ranks = [np.argsort(np.argsort(values)) for values in (left, right)]
    return float(np.corrcoef(*ranks)[0, 1])


def print_errors(records: list[dict]) -> None:
    subsets: dict[str, dict[str, dict]] = {}
    for record in records:
        space = "mobile" if "IDW" in record["structure"] else "superres"
        known = subsets.setdefault(f"{space} at {record['resolution']} px", {})
        best = known.setdefault(record["structure"], record)
        if record["repeats"] > best["repeats"]:
            known[record["structure"]] = record
    for name, by_structure in subsets.items():
        chosen = list(by_structure.values())
        measured = np.array([record["mean"] for record in chosen])
        scatter = np.array([record["std"] / record["repeats"] ** 0.5 for record in chosen]) / measured
        for label, batch_size in (("uncorrected", None), ("corrected", 16)):
            computed = np.array(
                [
                    closed_form_zen(
                        Architecture.parse(record["structure"]), record["resolution"], batch_size=batch_size
                    )
                    for record in chosen
                ]
            )
            errors = 100 * (computed / measured - 1)
            print(
                f"{name:19s} {len(chosen):3d} structures  {label:11s}  rank agreement "
                f"{rank_agreement(computed, measured):.4f}  error: largest {np.abs(errors).max():.2f} %, "
                f"rms {np.sqrt((errors**2).mean()):.2f} %, mean {errors.mean():+.2f} %  "
                f"(standard error of the measurements: rms {100 * np.sqrt((scatter**2).mean()):.2f} %)"
            )


def rate(run: Callable[[], int], seconds: float = 1.0) -> float:
    """Evaluations per CPU second; ``run`` does some and says how many."""
    run()
    done, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        done += run()
    return done / (time.process_time() - start)


def print_speeds(candidates: int) -> None:
    space = SuperResSpace()
    rng = random.Random(0)
    architectures = [space.parse(space.initial)]
    # A chain of mutations: candidates as a search meets them, each with one or two blocks that are new.
    while len(architectures) < candidates:
        child = space.mutate(rng.choice(architectures[-50:]), rng)
        if child is None:
            continue
        costs = count(child, 32, 100)
        if costs.params <= 1e6 and costs.layers <= 18:
            architectures.append(child)
    evaluator = evaluator_of(space, 32, num_classes=100, batch_size=16)
    plain = ChainEvaluator(evaluator.codec.types, 32, num_classes=100, batch_size=None)
    genes = evaluator.codec.encode(architectures)
    convs = evaluator.costs(genes).convs.mean()
    print(
        f"\n{candidates} mutated CIFAR-size networks (at most 1M params and 18 layers), "
        f"{convs:.0f} convolutions on average"
    )
    some = architectures[: max(1, candidates // 10)]
    few = architectures[:: max(1, candidates // 4)][:4]

    def measured() -> int:
        for architecture in few:
            score_architecture(architecture, "zen", resolution=32, batch_size=16)
        return len(few)

    def one_by_one(batch_size: int | None) -> Callable[[], int]:
        def run() -> int:
            for architecture in some:
                closed_form_zen(architecture, 32, batch_size=batch_size)
            return len(some)

        return run

    def scored(arrays: ChainEvaluator) -> Callable[[], int]:
        return lambda: len(arrays.score(genes))

    def scored_and_costed(arrays: ChainEvaluator) -> Callable[[], int]:
        def run() -> int:
            arrays.costs(genes, widths=False)
            return len(arrays.score(genes))

        return run

    base = rate(measured, 4.0)
    print(f"{'measured, batch 16':52s} {base:12,.1f} per CPU second")
    for label, run in (
        ("closed form, one architecture, uncorrected", one_by_one(None)),
        ("closed form, one architecture, corrected", one_by_one(16)),
        ("closed form over arrays, uncorrected", scored(plain)),
        ("closed form over arrays, corrected", scored(evaluator)),
        ("closed form and costs over arrays, uncorrected", scored_and_costed(plain)),
        ("closed form and costs over arrays, corrected", scored_and_costed(evaluator)),
    ):
        speed = rate(run)
        print(f"{label:52s} {speed:12,.0f} per CPU second, {speed / base:12,.0f} x measured")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=20_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print_errors(json.loads(SCORES.read_text()))
    print_speeds(arguments.candidates)


if __name__ == "__main__":
    main()
