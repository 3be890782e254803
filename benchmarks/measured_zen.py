"""How much faster the measured Zen-score got, in CPU time, against the plain procedure in the same run.

    python benchmarks/measured_zen.py [--fit 14] [--seconds 20] [--output FILE]

The plain procedure is the published one: build the network (PyTorch initialises it), redraw its weights from N(0, 1),
two forwards of 64 contiguous images under no_grad.

1. Arithmetic: the same batch and the same number of draws, without modules.
2. Equal standard error: ``zen-at-64`` from batches of 8. Its two constants are fitted here on structures from random
   walks (the library's come from such a run), and the library's are checked on the published and mutated reference
   structures, which no fit sees. A draw's error is its spread and the bias that is left; the gain says how much CPU
   time the plain procedure takes for the same error.

Procedures take turns, draw by draw, so that other load on the machine meets all of them. One thread.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from zenopt.core.costs import count
from zenopt.core.lowering import Layer, lower
from zenopt.nn import build_network
from zenopt.proxies import score_architecture
from zenopt.proxies.randomness import initialise, make_generator
from zenopt.proxies.zen import draw_inputs
from zenopt.proxies.zen_executor import draw_weights, zen_of_chain
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.closed_form.batch64 import DEPTH_FACTOR, DEPTH_ONSET, depth_term
from zenopt.spaces.chain.superres import SuperResSpace

GOLDENS = Path(__file__).parents[1] / "tests" / "fixtures" / "zen_scores.json"
CHECKED = (
    "cifar_mut_27", "cifar_mut_07", "cifar_mut_19", "cifar_mut_05", "cifar_mut_13", "cifar_mut_23", "cifar_mut_29",
    "cifar_mut_18", "zennet_cifar_model_size05M_res32", "zennet_cifar_model_size1M_res32", "cifar_mut_09",
)  # fmt: skip
SIZE, SMALL = 32, 8
CPU = torch.device("cpu")


def convs_of(layers: tuple[Layer, ...]) -> int:
    return sum(layer.kind == "conv" and layer.role == "body" for layer in layers)


def plain(architecture: Architecture, seed: int) -> float:
    """The published procedure at batch 64."""
    network: Any = build_network(architecture, num_classes=10, residual=False)
    generator = make_generator(seed, 0, CPU)
    initialise(network, "gaussian", generator)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        x, changed = draw_inputs((64, 3, SIZE, SIZE), generator, 0.01)
        first, second = network.forward_features(x), network.forward_features(changed)
        score = (first - second).abs().sum(dim=(1, 2, 3)).mean().log()
        for norm in norms:
            score = score + 0.5 * norm.running_var.mean().log()
    return score.item()


def arithmetic(architecture: Architecture, seed: int) -> float:
    return score_architecture(
        architecture, "zen", resolution=SIZE, num_classes=10, batch_size=64, seed=seed
    ).mean


def small(architecture: Architecture, seed: int) -> float:
    return score_architecture(architecture, "zen-at-64", resolution=SIZE, batch_size=SMALL, seed=seed).mean


def paired_bias(layers: tuple[Layer, ...], seed: int) -> float:
    """Return s(64) - s(8) of one draw of weights and images; s(8) is the mean over all eight parts of the batch."""
    generator = make_generator(seed, 1, CPU)
    weights = draw_weights(layers, generator)
    x, changed = draw_inputs((64, 3, SIZE, SIZE), generator, 0.01)
    parts = zip(x.split(SMALL), changed.split(SMALL), strict=True)
    return zen_of_chain(layers, weights, x, changed) - statistics.fmean(
        zen_of_chain(layers, weights, part, other) for part, other in parts
    )


def timed(
    procedure: Callable[[Architecture, int], float], architecture: Architecture, seed: int
) -> tuple[float, float]:
    start = time.process_time()
    value = procedure(architecture, seed)
    return value, time.process_time() - start


def walk(seed: int) -> Architecture:
    """A random walk of mutations under a size limit, as a search takes; long walks end deep."""
    space, rng = SuperResSpace(stage_strides=(1, 2, 2, 2)), random.Random(seed)
    architecture = Architecture.parse(space.initial)
    limit = rng.choice([0.3e6, 1e6, 2e6])
    for _ in range(rng.randrange(5, 80)):
        child = space.mutate(architecture, rng)
        if child is None:
            continue
        costs = count(child, SIZE, 10)
        if costs.params <= limit and costs.macs <= 3e8 and child.depth <= 18:
            architecture = child
    return architecture


def bias_of(layers: tuple[Layer, ...], seconds: float) -> list[float]:
    found: list[float] = []
    start = time.process_time()
    while len(found) < 3 or (time.process_time() - start < seconds and len(found) < 40):
        found.append(paired_bias(layers, len(found)))
    return found


def fit(points: list[tuple[int, float, float]]) -> tuple[int, float]:
    """Least absolute deviations over (convolutions, bias, its standard error), with the onset on a grid.

    Not least squares: the bias of a deep structure comes from rare draws, so that a few draws can miss it altogether. A
    deviation counts in units of the standard error, a tenth of the bias (the form is rough) and 0.02, added in squares.
    """
    convs, bias, error = (np.array(column) for column in zip(*points, strict=True))
    scale = np.sqrt(error**2 + (0.1 * bias) ** 2 + 0.02**2)
    best = (np.inf, 0, 0.0)
    for onset in range(0, 61, 5):
        term = np.array([depth_term(int(count), SMALL, onset) for count in convs])
        counted = term > 0
        # The best factor is the median of bias / term, weighted by term / scale.
        ratio, weight = bias[counted] / term[counted], term[counted] / scale[counted]
        order = np.argsort(ratio)
        middle = np.searchsorted(np.cumsum(weight[order]), weight.sum() / 2)
        factor = float(ratio[order][middle])
        best = min(best, (float((np.abs(bias - factor * term) / scale).sum()), onset, factor))
    return best[1], best[2]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fit", type=int, default=14, help="structures to fit the exponent on")
    parser.add_argument("--seconds", type=float, default=20.0, help="CPU seconds per structure")
    parser.add_argument("--output", type=Path, help="write the numbers as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    goldens = {golden["id"]: golden for golden in json.loads(GOLDENS.read_text())}

    points = []
    for seed in range(arguments.fit):
        layers = lower(walk(seed), SIZE, residual=False)
        found = bias_of(layers, arguments.seconds / 2)
        error = statistics.stdev(found) / len(found) ** 0.5
        points.append((convs_of(layers), statistics.fmean(found), error))
        print(
            f"fit {seed:2}  {points[-1][0]:3} convs  {len(found):2} draws  bias {points[-1][1]:+.3f} +- {error:.3f}",
            flush=True,
        )
    onset, factor = fit(points)
    print(
        f"fitted onset {onset}, factor {factor:.3g}; in the library {DEPTH_ONSET} and {DEPTH_FACTOR:.3g}",
        flush=True,
    )

    rows = []
    for name in CHECKED:
        architecture = Architecture.parse(goldens[name]["structure"])
        procedures = {"plain": plain, "arithmetic": arithmetic, "small": small}
        values: dict[str, list[float]] = {key: [] for key in procedures}
        costs: dict[str, list[float]] = {key: [] for key in procedures}
        start = time.process_time()
        while len(values["plain"]) < 4 or (
            time.process_time() - start < arguments.seconds and len(values["plain"]) < 60
        ):
            for key, procedure in procedures.items():
                # The small batch is cheap: more draws of it, for a better estimate of its spread.
                for draw in range(4 if key == "small" else 1):
                    value, cost = timed(procedure, architecture, 10 * len(values["plain"]) + draw)
                    values[key].append(value)
                    costs[key].append(cost)
        layers = lower(architecture, SIZE, residual=False)
        bias = statistics.fmean(bias_of(layers, arguments.seconds / 2))
        residual = bias - DEPTH_FACTOR * depth_term(convs_of(layers), SMALL)
        cpu = {key: statistics.median(costs[key]) for key in procedures}
        variance = {
            "plain": statistics.variance([*values["plain"], *values["arithmetic"]]),
            "small": statistics.variance(values["small"]),
        }
        equal_spread = cpu["plain"] * variance["plain"] / (cpu["small"] * variance["small"])
        # With the bias that is left counted as error of every single draw.
        equal_error = cpu["plain"] * variance["plain"] / (cpu["small"] * (variance["small"] + residual**2))
        rows.append(
            {
                "name": name,
                "cpu_ms": {key: 1e3 * value for key, value in cpu.items()},
                "std": {key: value**0.5 for key, value in variance.items()},
                "bias": bias,
                "bias_left": residual,
                "arithmetic": cpu["plain"] / cpu["arithmetic"],
                "equal_spread": equal_spread,
                "equal_error": equal_error,
            }
        )
        row = rows[-1]
        print(
            f"{name:34} plain {row['cpu_ms']['plain']:7.1f} ms  arithmetic {row['arithmetic']:.2f}x  "
            f"std {row['std']['plain']:.2f} -> {row['std']['small']:.2f}  bias {row['bias']:+.3f} -> {residual:+.3f}  "
            f"equal spread {equal_spread:.1f}x  equal error {equal_error:.1f}x",
            flush=True,
        )
    for key in ("arithmetic", "equal_spread", "equal_error"):
        gains = [row[key] for row in rows]
        print(f"{key:13} geometric mean {statistics.geometric_mean(gains):.2f}x, least {min(gains):.2f}x")
    relative = [row["bias_left"] / row["std"]["plain"] for row in rows]
    print(
        f"bias left, in standard deviations of one plain draw: rms {np.sqrt(np.mean(np.square(relative))):.2f}"
    )
    if arguments.output:
        arguments.output.write_text(
            json.dumps({"onset": onset, "factor": factor, "fit": points, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
