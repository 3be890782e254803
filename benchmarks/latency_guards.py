"""What a search does to its latency model: winners found under one profile, judged by the others.

Evolves on the closed-form Zen-score within a latency preset's budget, without and with guards, and prints each
winner's latency under every V100 profile as a multiple of the budget.

    python benchmarks/latency_guards.py [--study latency01ms] [--candidates 8000] [--seeds 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from dataclasses import dataclass
from typing import Any

from zenopt.core.budget import Budget
from zenopt.latency import load_profile, predict_latency_ms
from zenopt.latency.guards import NO_GUARDS, Guards, guard_violations
from zenopt.latency.limits import Check, Limits
from zenopt.samplers.screening import Screening, screen
from zenopt.spaces.chain.closed_form import closed_form_zen
from zenopt.study.spec import StudySpec

PROFILES = ("v100-fp16-b64", "v100-fp16-b64-eager", "v100-fp16-b64-tensorrt")


@dataclass(frozen=True)
class GuardedLimits(Limits):
    """Limits with guards: checked last, because they cost the most."""

    guards: Guards = NO_GUARDS
    full_limit_ms: float = 0.0

    def check(self, architecture: Any) -> Check:
        check = super().check(architecture)
        if not check.is_feasible:
            return check
        assert self.device is not None
        more = guard_violations(
            architecture, self.device, self.resolution, self.num_classes, self.use_se, guards=self.guards,
            limit_ms=self.full_limit_ms,
        )  # fmt: skip
        return Check(check.costs, check.latency_ms, {**check.violations, **more})


def search(
    spec: StudySpec, profile: str, guards: Guards, candidates: int, seed: int
) -> tuple[Any, float, float]:
    """Return the winner, its score and the seconds it took."""
    budget = spec.budget.model_dump()
    limit = budget["latency_ms"]
    budget["latency_ms"] = limit * guards.margin
    limits = GuardedLimits(
        Budget(**budget), spec.resolution, spec.num_classes, spec.use_se, load_profile(profile), guards, limit
    )
    space = spec.build_space()
    start = limits.closest_fit(space, space.parse(space.initial))
    rng = random.Random(seed)
    began = time.perf_counter()
    winner = screen(
        [start], (), mutate=space.mutate, limits=limits, value=lambda a: closed_form_zen(a, spec.resolution),
        settings=Screening(candidates), rng=rng,
    )  # fmt: skip
    assert winner is not None
    return winner, closed_form_zen(winner, spec.resolution), time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", default="latency01ms")
    parser.add_argument("--candidates", type=int, default=8000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=argparse.FileType("w"))
    options = parser.parse_args()
    spec = StudySpec.load(options.study)
    limit = spec.budget.latency_ms
    assert limit is not None
    cases = {
        "no guards": NO_GUARDS,
        "margin 0.85": Guards(**{**NO_GUARDS.__dict__, "margin": 0.85}),
        "guards, no margin": Guards(margin=1.0),
        "all guards": Guards(),
    }
    rows: list[dict[str, Any]] = []
    for profile in PROFILES[:2]:
        for name, guards in cases.items():
            for seed in range(options.seeds):
                winner, score, seconds = search(spec, profile, guards, options.candidates, seed)
                times = {
                    p: predict_latency_ms(winner, p, spec.resolution, spec.num_classes, spec.use_se) / limit
                    for p in PROFILES
                }
                row: dict[str, Any] = {"model": profile, "guards": name, "seed": seed, "zen": round(score, 2)}
                row["seconds"] = round(seconds, 1)
                row["of_budget"] = {p: round(t, 3) for p, t in times.items()}
                row["structure"] = str(winner)
                rows.append(row)
                print(row, flush=True)
    for profile in PROFILES[:2]:
        for name in cases:
            mine = [row for row in rows if row["model"] == profile and row["guards"] == name]
            worst = {p: max(row["of_budget"][p] for row in mine) for p in PROFILES}
            zen = statistics.mean(row["zen"] for row in mine)
            print(f"{profile:22} {name:18} Zen {zen:6.2f}  largest multiple of the budget: {worst}")
    if options.json:
        json.dump(rows, options.json, indent=1)


if __name__ == "__main__":
    main()
