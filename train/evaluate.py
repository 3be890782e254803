"""Accuracy of a network on the test images: top-1, top-5, each class, and how many images a second."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from zenopt.train.distributed import World
from zenopt.train.errors import TrainError
from zenopt.train.features import reduce_images
from zenopt.train.loader import Batch


@dataclass(frozen=True)
class Evaluation:
    """Accuracies, in percent.

    Attributes:
        confusion: `classes x classes` counts; rows are true classes, columns predicted ones.
        images_per_second: Of forward passes alone, without the data pipeline, over all processes.
        broken: Images left out because they cannot be decoded.
        undefined: Images for which the network's outputs are no numbers; the accuracies then mean nothing.
    """

    top1: float
    top5: float
    loss: float
    images: int
    images_per_second: float
    confusion: torch.Tensor
    broken: tuple[str, ...] = ()
    undefined: int = 0

    def per_class(self, classes: Iterable[str]) -> dict[str, float | None]:
        """Return each class's share of correct images, in percent; None for a class without images."""
        totals, correct = self.confusion.sum(1).tolist(), self.confusion.diagonal().tolist()
        shares = [
            100.0 * hits / total if total else None for hits, total in zip(correct, totals, strict=True)
        ]
        return dict(zip(classes, shares, strict=True))

    def facts(self, classes: Iterable[str]) -> dict[str, Any]:
        """Return everything but the confusion matrix as plain numbers."""
        return {
            "top1": self.top1,
            "top5": self.top5,
            "loss": self.loss,
            "images": self.images,
            "images_per_second": self.images_per_second,
            "broken_images": len(self.broken),
            "per_class": self.per_class(classes),
        }


@torch.inference_mode()
def evaluate(
    network: nn.Module,
    batches: Iterable[Batch],
    *,
    num_classes: int,
    resolution: int,
    world: World,
    amp: torch.dtype | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> Evaluation:
    """Evaluate a network on batches of test images.

    Args:
        network:
            Maps `batch x 3 x resolution x resolution` to `batch x num_classes` logits; left in evaluation mode.
        batches:
            This process's share of the test images.
        num_classes:
            Classes of the data.
        resolution:
            The network's input side, pixels.
        world:
            The processes that share the evaluation.
        amp:
            Lower precision for the forward passes.
        on_batch:
            Told after each batch how many of this process's images are done.

    Raises:
        TrainError: The network's outputs do not match the classes, or there is nothing to evaluate.
    """
    network.eval()
    device = world.device
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.long)
    # Correct within five, loss, seconds, images timed, images without numbers. The first batch warms up and is timed
    # only if it is alone.
    sums = torch.zeros(5, dtype=torch.float64)
    broken: list[str] = []
    batches_done = images_done = 0
    for batch in batches:
        broken += batch.broken
        if not len(batch.images):
            continue
        images, targets = (part.to(device, non_blocking=True) for part in (batch.images, batch.targets))
        _synchronise(device)
        start = time.perf_counter()
        with torch.autocast(device.type, dtype=amp, enabled=amp is not None):
            logits = network(reduce_images(images, resolution))
        _synchronise(device)
        seconds = time.perf_counter() - start
        timed = torch.tensor([seconds, len(images)], dtype=torch.float64)
        sums[2:4] = timed if batches_done < 2 else sums[2:4] + timed
        batches_done += 1
        if logits.shape[1] != num_classes:
            raise TrainError(f"The network has {logits.shape[1]} classes, the data {num_classes}.")
        logits = logits.float()
        sums[4] += (~torch.isfinite(logits).all(1)).sum().item()
        sums[1] += F.cross_entropy(logits, targets, reduction="sum").item()
        best = logits.topk(min(5, num_classes), dim=1).indices
        sums[0] += (best == targets[:, None]).sum().item()
        pairs = (targets * num_classes + best[:, 0]).cpu()
        confusion += torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)
        images_done += len(images)
        if on_batch is not None:
            on_batch(images_done)
    confusion, sums = world.sum(confusion), world.sum(sums.float())
    images_seen = int(confusion.sum())
    if images_seen == 0:
        raise TrainError(f"There are no test images to evaluate ({len(broken)} cannot be decoded).")
    return Evaluation(
        top1=100.0 * confusion.diagonal().sum().item() / images_seen,
        top5=100.0 * sums[0].item() / images_seen,
        loss=sums[1].item() / images_seen,
        images=images_seen,
        # Processes work side by side: the mean of their seconds is the time it took.
        images_per_second=sums[3].item() / max(sums[2].item() / world.size, 1e-9),
        confusion=confusion,
        broken=tuple(broken),
        # A sum of finite losses may still overflow.
        undefined=int(sums[4]) or (0 if math.isfinite(sums[1].item()) else images_seen),
    )


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
