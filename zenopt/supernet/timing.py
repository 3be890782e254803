"""How long the training of a supernet will take: phases of a schedule differ in their paths, and in who teaches."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch

from zenopt.supernet.module import Supernet
from zenopt.supernet.schedule import Timetable
from zenopt.supernet.training import SupernetPlan, timetable_of
from zenopt.train.data import DataSet
from zenopt.train.recipe import Recipe
from zenopt.train.timing import Estimate, estimate_training


def estimate_supernet(
    plan: SupernetPlan,
    network: Supernet,
    data: DataSet,
    recipe: Recipe,
    *,
    device: torch.device | str = "cpu",
    processes: int = 1,
    seconds: float = 1.0,
) -> Estimate:
    """Measure a few steps of every phase, and say what the whole training will take.

    Args:
        plan:
            Which supernet.
        network:
            What it builds; it stays as it is.
        data, recipe:
            What it would be trained on, and how.
        device, processes, seconds:
            See :func:`zenopt.train.timing.estimate_training`; the seconds are of all phases together.

    Raises:
        SpecError: If a phase of the schedule does not fit the space or the training, or keeps no budget.
    """
    whole = timetable_of(plan, data, recipe)
    options: dict[str, Any] = {
        "resolution": plan.limits.resolution,
        "num_classes": plan.limits.num_classes,
        "train_images": len(data.train),
        "test_images": len(data.test),
        "device": device,
        "data": data,
        "processes": processes,
    }
    if whole is None or plan.schedule is None:
        return estimate_training(network, recipe, seconds=seconds, **options)
    phases = plan.schedule.phases
    lengths = [phase.epochs / sum(own.epochs for own in phases) for phase in phases]
    found = []
    for timetable in _alone(plan, whole):
        own = copy.copy(network)
        own.timetable = timetable
        found.append(estimate_training(own, recipe, seconds=seconds / len(phases), **options))

    def mean(values: list[float]) -> float:
        return sum(length * value for length, value in zip(lengths, values, strict=True))

    epoch_s = mean([own.epoch_seconds for own in found])
    return Estimate(
        found[0].device,
        1 / mean([1 / own.train_images_per_second for own in found]),
        1 / mean([1 / own.test_images_per_second for own in found]),
        epoch_s,
        recipe.epochs * epoch_s,
    )


def _alone(plan: SupernetPlan, whole: Timetable) -> Iterator[Timetable]:
    """Yield what a training of each phase by itself would draw, with the teacher that it would have."""
    assert plan.schedule is not None
    taught: dict[int, Any] = {}
    for phase, sampler in zip(plan.schedule.phases, whole.samplers, strict=True):
        yield Timetable((), (sampler,), teachers=taught, smallest_side=whole.smallest_side)
        if phase.teaches:
            taught = {0: sampler.space}
