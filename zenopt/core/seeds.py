"""Seeds of proposals and scores: functions of (study seed, trial number), so that a resumed run repeats itself."""

from __future__ import annotations

import hashlib
import random


def derive_seed(seed: int, number: int, purpose: str) -> int:
    """Return a 63-bit seed for one use of randomness in one trial.

    Args:
        seed:
            Seed of the study.
        number:
            Number of the trial.
        purpose:
            What the randomness is for; uses with different purposes are independent.
    """
    digest = hashlib.sha256(f"{purpose}:{seed}:{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def derive_rng(seed: int, number: int, purpose: str) -> random.Random:
    """Return a random generator seeded by :func:`derive_seed`."""
    return random.Random(derive_seed(seed, number, purpose))
