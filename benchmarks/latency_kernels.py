"""Fits the kernel library of a V100 (TensorRT, fp16) and writes its coefficients.

Needs scikit-learn and scipy besides zenopt. The table of measured kernels (89,759 convolutions, Apache-2.0, columns
``depthwise,batch,in_channels,in_height,in_width,out_channels,kernel,stride,fused_elementwise_add,latency_ms``) is not
part of the project; only the coefficients are.

    python benchmarks/latency_kernels.py v100_trt_conv_fp16.csv.gz [--output FILE]
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from sklearn.ensemble import HistGradientBoostingRegressor

from zenopt.latency.kernels import (
    LIBRARIES_FOLDER,
    Kernel,
    KernelLibrary,
    Trees,
    analytic_ms,
    kernel_features,
)

BATCHES = (32, 64, 128)
PARAMETERS = {
    "dense": {"launch": 0.01, "rate": 0.02, "memory": 1.4, "thin_in": 4.0, "thin_out": 4.0, "tiles": 80.0},
    "depthwise": {"launch": 0.01, "rate": 0.5, "memory": 1.4},
}
SHAPE = {
    "dense": {"max_iter": 220, "max_leaf_nodes": 24, "learning_rate": 0.15},
    "depthwise": {"max_iter": 120, "max_leaf_nodes": 16, "learning_rate": 0.15},
}


def read_kernels(path: Path) -> tuple[list[Kernel], np.ndarray]:
    """Read the table; return kernels of whole batches and their times in ms."""
    kernels, times = [], []
    with gzip.open(path, "rt") as stream:
        for row in csv.DictReader(stream):
            if int(row["batch"]) in BATCHES:
                kernels.append(
                    Kernel(
                        int(row["batch"]), int(row["in_channels"]), int(row["in_height"]), int(row["out_channels"]),
                        int(row["kernel"]), int(row["stride"]), row["depthwise"] == "1",
                        row["fused_elementwise_add"] == "1",
                    )
                )  # fmt: skip
                times.append(float(row["latency_ms"]))
    return kernels, np.array(times)


def fit(kind: str, kernels: list[Kernel], times: np.ndarray) -> tuple[dict[str, float], Trees]:
    """Fit the analytic part to log times, then trees to the log residual."""
    names = list(PARAMETERS[kind])

    def residual(logs: np.ndarray) -> np.ndarray:
        parameters = dict(zip(names, np.exp(logs), strict=True))
        return np.log([analytic_ms(kernel, parameters) for kernel in sample]) - np.log(sample_times)

    # The analytic part has a handful of constants: some thousand kernels pin them down.
    chosen = np.random.default_rng(0).permutation(len(kernels))[:4000]
    sample, sample_times = [kernels[i] for i in chosen], times[chosen]
    start = np.log(list(PARAMETERS[kind].values()))
    solution = least_squares(residual, start, loss="soft_l1", f_scale=0.1, bounds=(start - 4, start + 4))
    parameters = {name: float(f"{value:.4g}") for name, value in zip(names, np.exp(solution.x), strict=True)}
    base = np.array([analytic_ms(kernel, parameters) for kernel in kernels])
    features = np.array([kernel_features(k, b) for k, b in zip(kernels, base, strict=True)])
    booster = HistGradientBoostingRegressor(
        min_samples_leaf=10, l2_regularization=1.0, early_stopping=False, random_state=0, **SHAPE[kind]
    ).fit(features, np.log(times / base))
    return parameters, export_trees(booster)


def export_trees(booster: HistGradientBoostingRegressor) -> Trees:
    """Flatten scikit-learn's trees depth first, rounded to five digits."""
    feature: list[int] = []
    threshold: list[float] = []
    right: list[int] = []
    roots: list[int] = []

    def walk(nodes: Any, index: int) -> None:
        node = nodes[index]
        here = len(feature)
        leaf = bool(node["is_leaf"])
        feature.append(-1 if leaf else int(node["feature_idx"]))
        threshold.append(float(f"{node['value'] if leaf else node['num_threshold']:.5g}"))
        right.append(0)
        if not leaf:
            walk(nodes, int(node["left"]))
            right[here] = len(feature)
            walk(nodes, int(node["right"]))

    for (predictor,) in booster._predictors:
        roots.append(len(feature))
        walk(predictor.nodes, 0)
    start = float(np.ravel(booster._baseline_prediction)[0])
    return Trees(round(start, 6), tuple(roots), tuple(feature), tuple(threshold), tuple(right))


