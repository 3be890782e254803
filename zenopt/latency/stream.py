"""Networks of a space to be measured: different ones, of sizes a search may meet."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from zenopt.core.costs import count

#: Networks are kept within this factor of the initial one's multiply-adds.
SIZE_FACTOR = 6.0
MUTATIONS = 24


def network_stream(space: Any, resolution: int, num_classes: int, use_se: bool, seed: int) -> Iterator[Any]:
    """Yield different networks of a space: random walks of mutations from its initial structure.

    Sizes are kept within a factor of the initial one's multiply-adds, on both sides.
    """
    rng = random.Random(seed)
    initial = space.parse(space.initial)
    centre = count(initial, resolution, num_classes, use_se=use_se).macs
    seen: set[str] = set()
    while True:
        network = initial
        for _ in range(rng.randint(1, MUTATIONS)):
            child = space.mutate(network, rng)
            if child is None:
                continue
            macs = count(child, resolution, num_classes, use_se=use_se).macs
            if centre / SIZE_FACTOR <= macs <= centre * SIZE_FACTOR:
                network = child
        if str(network) not in seen:
            seen.add(str(network))
            yield network
