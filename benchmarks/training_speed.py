"""How fast networks train on one CPU core: measured, and as `zenopt.latency.training_speed` expects it.

python benchmarks/training_speed.py --output training_speed.jsonl        # some minutes
python benchmarks/training_speed.py --fit training_speed.jsonl           # the constants, and the errors with them

A step is the trainer's: forward, loss, backward and SGD with momentum, in fp32. Processor time is counted, so that
other processes matter less.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np
import torch

from zenopt.core.costs import count
from zenopt.nn import build_network
from zenopt.spaces.chain.architecture import Architecture
from zenopt.study.spec import StudySpec

#: Preset, batch, and how many random walks of how many mutations from its initial structure.
SOURCES = [
    ("cifar-small", 128, 3, 15),
    ("cifar-params1m", 64, 9, 30),
    ("cifar-params2m", 64, 5, 30),
    ("flops400m", 8, 3, 30),
    ("latency01ms", 8, 2, 10),
]


def seconds_per_image(architecture: Architecture, resolution: int, classes: int, batch: int) -> float:
    """Return processor seconds of a training step for one image, the median of five or more steps."""
    torch.manual_seed(0)
    network = build_network(architecture, num_classes=classes).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    images, labels = torch.randn(batch, 3, resolution, resolution), torch.randint(classes, (batch,))
    times = []
    began = time.process_time()
    while len(times) < 6 or (time.process_time() - began < 4 and len(times) < 40):
        start = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
        times.append((time.process_time() - start) / batch)
    return float(np.median(times[1:]))


def measure(path: Path) -> None:
    torch.set_num_threads(1)
    with path.open("a", encoding="utf-8") as file:
        for preset, batch, walks, mutations in SOURCES:
            spec = StudySpec.load(preset)
            space, rng = spec.build_space(), random.Random(0)
            for walk in range(walks):
                architecture = space.parse(space.initial)
                for _ in range(0 if walk == 0 else mutations):
                    architecture = space.mutate(architecture, rng) or architecture
                costs = count(architecture, spec.resolution, spec.num_classes)
                if costs.macs > (3e8 if spec.resolution < 64 else 1e9):
                    continue
                seconds = seconds_per_image(architecture, spec.resolution, spec.num_classes, batch)
                row = {
                    "preset": preset,
                    "resolution": spec.resolution,
                    "batch": batch,
                    "seconds": seconds,
                    "macs": costs.macs,
                    "activation_bytes": costs.activation_bytes,
                    "convs": costs.convs,
                    "structure": str(architecture),
                }
                file.write(json.dumps(row) + "\n")
                file.flush()
                print(
                    {key: row[key] for key in ("preset", "macs", "convs")},
                    f"{1 / seconds:.1f} images/s",
                    flush=True,
                )


def fit(path: Path) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    from zenopt.latency.fit import fit_relative

    matrix = np.array([[row["macs"], row["activation_bytes"]] for row in rows])
    times = np.array([row["seconds"] for row in rows])
    found = fit_relative(matrix, times)
    ratios = matrix @ found / times
    print(f"seconds per image = {found[0]:.3g} * macs + {found[1]:.3g} * activation_bytes")
    print(f"{len(rows)} networks, predicted / measured: {ratios.min():.2f} to {ratios.max():.2f}, "
          f"mean error {np.abs(ratios - 1).mean():.0%}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--fit", type=Path)
    options = parser.parse_args()
    if options.output:
        measure(options.output)
    if options.fit:
        fit(options.fit)


if __name__ == "__main__":
    main()
