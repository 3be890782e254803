from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from zenopt.train.layout import puts_channels_last
from zenopt.train.networks import NetworkSource
from zenopt.train.recipe import load_recipe

# A residual link of 8 channels and stride 2, and of 16.
NARROW = "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,8,2,8,1)SuperConvK1BNRELU(8,16,1,1)"
WIDE = "SuperConvK3BNRELU(3,16,1,1)SuperResK3K3(16,16,2,8,1)SuperConvK1BNRELU(16,16,1,1)"


def network(structure: str) -> nn.Module:
    return NetworkSource.from_structure(structure, 16).build(4)


@pytest.mark.parametrize(
    ("structure", "device", "wanted", "expected"),
    [
        (WIDE, "cpu", True, True),
        (WIDE, "cpu", False, False),
        (NARROW, "cpu", True, False),
        (NARROW, "cuda", True, True),
    ],
)
def test_layout_is_the_recipes_unless_it_would_crash(
    structure: str, device: str, wanted: bool, expected: bool
) -> None:
    recipe = load_recipe("basic", [f"precision.channels_last={str(wanted).lower()}"])
    assert puts_channels_last(network(structure), recipe, torch.device(device)) is expected


def test_small_batches_train_on_several_threads() -> None:
    # In a process of its own, which a write past the end of memory would end.
    script = f"""
import sys, tempfile
from pathlib import Path
import torch
from zenopt.train.data import open_data
from zenopt.train.distributed import World
from zenopt.train.networks import NetworkSource
from zenopt.train.recipe import load_recipe
from zenopt.train.run import train
torch.set_num_threads(2)
with tempfile.TemporaryDirectory() as folder:
    train(NetworkSource.from_structure({NARROW!r}, 16), open_data("synthetic:30"),
          load_recipe("basic", ["epochs=2", "batch_size=3"]), output=Path(folder),
          world=World(0, 1, torch.device("cpu")))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
