"""What a latency prediction costs a search: time per mutated candidate, as a multiple of counting its parameters.

Each candidate is a fresh mutation, so that a prediction pays for the blocks it has not seen.

    python benchmarks/latency_speed.py [--study latency01ms] [--candidates 2000]
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from typing import Any

from zenopt.core.costs import count
from zenopt.latency import list_profiles, load_profile, predict_latency_ms
from zenopt.latency.guards import guard_violations
from zenopt.spaces.chain.closed_form import closed_form_zen
from zenopt.study.spec import StudySpec


def candidates(spec: StudySpec, number: int) -> list[Any]:
    """Return a chain of mutations, as a search meets them."""
    space = spec.build_space()
    rng = random.Random(0)
    initial = space.parse(space.initial)
    found, parent = [], initial
    while len(found) < number:
        child = space.mutate(parent, rng)
        if (
            child is not None
            and count(child, spec.resolution).macs < 40 * count(initial, spec.resolution).macs
        ):
            found.append(child)
            parent = rng.choice(found[-64:])
    return found


def microseconds(function: Callable[[Any], Any], networks: list[Any]) -> float:
    began = time.process_time()
    for network in networks:
        function(network)
    return 1e6 * (time.process_time() - began) / len(networks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", default="latency01ms")
    parser.add_argument("--candidates", type=int, default=2000)
    options = parser.parse_args()
    spec = StudySpec.load(options.study)
    networks = candidates(spec, options.candidates)
    resolution = spec.resolution
    lowered = microseconds(lambda network: count(network, resolution), networks)
    # Counting has filled the lowering's cache above, for all alike; measured again it is the reference.
    reference = microseconds(lambda network: count(network, resolution), networks)
    print(f"count, first time {lowered:.0f} us per candidate; again (the reference) {reference:.0f} us")
    closed_form = microseconds(lambda network: closed_form_zen(network, resolution), networks)
    print(f"closed-form Zen              {closed_form:8.0f} us  {closed_form / reference:6.1f} x")
    for name in list_profiles():
        profile = load_profile(name)
        first = microseconds(lambda network, p=profile: predict_latency_ms(network, p, resolution), networks)
        again = microseconds(lambda network, p=profile: predict_latency_ms(network, p, resolution), networks)
        print(
            f"{name:28} {first:8.0f} us  {first / reference:6.1f} x   known blocks {again / reference:6.1f} x"
        )
    eager = "v100-fp16-b64-eager"
    guards = microseconds(
        lambda network: guard_violations(network, eager, resolution, limit_ms=0.1), networks
    )
    print(f"all guards, {eager}   {guards / reference:6.1f} x")


if __name__ == "__main__":
    main()
