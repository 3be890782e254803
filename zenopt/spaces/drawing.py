"""Random architectures of any space."""

from __future__ import annotations

import random
from typing import Any

from zenopt.spaces.chain.fork import random_architecture
from zenopt.spaces.chain.space import ChainSpace

#: Mutations of a random walk.
WALK = 30


def draw_random(space: Any, rng: random.Random) -> Any | None:
    """Returns a random architecture, which need not fit any budget.

    A space with a ``draw`` method draws itself. Of chains the fork's random ones are taken; where bounds do not hold
    such a one, and for other spaces, :data:`WALK` mutations lead away from the initial architecture.

    Args:
        space:
            The space.
        rng:
            Source of randomness.

    Returns:
        The architecture, or ``None`` where no mutation succeeded.
    """
    draw = getattr(space, "draw", None)
    if callable(draw):
        return draw(rng)
    found = random_architecture(space, rng) if isinstance(space, ChainSpace) else None
    return found if found is not None else _walk(space, rng)


def _walk(space: Any, rng: random.Random) -> Any | None:
    current, start = None, space.parse(space.initial)
    for _ in range(WALK):
        current = space.mutate(start if current is None else current, rng) or current
    return current
