"""Measures random structures layer by layer: the data that the closed form's correction is fitted on and checked on.

    python benchmarks/closed_form_measure.py --output benchmarks/closed_form_layers.jsonl --minutes 20

Each line of the output is one structure at one resolution and batch size: the mean over draws of the score, of the log
standard deviation of every batch normalisation as Zen-NAS reads it, and of the log L1 distance. It never looks at the
structures of the reference scores. The file is appended to; structures are numbered, so that a rerun continues.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
from torch import nn

from zenopt.core.costs import count
from zenopt.nn import build_network
from zenopt.spaces.chain.architecture import Architecture, make_block
from zenopt.spaces.chain.closed_form import closed_form_zen

#: (space, resolution, most MACs, most depth units, batch sizes with draws)
PLANS = (
    ("superres", 32, 150e6, 22, {16: 10, 64: 4, 8: 16}),
    ("mobile", 32, 40e6, 14, {16: 10}),
    ("superres", 224, 1.2e9, 14, {16: 2}),
    ("superres", 32, 60e6, 16, {16: 10, 32: 6}),
    ("mobile", 224, 0.25e9, 12, {16: 2}),
    ("superres", 96, 300e6, 14, {16: 4, 4: 6}),
)
#: Measured after the first: deep chains on small maps, where what accumulates over layers shows.
DEEP_PLANS = (
    ("deep", 32, 300e6, 30, {16: 8}),
    ("deep", 64, 300e6, 30, {16: 4, 64: 2}),
    ("deep-mobile", 32, 60e6, 30, {16: 8}),
)
#: Measured last: wide and deep, where scores hardly scatter.
WIDE_PLANS = (("deep-wide", 56, 4e9, 30, {16: 1}), ("deep-wide", 48, 2e9, 24, {16: 1, 64: 1}))
FIRST_DEEP = 1_000
FIRST_WIDE = 2_000


def widths(rng: random.Random, low: int, high: int) -> int:
    return 8 * max(1, round(math.exp(rng.uniform(math.log(low), math.log(high))) / 8))


def random_structure(space: str, resolution: int, rng: random.Random) -> Architecture:
    """Draw a structure: widths log-uniform, types and kernels uniform."""
    deep = space.startswith("deep")
    blocks = [
        make_block(
            "SuperConvK3BNRELU",
            in_channels=3,
            out_channels=widths(rng, 8, 64),
            stride=2 if resolution > 64 or deep else 1,
            depth=1,
        )
    ]
    strides = [1, 2, 2, 2] if resolution <= 64 else [2, 2, 2, 2]
    low, high = rng.choice([(8, 64), (8, 256), (32, 256)])
    if deep:
        strides = rng.choice([[1, 2, 2], [2, 1, 2], [2, 2, 1]])
        low, high = rng.choice([(32, 128), (48, 256), (96, 512)])
    if space == "deep-wide":
        low, high = 128, 768
    for stride in strides if deep else strides[: rng.choice([3, 4, 4])]:
        for repeat in range(rng.choice([1, 1, 2])):
            kernel = rng.choice([3, 5, 7])
            if space.endswith("mobile"):
                name = f"SuperResIDWE{rng.choice([1, 2, 4, 6])}K{kernel}"
            else:
                name = rng.choice([f"SuperResK{kernel}K{kernel}", f"SuperResK1K{kernel}K1"])
            blocks.append(
                make_block(
                    name,
                    in_channels=8,
                    out_channels=widths(rng, low, high),
                    stride=1 if repeat else stride,
                    depth=rng.randint(3, 5) if deep else rng.randint(1, 5),
                    bottleneck=widths(rng, 96, 224) if space == "deep-wide" else widths(rng, 8, high),
                )
            )
    blocks.append(
        make_block("SuperConvK1BNRELU", in_channels=8, out_channels=widths(rng, 64, 1024), stride=1, depth=1)
    )
    return Architecture.chain(blocks)


def choose(index: int) -> tuple[Architecture, int, dict[int, int]]:
    """Return the structure of this number; every other one is the best of a few, so that deep ones are among them."""
    rng = random.Random(index)
    plans = PLANS if index < FIRST_DEEP else DEEP_PLANS if index < FIRST_WIDE else WIDE_PLANS
    space, resolution, most_macs, most_layers, batches = plans[index % len(plans)]
    pool: list[Architecture] = []
    while len(pool) < (40 if (index // len(plans)) % 2 or space == "deep-wide" else 1):
        candidate = random_structure(space, resolution, rng)
        costs = count(candidate, resolution)
        if costs.macs <= most_macs and costs.layers <= most_layers:
            pool.append(candidate)
    return max(pool, key=lambda a: closed_form_zen(a, resolution)), resolution, batches


@torch.inference_mode()
def measure(architecture: Architecture, resolution: int, batch: int, draws: int, seed: int) -> dict:
    """Draw scores as Zen-NAS does; every draw starts from fresh running statistics."""
    network = build_network(architecture, num_classes=1, residual=False).train()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    torch.manual_seed(seed)
    terms, outputs, scores = [], [], []
    for _ in range(draws):
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.normal_()
        for norm in norms:
            norm.reset_running_stats()
        x = torch.randn(batch, 3, resolution, resolution)
        other = x + 0.01 * torch.randn_like(x)
        gap = (network.forward_features(x) - network.forward_features(other)).abs().sum(dim=(1, 2, 3)).mean()
        term = torch.stack([0.5 * norm.running_var.mean().log() for norm in norms]).double()
        terms.append(term)
        outputs.append(gap.log().double())
        scores.append(float(outputs[-1] + term.sum()))
    values = torch.tensor(scores, dtype=torch.float64)
    return {
        "draws": draws,
        "mean": round(float(values.mean()), 5),
        "std": round(float(values.std()), 5) if draws > 1 else None,
        "output": round(float(torch.stack(outputs).mean()), 6),
        "layers": [round(value, 5) for value in torch.stack(terms).mean(dim=0).tolist()],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("closed_form_layers.jsonl"))
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plans", choices=("first", "deep", "wide"), default="first")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    lines = arguments.output.read_text().splitlines() if arguments.output.exists() else []
    first = {"first": 0, "deep": FIRST_DEEP, "wide": FIRST_WIDE}[arguments.plans]
    known = [json.loads(line)["index"] for line in lines]
    index = max((number for number in known if first <= number < first + 1_000), default=first - 1) + 1
    deadline = time.monotonic() + 60 * arguments.minutes
    while time.monotonic() < deadline:
        architecture, resolution, batches = choose(index)
        with arguments.output.open("a") as file:
            for batch, draws in batches.items():
                record = {
                    "index": index,
                    "structure": str(architecture),
                    "resolution": resolution,
                    "batch_size": batch,
                    **measure(architecture, resolution, batch, draws, index),
                }
                file.write(json.dumps(record) + "\n")
                print(
                    f"{index:4d} {resolution} px batch {batch}: {record['mean']:.2f} +- {record['std'] or 0:.2f}"
                )
        index += 1


if __name__ == "__main__":
    main()
