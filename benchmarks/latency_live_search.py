"""A search within a latency budget of this machine: predictions screen, the block table corrects, finalists are timed.

Each round evolves on the closed-form Zen-score under the calibrated profile, measures the new blocks of the winner
(which corrects the profile for the rounds to come), and measures it whole if it still keeps the budget. Prints what
each of the three said, and whether the best network, measured again, keeps its budget.

    zenopt latency calibrate --study cifar-params1m --classes 10 --batch 16 --threads 1 --output my-cpu.json
    python benchmarks/latency_live_search.py my-cpu.json --budget-ms 2 [--rounds 12] [--candidates 1500]
"""

from __future__ import annotations

import argparse
import random
from typing import Any

from zenopt.core.budget import Budget
from zenopt.latency import load_profile
from zenopt.latency.limits import Limits
from zenopt.latency.live import LiveLatency
from zenopt.latency.measure import measure_architecture
from zenopt.latency.options import MeasureOptions
from zenopt.samplers.screening import Screening, screen
from zenopt.spaces.chain.closed_form import closed_form_zen
from zenopt.study.spec import StudySpec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile")
    parser.add_argument("--budget-ms", type=float, required=True)
    parser.add_argument("--margin", type=float, default=0.85)
    parser.add_argument("--study", default="cifar-params1m")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--candidates", type=int, default=1500)
    parser.add_argument("--max-layers", type=float, default=18)
    options = parser.parse_args()
    spec = StudySpec.load(options.study)
    profile = load_profile(options.profile)
    classes = int(profile.data["num_classes"])
    run = MeasureOptions(**{**profile.environment["options"], "max_seconds": 3.0})
    statistic = profile.environment["statistic"]
    live = LiveLatency(run, classes, profile=profile)
    limit = options.budget_ms * options.margin
    budget = Budget(latency_ms=limit, params=1e6, layers=options.max_layers)
    limits = Limits(budget, run.resolution, classes, device=profile)
    space = spec.build_space()
    pool = [limits.closest_fit(space, space.parse(space.initial))]
    rng = random.Random(0)
    known: set[str] = set()
    best: tuple[float, Any, float] | None = None
    for number in range(options.rounds):
        winner = screen(
            pool, known, limits=limits, mutate=space.mutate, value=lambda a: closed_form_zen(a, run.resolution),
            settings=Screening(options.candidates), rng=rng,
        )  # fmt: skip
        if winner is None:
            break
        known.add(str(winner))
        score = closed_form_zen(winner, run.resolution)
        screened, tabled = live.screened_ms(winner), live.tabled_ms(winner)
        line = f"round {number}: Zen {score:.1f}, screened {screened:.3f} ms, table {tabled:.3f} ms"
        if tabled <= limit:
            measured = measure_architecture(winner, run, num_classes=classes).per_image_ms(statistic)
            line += f", measured {measured:.3f} ms"
            if measured <= options.budget_ms:
                pool.append(winner)
                if best is None or score > best[0]:
                    best = (score, winner, measured)
        print(line, flush=True)
        # Parents that the corrected table puts over the limit would only breed more of their kind.
        pool = [parent for parent in pool if limits.check(parent).is_feasible] or pool[:1]
    if best is None:
        print("no finalist kept the budget")
        return
    again = [
        measure_architecture(best[1], run, num_classes=classes).per_image_ms(statistic) for _ in range(3)
    ]
    print(
        f"best: Zen {best[0]:.1f}, measured {best[2]:.3f} ms, again {', '.join(f'{ms:.3f}' for ms in again)} ms"
    )
    print(
        f"budget {options.budget_ms} ms: {'kept' if max(again) <= options.budget_ms else 'NOT kept'} in every repeat"
    )
    print(best[1])


if __name__ == "__main__":
    main()
