"""Fits the closed form's correction for finite width and batch, and checks it on structures it was not fitted on.

    python benchmarks/closed_form_fit.py benchmarks/closed_form_layers.jsonl [--write zenopt/closed_form/fitted.py]

The data come from ``closed_form_measure.py``. Three quarters of the structures are fitted (batch normalisation terms
layer by layer, output distances and scores, by least squares), the last quarter is kept for checking. Needs scipy.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from math import log, pi
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from zenopt.core.lowering import lower_unit
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.closed_form import ChainEvaluator
from zenopt.spaces.chain.closed_form.block_terms import relu_distances
from zenopt.spaces.chain.closed_form.correction import Correction
from zenopt.spaces.chain.closed_form.edges import tap_means, window_matrix
from zenopt.spaces.chain.closed_form.fitted import FITTED
from zenopt.spaces.chain.closed_form.meanfield import input_distance

#: Starting values and upper bounds; all constants are positive.
START = {
    "injection": (0.8, 50), "area": (0.3, 50), "keep3": (0.95, 1), "keep5": (0.4, 1), "keep7": (0.01, 1),
    "growth": (0.7, 50), "growth_pointwise": (0.5, 50), "overlap_injection": (2.5, 50), "overlap_width": (50, 200),
    "overlap_keep": (0.95, 1), "overlap_keep_pointwise": (0.25, 1), "saturation": (30, 200),
    "saturation_power": (1.2, 3),
}  # fmt: skip
#: Of log-normal scales; fitting them too gains nothing.
MEAN_DECAY, OUTPUT_DECAY = 1 / 4, 1 / 8
HELD_OUT = 4
#: What a score's own error is taken for, beside its scatter.
FLOOR = 0.0015


class Layers:
    """Measured structures, layer by layer: arrays of ``layers x records``."""

    def __init__(self, records: list[dict]) -> None:
        chains = [_body(record) for record in records]
        self.batch = np.array([record["batch_size"] for record in records], dtype=float)
        self.mean = np.array([record["mean"] for record in records])
        # One draw says nothing of its scatter; those structures are wide and hardly scatter.
        self.error = np.array(
            [(record["std"] or 0.002 * record["mean"]) / max(1, record["draws"]) ** 0.5 for record in records]
        )
        self.output = np.array([record["output"] for record in records])
        shape = (max(map(len, chains)), len(records))
        self.alive = np.zeros(shape, dtype=bool)
        self.measured = np.zeros(shape)
        for name in ("kernel", "size", "channels", "fan_in", "power", "squared_mean", "variance", "largest"):
            setattr(self, name, np.ones(shape))
        self.depthwise = np.zeros(shape, dtype=bool)
        self.elements = np.zeros(len(records))
        self.scale = np.zeros(len(records))
        for column, (record, chain) in enumerate(zip(records, chains, strict=True)):
            self._fill(column, record, chain)

    def _fill(self, column: int, record: dict, chain: list) -> None:
        pattern = np.ones((record["resolution"], 1))
        for row, (layer, largest) in enumerate(chain):
            means = tap_means(np.sqrt(pattern), layer.kernel, layer.stride)
            after = window_matrix(layer.kernel, layer.stride, layer.in_size) @ pattern
            values = {
                "alive": True, "measured": record["layers"][row], "kernel": layer.kernel, "size": layer.in_size,
                "channels": layer.in_channels, "fan_in": layer.in_channels // layer.groups, "largest": largest,
                "depthwise": layer.groups == layer.in_channels > 1, "power": after.mean() ** 2,
                "squared_mean": (means**2).sum() ** 2, "variance": (pattern**2).mean() ** 2 - 1,
            }  # fmt: skip
            for name, value in values.items():
                getattr(self, name)[row, column] = value
            pattern = after / after.mean()
        last = chain[-1][0]
        self.elements[column] = log(last.out_channels * last.out_size**2)
        self.scale[column] = 2 * log(np.sqrt(pattern).mean())


def _body(record: dict) -> list:
    """Return the main-path convolutions, each with the largest kernel of its block."""
    chain, size = [], record["resolution"]
    for block in Architecture.parse(record["structure"]).blocks:
        layers = [layer for layer in lower_unit(block, size, False, False) if layer.kind == "conv"]
        chain += [(layer, max(3, *(other.kernel for other in layers), 3)) for layer in layers]
        size = layers[-1].out_size
    return chain


def predict(constants: dict[str, float], data: Layers) -> tuple[np.ndarray, np.ndarray]:
    """Return (BN term of every layer, output term), by the recursion that the package tabulates by block."""
    count = len(data.batch)
    whole, local, overlap = np.zeros((3, count))
    distance = np.full(count, input_distance(0.01))
    terms = np.zeros_like(data.measured)
    saturation = constants["saturation"] / data.batch ** constants["saturation_power"]
    for row in range(len(terms)):
        alive, kernel = data.alive[row], data.kernel[row]
        power, squared, variance = data.power[row], data.squared_mean[row], data.variance[row]
        if row == 0:
            spread = power
        else:
            seen = whole + local
            seen = seen / (1 + saturation * seen)
            spread = 0.5 * power - squared / (2 * pi) * np.exp(-MEAN_DECAY * seen) * (1 + 0.5 * overlap)
            distance = np.where(alive, relu_distances(distance) * power / spread, distance)
        terms[row] = np.where(alive, 0.5 * np.log(0.81 + 0.19 * data.fan_in[row] * spread), 0)
        is_window = kernel > 1
        common = np.minimum(
            1, np.maximum(1, constants["area"] * data.largest[row] ** 2) / data.size[row] ** 2
        )
        added = np.where(data.depthwise[row], 0, constants["injection"]) / data.channels[row]
        growth = 1 + constants["growth"] * variance * np.where(is_window, 1, constants["growth_pointwise"])
        kept = np.select(
            [kernel == 1, kernel == 3, kernel == 5],
            [1.0, constants["keep3"], constants["keep5"]],
            constants["keep7"],
        )
        overlap_kept = np.where(is_window, constants["overlap_keep"], constants["overlap_keep_pointwise"])
        overlap_added = constants["overlap_injection"] / (data.channels[row] + constants["overlap_width"])
        overlap = np.where(alive, overlap_kept * (overlap + (overlap_added if row else 0)), overlap)
        whole = np.where(alive, (whole + added * common) * growth, whole)
        local = np.where(alive, (local + added * (1 - common)) * kept, local)
    seen = whole + local
    output = (
        data.elements
        + data.scale
        + 0.5 * np.log(distance / pi)
        - OUTPUT_DECAY * seen / (1 + saturation * seen)
    )
    return terms, output


def residuals(values: np.ndarray, data: Layers) -> np.ndarray:
    terms, output = predict(dict(zip(START, values, strict=True)), data)
    relative = (terms.sum(axis=0) + output - data.mean) / data.mean
    weight = 1 / np.sqrt((data.error / data.mean) ** 2 + FLOOR**2)
    depth = data.alive.sum(axis=0)
    by_layer = np.where(data.alive, terms - data.measured, 0) / np.sqrt(
        0.01**2 + 0.09 * data.error**2 / depth
    )
    by_output = (output - data.output) / np.sqrt(0.05**2 + 0.3 * data.error**2)
    return np.concatenate([4 * relative * weight, 0.15 * by_layer.ravel(), 0.5 * by_output])


def as_correction(constants: dict[str, float]) -> Correction:
    shares = {name: float(f"{value:.4g}") for name, value in constants.items()}
    keep = tuple((kernel, shares.pop(f"keep{kernel}")) for kernel in (3, 5, 7))
    return Correction(keep_local=keep, mean_decay=MEAN_DECAY, output_decay=OUTPUT_DECAY, **shares)


def report(name: str, records: list[dict], correction: Correction) -> None:
    """Print the errors of the whole closed form, as the package evaluates it, against measured scores."""
    scatter = [
        100 * (record["std"] or 0) / record.get("draws", record.get("repeats")) ** 0.5 / record["mean"]
        for record in records
    ]
    print(
        f"{name}: {len(records)} records, standard errors of the measurements up to {max(scatter):.2f} %, "
        f"rms {np.sqrt(np.mean(np.square(scatter))):.2f} %"
    )
    edges_alone = replace(correction, injection=0.0, overlap_injection=0.0)
    for label, constants in (
        ("uncorrected", None),
        ("zero padding alone", edges_alone),
        ("corrected", correction),
    ):
        errors = np.array([_error(record, constants) for record in records])
        print(
            f"    {label:20s} largest {np.abs(errors).max():.2f} %, rms {np.sqrt((errors**2).mean()):.2f} %, "
            f"mean {errors.mean():+.2f} %"
        )


def _error(record: dict, correction: Correction | None) -> float:
    architecture = Architecture.parse(record["structure"])
    evaluator = ChainEvaluator(
        [block.type_name for block in architecture.blocks],
        record["resolution"],
        batch_size=None if correction is None else record["batch_size"],
        correction=correction or FITTED,
    )
    score = evaluator.score(evaluator.codec.encode([architecture]))[0]
    return 100 * (score / record["mean"] - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--write", type=Path, help="write the constants to this Python file")
    arguments = parser.parse_args()
    records = [json.loads(line) for line in arguments.data.read_text().splitlines()]
    fitted = [record for record in records if record["index"] % HELD_OUT != HELD_OUT - 1]
    held_out = [record for record in records if record["index"] % HELD_OUT == HELD_OUT - 1]
    start = np.array([value for value, _ in START.values()])
    upper = np.array([bound for _, bound in START.values()])
    solution = least_squares(
        residuals,
        start,
        args=(Layers(fitted),),
        bounds=(np.zeros(len(start)), upper),
        x_scale=start,
        max_nfev=60,
    )
    correction = as_correction(dict(zip(START, map(float, solution.x), strict=True)))
    print(correction)
    report("fitted structures", fitted, correction)
    report("held-out structures", held_out, correction)
    scores = json.loads((Path(__file__).parents[1] / "tests/fixtures/zen_score_means.json").read_text())
    report("reference scores", scores, correction)
    if arguments.write:
        arguments.write.write_text(
            '"""The fitted constants of the correction; written by ``benchmarks/closed_form_fit.py``."""\n\n'
            "from __future__ import annotations\n\n"
            "from zenopt.spaces.chain.closed_form.correction import Correction\n\n"
            f"FITTED = {correction!r}\n"
        )


if __name__ == "__main__":
    main()