def errors_of(
    kind: str, fitted: tuple[dict[str, float], Trees], kernels: list[Kernel], times: np.ndarray
) -> Any:
    parameters, trees = fitted
    library = KernelLibrary("held out", {kind: parameters}, {kind: trees}, {}, {}, {})
    error = np.abs(np.array([library.time_ms(kernel) for kernel in kernels]) / times - 1)
    return {
        "kernels": len(kernels),
        "mape": round(float(error.mean()), 4),
        "median": round(float(np.median(error)), 4),
        "p95": round(float(np.quantile(error, 0.95)), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--output", type=Path, default=LIBRARIES_FOLDER / "v100-trt-conv-fp16.json")
    options = parser.parse_args()
    kernels, times = read_kernels(options.table)
    batch = np.array([kernel.batch for kernel in kernels])
    size = np.array([kernel.in_size for kernel in kernels])
    depthwise = np.array([kernel.depthwise for kernel in kernels])
    # A shape is held out at every batch size, or its neighbours at other batches would give it away.
    shapes = {kernel._replace(batch=0): None for kernel in kernels}
    held = dict(zip(shapes, np.random.default_rng(1).random(len(shapes)) < 0.2, strict=True))
    held_out = np.array([held[kernel._replace(batch=0)] for kernel in kernels])
    content: dict[str, Any] = {"parameters": {}, "trees": {}, "measured": {}, "errors": {}}
    for kind in ("dense", "depthwise"):
        mine = depthwise == (kind == "depthwise")

        def pick(mask: np.ndarray) -> tuple[list[Kernel], np.ndarray]:
            return [kernels[i] for i in np.flatnonzero(mask)], times[mask]

        report = {
            "held-out shapes, 20 %": errors_of(
                kind, fit(kind, *pick(mine & ~held_out)), *pick(mine & held_out & (batch == 64))
            )
        }
        for unseen in (14, 32, 56, 126):
            report[f"unseen resolution {unseen}"] = errors_of(
                kind,
                fit(kind, *pick(mine & (size != unseen))),
                *pick(mine & (size == unseen) & (batch == 64)),
            )
        print(kind, json.dumps(report, indent=1), flush=True)
        parameters, trees = fit(kind, *pick(mine))
        print(kind, parameters, flush=True)
        content["parameters"][kind] = parameters
        content["trees"][kind] = {
            "start": trees.start, "roots": trees.roots, "feature": trees.feature, "threshold": trees.threshold,
            "right": trees.right,
        }  # fmt: skip
        part = pick(mine)[0]
        # Images have 3 channels, so stems have ratios of their own.
        ratios = [kernel.out_channels / kernel.in_channels for kernel in part if kernel.in_channels > 3]
        content["measured"][kind] = {
            "in_channels": (min(k.in_channels for k in part), max(k.in_channels for k in part)),
            "out_channels": (min(k.out_channels for k in part), max(k.out_channels for k in part)),
            "channel_ratio": (round(min(ratios), 4), round(max(ratios), 4)),
            "kernel": (min(k.kernel for k in part), max(k.kernel for k in part)),
            "stride": (min(k.stride for k in part), max(k.stride for k in part)),
            "in_size": (min(k.in_size for k in part), max(k.in_size for k in part)),
        }
        content["errors"][kind] = report
    content["data"] = {
        "source": "Convolution kernels measured on a V100 with TensorRT, fp16 (public operator library, Apache-2.0)",
        "kernels": len(kernels),
        "batches": list(BATCHES),
    }
    options.output.write_text(json.dumps(content, separators=(",", ":")) + "\n")
    print(f"{options.output}: {options.output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
