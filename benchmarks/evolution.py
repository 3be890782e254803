"""Iterations per second of the closed-form Zen-NAS loop: by generations over arrays, and one at a time as published.

    python benchmarks/evolution.py

The CIFAR 1M-params search (ZenNAS's counts, at most 18 layers, population 512, batch 16), one thread. Several seeds
each; the published loop runs fewer iterations, and the ratio is of iterations per CPU second in the same run.
"""

from __future__ import annotations

import argparse
import time

from zenopt.core.budget import Budget, is_feasible
from zenopt.core.costs import count
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.closed_form import closed_form_zen
from zenopt.spaces.chain.closed_form.evolution import EvolutionSettings, evaluator_of, evolve
from zenopt.spaces.chain.closed_form.steady import evolve_steadily
from zenopt.spaces.chain.superres import SuperResSpace

BUDGET = Budget(params=1e6, layers=18, counting="zennas")
SPACE = SuperResSpace()


def is_within(architecture: Architecture) -> bool:
    return is_feasible(BUDGET.violations(count(architecture, 32, 100)))


def value(architecture: Architecture) -> float:
    return closed_form_zen(architecture, 32, batch_size=16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=480_000)
    parser.add_argument("--published-iterations", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    initial = SPACE.parse(SPACE.initial)
    for label, settings in (
        ("generations of 1024", EvolutionSettings(iterations=arguments.iterations)),
        ("generations of 256", EvolutionSettings(iterations=arguments.iterations, generation=256)),
        ("generations of 4096", EvolutionSettings(iterations=arguments.iterations, generation=4096)),
        ("fork's move", EvolutionSettings(iterations=arguments.iterations, move="fork")),
        ("niches by depth", EvolutionSettings(iterations=arguments.iterations, diversity="depth")),
        ("duplicates kept", EvolutionSettings(iterations=arguments.iterations, distinct=False)),
    ):
        for seed in range(arguments.seeds):
            start = time.process_time()
            evaluator = evaluator_of(SPACE, 32, num_classes=100, batch_size=16)
            found = evolve(SPACE, evaluator, BUDGET, [initial], seed=seed, settings=settings)
            seconds = time.process_time() - start
            early = max(
                (best for made, best in found.course if made <= arguments.published_iterations), default=0.0
            )
            print(
                f"{label:20s} seed {seed}: {found.iterations:7,} iterations in {seconds:6.2f} CPU s "
                f"({found.iterations / seconds:9,.0f} per s, tables included), best {found.best[0].value:.2f}; "
                f"after {arguments.published_iterations:,}: {early:.2f}",
                flush=True,
            )
            if label == "generations of 1024" and seed == 0:
                fast = found.iterations / seconds
    for seed in range(arguments.seeds):
        start = time.process_time()
        steady = evolve_steadily(
            SPACE, value, is_within, initial, seed=seed, iterations=arguments.published_iterations
        )
        seconds = time.process_time() - start
        print(
            f"{'as published':20s} seed {seed}: {steady.iterations:7,} iterations in {seconds:6.2f} CPU s "
            f"({steady.iterations / seconds:9,.0f} per s), best {steady.best[0].value:.2f}; "
            f"generations are {fast * seconds / steady.iterations:.0f} x faster",
            flush=True,
        )


if __name__ == "__main__":
    main()
