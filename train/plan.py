"""What is about to be trained and how long it will take, said before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from zenopt.core.costs import count
from zenopt.core.words import plural
from zenopt.train.data import DataSet
from zenopt.train.distributed import World
from zenopt.train.networks import NetworkSource, shortened
from zenopt.train.recipe import Recipe
from zenopt.train.run import build_for_training, loader_workers
from zenopt.train.timing import Estimate, estimate_training

# A training on a CPU that takes longer gets a hint.
LONG_S = 6 * 3600.0


@dataclass(frozen=True)
class Plan:
    """A training that has not begun.

    Attributes:
        network: Its text.
        params, macs: True counts, with a classifier for the data's classes; MACs of one image.
        resolution: Input side, pixels.
        classes, train_images, test_images: Of the data.
        data, recipe: Their names.
        epochs, steps_per_epoch, batch_size: How it is trained.
        processes: That share every batch.
        estimate: How long it takes.
        is_slow: Whether it takes long on a CPU.
        changes: Settings that change over the training, in words.
    """

    network: str
    params: int
    macs: int
    resolution: int
    classes: int
    data: str
    train_images: int
    test_images: int
    recipe: str
    epochs: int
    steps_per_epoch: int
    batch_size: int
    processes: int
    estimate: Estimate
    is_slow: bool
    changes: Sequence[str] = ()

    def facts(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the plan as lines for people."""
        shared = f", shared by {self.processes} processes" if self.processes > 1 else ""
        lines = [
            f"Network  {shortened(self.network, 70)}",
            f"         {self.params:,} params, {self.macs / 1e6:,.1f} M MACs at {self.resolution} px, "
            f"{plural(self.classes, 'class')}",
            f"Data     {self.data}: {self.train_images:,} training and {plural(self.test_images, 'test image')}",
            f"Recipe   {self.recipe}: {plural(self.epochs, 'epoch')} of {plural(self.steps_per_epoch, 'step')} of "
            f"{plural(self.batch_size, 'image')}{shared}",
            *(f"         {change}" for change in self.changes),
            f"Time     {self.estimate.text()}",
        ]
        if self.is_slow:
            lines.append(
                "         Long for a CPU: try --device cuda, or --share 0.1 and few --epochs for a quick look."
            )
        return lines


def make_plan(
    source: NetworkSource,
    recipe: Recipe,
    recipe_name: str,
    data: DataSet,
    world: World,
    *,
    workers: int | None = None,
    teacher: tuple[nn.Module, int] | None = None,
) -> Plan:
    """Build the network, count it, and time a few steps of its training on the device of this process."""
    classes = len(data.classes)
    network, recipe, _ = build_for_training(source, recipe, classes)
    params, macs = _counts(source, network, classes)
    estimate = estimate_training(
        network,
        recipe,
        resolution=source.resolution,
        num_classes=classes,
        train_images=len(data.train),
        test_images=len(data.test),
        device=world.device,
        data=data,
        workers=loader_workers(data, recipe, world) if workers is None else workers,
        processes=world.size,
        teacher=teacher,
    )
    batch = min(recipe.batch_size, len(data.train))
    return Plan(
        source.text,
        params,
        macs,
        source.resolution,
        classes,
        data.name,
        len(data.train),
        len(data.test),
        recipe_name,
        recipe.epochs,
        len(data.train) // batch,
        batch,
        world.size,
        estimate,
        world.device.type == "cpu" and estimate.total_seconds > LONG_S,
        recipe.changes(),
    )


def _counts(source: NetworkSource, network: nn.Module, classes: int) -> tuple[int, int]:
    """Return the params and the MACs of one image."""
    architecture = source.architecture
    if architecture is not None:
        costs = count(architecture, source.resolution, classes, use_se=source.use_se)
        return costs.params, costs.macs
    from zenopt.latency.trace import trace_operations

    params = sum(parameter.numel() for parameter in network.parameters())
    return params, round(sum(operation.macs for operation in trace_operations(network, source.resolution)))
