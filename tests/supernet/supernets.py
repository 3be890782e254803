"""Small spaces, and supernets of them, that several tests use."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from training import StopAfter

from zenopt.core.budget import Budget
from zenopt.latency.limits import Limits
from zenopt.spaces.registry import get_space
from zenopt.supernet.covering import covering
from zenopt.supernet.layers import shapes_of
from zenopt.supernet.sampling import Sampling
from zenopt.supernet.shared import SharedWeights, new_layers, union
from zenopt.supernet.training import SupernetPlan

NARROW = {
    "stage_strides": (1, 2),
    "slots": 2,
    "max_depth": 2,
    "max_width": 24,
    "max_bottleneck": 24,
    "max_head": 32,
}
#: Families with the resolution at which their paths are tried.
SPACES: dict[str, tuple[str, dict[str, Any], int]] = {
    "nasbench-macro": ("nasbench-macro", {}, 8),
    "superres": ("superres", {**NARROW, "initial": ""}, 8),
    "mobile": ("mobile", {**NARROW, "initial": ""}, 8),
    "nats-sizes": ("nats-sizes", {}, 8),
    "mnasnet": ("mnasnet", {}, 32),
    "nasbench201": ("nasbench201", {}, 8),
    "transnas-micro": ("transnas-micro", {"width": 8}, 32),
    "shuffle": ("shuffle", {}, 32),
    "ofa-mobilenetv3": ("ofa-mobilenetv3", {"width": 0.25}, 32),
    "transnas-macro": ("transnas-macro", {"width": 8}, 32),
}


@lru_cache
def space_of(name: str) -> Any:
    factory, options, _ = SPACES[name]
    return get_space(factory)(**options)


@lru_cache
def weights_of(name: str, use_se: bool = False) -> SharedWeights:
    """Return initial weights of a supernet, every number its own."""
    torch.manual_seed(0)
    layers = new_layers(union(shapes_of(found, 5, use_se) for found in covering(space_of(name))))
    tensors = {
        f"{layer}.{tensor}": value
        for layer, module in layers.items()
        for tensor, value in module.named_parameters()
    }
    with torch.no_grad():
        for tensor in tensors.values():
            tensor.add_(torch.randn_like(tensor) * 0.01)
    return SharedWeights(tensors, 5, use_se)


#: A space of few, small chains for trainings of a second.
TINY = {
    "stage_strides": (2, 2),
    "slots": 1,
    "max_depth": 2,
    "max_width": 16,
    "max_bottleneck": 8,
    "max_head": 32,
}
TINY_OPTIONS = {**TINY, "blocks": ("SuperResK1K3K1", "SuperResK3K3")}


def tiny_plan(sampling: Sampling = "uniform", seed: int = 0, **budget: float) -> SupernetPlan:
    """Return the plan of a supernet of four classes at 16 px."""
    limits = Limits(Budget(**budget), resolution=16, num_classes=4)
    return SupernetPlan(
        get_space("superres")(**TINY_OPTIONS), "superres", TINY_OPTIONS, limits, sampling, seed
    )


class Killer(StopAfter):
    """Ends a run after some steps, as a signal would."""

    error = KeyboardInterrupt
