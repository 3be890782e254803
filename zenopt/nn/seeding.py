"""Torch's global random state, set for a while: some layers draw from nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the global generators of the CPU and of a GPU; both are as before afterwards.

    `torch.manual_seed` would seed those of all GPUs, which nobody puts back, and forking those of all would open every
    GPU for work that is the CPU's.

    Args:
        seed:
            Of both.
        device:
            The GPU, or None.
    """
    on_gpu = device is not None and device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
