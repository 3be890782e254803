"""Latency predictors on four devices of HW-NAS-Bench: fitted to few architectures, tested on all others.

Needs the table ``arch_index,arch_str,raspi4_ms,pixel3_ms,eyeriss_ms,fpga_ms`` (not part of the project). Four additive
predictors are fitted to 30 and to 100 random architectures: terms as in ``zenopt latency fit``, or one coefficient per
operation, each over all edges or over those whose result is used. The one with the smallest leave-one-out error on the
fitted architectures is tested on the rest. Near-empty networks have outlier values in the table on two devices, so
errors are also given without networks under 2 % of the largest.

    python benchmarks/latency_nasbench201.py hw_nasbench_nb201.csv.gz [--repeats 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from zenopt.latency.fit import errors_of, fit_robust, leave_one_out, term_matrix
from zenopt.latency.operations import layer_operation
from zenopt.spaces.nasbench201.architecture import OPERATIONS, CellArchitecture

DEVICES = ("raspi4_ms", "pixel3_ms", "eyeriss_ms", "fpga_ms")
SIZES = (30, 100)
TERMS = (
    "network", "pointwise_gmacs", "spatial_gmacs", "conv_gb", "elementwise_gb", "gate_gb", "conv_count",
    "elementwise_count",
)  # fmt: skip


def read(path: Path) -> tuple[list[str], np.ndarray]:
    with gzip.open(path, "rt") as stream:
        rows = list(csv.DictReader(stream))
    return [row["arch_str"] for row in rows], np.array(
        [[float(row[device]) for device in DEVICES] for row in rows]
    )


def used_operations(operations: tuple[str, ...]) -> tuple[str, ...]:
    """Replace edges whose result nothing uses by ``none``: inference runtimes drop them."""
    a, b, c, d, e, f = operations
    second = f != "none"
    first = e != "none" or (c != "none" and second)
    return (a if first else "none", b if second else "none", c if second else "none", d, e, f)


def features(texts: list[str]) -> dict[str, np.ndarray]:
    """Return a matrix per predictor: one row per architecture."""
    every = [CellArchitecture.parse(text).operations for text in texts]
    matrices = {}
    known: dict[tuple[str, ...], np.ndarray] = {}
    for label, cells in (("all edges", every), ("used edges", [used_operations(ops) for ops in every])):
        rows = []
        for operations in cells:
            if operations not in known:
                layers = CellArchitecture(operations).lower(32)
                known[operations] = term_matrix(
                    [[layer_operation(layer) for layer in layers]], TERMS, 1, 4.0
                )[0]
            rows.append(known[operations])
        matrices[f"terms, {label}"] = np.array(rows)
        matrices[f"operation counts, {label}"] = np.array(
            [[1.0, *(operations.count(name) for name in OPERATIONS)] for operations in cells]
        )
    return matrices


def choose(matrices: dict[str, np.ndarray], train: np.ndarray, times: np.ndarray) -> str:
    """Return the predictor with the smallest leave-one-out error on the fitted architectures alone."""
    return min(matrices, key=lambda name: errors_of(leave_one_out(matrices[name][train], times), times).mape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--repeats", type=int, default=5, help="random draws of the fitted architectures")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    texts, times = read(options.table)
    matrices = features(texts)
    results: list[dict[str, Any]] = []
    for column, device in enumerate(DEVICES):
        measured = times[:, column]
        for size in SIZES:
            draws, chosen = [], []
            for repeat in range(options.repeats):
                order = np.random.default_rng(repeat).permutation(len(texts))
                train, test = order[:size], order[size:]
                # A near-empty outlier among the few would own the relative fit.
                train = train[measured[train] > 0.02 * measured[train].max()]
                chosen.append(choose(matrices, train, measured[train]))
                matrix = matrices[chosen[-1]]
                predicted = matrix[test] @ fit_robust(matrix[train], measured[train])
                full = measured[test] > 0.02 * measured.max()
                everything = errors_of(np.maximum(predicted, 1e-9), measured[test])
                solid = errors_of(predicted[full], measured[test][full])
                draws.append((everything.spearman, everything.within_10, solid.within_10, solid.mape))
            mean = np.mean(draws, axis=0)
            results.append(
                {
                    "device": device[:-3],
                    "fitted": size,
                    "spearman": round(float(mean[0]), 4),
                    "within_10": round(float(mean[1]), 4),
                    "within_10_not_empty": round(float(mean[2]), 4),
                    "mape_not_empty": round(float(mean[3]), 4),
                    "chosen": sorted(set(chosen)),
                }
            )
            print(results[-1], flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
