"""Several training processes: who am I, sums over all, and batch normalisation over the joined batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.nn.functional import all_reduce

from zenopt.core.errors import DeviceError
from zenopt.train.errors import TrainError


@dataclass(frozen=True)
class World:
    """The processes of a run: this one's number, how many there are, and where this one computes."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the element-wise sum of a tensor over all processes."""
        if self.size == 1:
            return values
        total = values.detach().clone().to(self.device)
        dist.all_reduce(total)
        return total.to(values.device)

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            dist.barrier()


def resolve_device(name: str) -> torch.device:
    """Return the device of a name; `auto` is the first GPU, or else the CPU.

    Raises:
        DeviceError: There is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"Device {name!r} is not known; allowed: auto, cpu, cuda, cuda:N, mps.") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise DeviceError(f"Device {name!r} is not available; this machine has {count} CUDA devices.")
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError("Device 'mps' is not available on this machine.")
    elif device.type != "cpu":
        raise DeviceError(f"Device {name!r} is not supported; allowed: auto, cpu, cuda, cuda:N, mps.")
    return device


@contextmanager
def join_world(device_name: str) -> Iterator[World]:
    """Join the processes that torchrun started (gloo on CPU, nccl on GPUs), or be alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(0, 1, resolve_device(device_name))
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    device = resolve_device(device_name)
    if device.type == "cuda":
        device = resolve_device(f"cuda:{local}")
        torch.cuda.set_device(device)
    elif device.type != "cpu":
        raise TrainError(f"Several processes need CPUs or CUDA devices; the device is {device.type!r}.")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(rank, size, device)
    finally:
        dist.destroy_process_group()


class JointBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation with the statistics of all processes' images, on any device.

    `torch.nn.SyncBatchNorm` works on GPUs only; this one sums with differentiable collectives, so that runs
    on CPUs (and their tests) normalise as a single process would. All processes must hold equally many
    images.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(x)
        world = dist.get_world_size()
        count = x.numel() // x.shape[1] * world
        mean = all_reduce(x.mean(dim=(0, 2, 3))) / world
        # A second exchange, for the squared distances from the joint mean: the difference of two large sums
        # would lose digits.
        variance = all_reduce((x - mean[:, None, None]).square().mean(dim=(0, 2, 3))) / world
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                self.running_mean.lerp_(mean.detach(), self.momentum or 0.1)
                self.running_var.lerp_(variance.detach() * (count / max(count - 1, 1)), self.momentum or 0.1)
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]


def sync_batch_norm(network: nn.Module) -> nn.Module:
    """Replace every batch normalisation by one over all processes; parameters and statistics are kept."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return network
    if dist.get_backend() == "nccl":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = JointBatchNorm2d
    return network
