from __future__ import annotations

import copy
import subprocess
import sys

import torch
from torch import nn

from zenopt.train.layout import StridedPointwise, put_channels_last
from zenopt.train.networks import NetworkSource

# A residual link of 8 channels and stride 2, and of 16.
NARROW = "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,8,2,8,1)SuperConvK1BNRELU(8,16,1,1)"
WIDE = "SuperConvK3BNRELU(3,16,1,1)SuperResK3K3(16,16,2,8,1)SuperConvK1BNRELU(16,16,1,1)"


def network(structure: str) -> nn.Module:
    return NetworkSource.from_structure(structure, 16).build(4)


def pointwise(module: nn.Module) -> list[str]:
    return [name for name, own in module.named_modules() if isinstance(own, StridedPointwise)]


def test_only_what_would_crash_is_computed_otherwise() -> None:
    assert pointwise(put_channels_last(network(NARROW), torch.device("cpu")))
    assert not pointwise(put_channels_last(network(WIDE), torch.device("cpu")))
    assert not pointwise(put_channels_last(network(NARROW), torch.device("cuda")))


def test_the_network_computes_the_same_and_keeps_its_state() -> None:
    plain = network(NARROW)
    changed = put_channels_last(copy.deepcopy(plain), torch.device("cpu"))
    images, targets = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 3])
    for own in (plain, changed):
        nn.functional.cross_entropy(own(images), targets).backward()
    assert changed.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(changed(images), plain(images), rtol=1e-4, atol=1e-5)
    for (name, one), other in zip(changed.named_parameters(), plain.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5, msg=name)


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
