"""Batches of small images: ours, a batch at a time, against torchvision's transforms, an image at a time.

    python benchmarks/training_batches.py

Prints images per second of both on one core, and their ratio. Both make the same batches of 32-pixel images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torchvision.transforms import v2

from zenopt.train.data import STATISTICS, MemoryImages
from zenopt.train.loader import Key, TrainBatches
from zenopt.train.recipe import load_recipe


def best_of(repeats: int, work: Callable[[], None]) -> float:
    """Return the shortest of some timings, seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    count = options.batch_size
    images = MemoryImages(
        torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8), torch.arange(count) % 10
    )
    key = Key((0, 0, 0), list(range(count)), slice(0, count))
    mean, std = (list(values) for values in STATISTICS["cifar10"])
    for name, overrides, extra in (
        ("crop, flip", [], []),
        ("crop, flip, erasing", ["augment.erasing={}"], [v2.RandomErasing(0.5)]),
        ("crop, flip, AutoAugment", ["augment.policy=autoaugment-cifar10"], None),
    ):
        batches = TrainBatches(images, 10, load_recipe("basic", overrides), 32, "cifar10")
        policy = [v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)] if extra is None else []
        each = v2.Compose(
            [
                v2.RandomCrop(32, padding=4),
                v2.RandomHorizontalFlip(),
                *policy,
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(mean, std),
                *(extra or []),
            ]
        )
        ours = best_of(options.repeats, lambda batches=batches: batches[key])  # type: ignore[misc]
        theirs = best_of(
            options.repeats,
            lambda each=each: torch.stack([each(images.load(i)) for i in range(count)]),  # type: ignore[misc]
        )
        print(
            f"{name:24s} ours {count / ours:9.0f} images/s  torchvision {count / theirs:9.0f} images/s  "
            f"ratio {theirs / ours:.1f}"
        )


if __name__ == "__main__":
    main()
