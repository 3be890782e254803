"""What is random in a family follows from its generator alone: workers, and a run that goes on, do the same."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

MOVES = """
import random
from zenopt.spaces.registry import get_space, list_spaces
for name in list_spaces():
    if name == "columns":
        continue  # it needs a table
    space = get_space(name)()
    start = space.parse(space.initial)
    found = [str(space.draw(random.Random(seed))) for seed in range(5)]
    for move in space.moves:
        for seed in range(10):
            for blocks in (1, 2, 3):
                found.append(f"{move} {space.moves[move](start, random.Random(seed), blocks=blocks)}")
    print(name, *found, *map(str, space.neighbours(start)), str(space.shrink(start)), sep="\\t")
"""


@pytest.mark.slow
def test_moves_are_the_same_in_every_process() -> None:
    first, second = (
        subprocess.run(
            [sys.executable, "-c", MOVES],
            # By it Python orders sets of texts; usually it is another one in every process.
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for seed in ("1", "2")
    )
    assert len(first) >= 10
    for own, other in zip(first, second, strict=True):
        name, *found = own.split("\t")
        assert found == other.split("\t")[1:], name
