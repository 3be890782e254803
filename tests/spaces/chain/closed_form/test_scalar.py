from __future__ import annotations

import json
import subprocess
import sys
from math import log, pi, sqrt
from pathlib import Path

import numpy as np
import pytest

from zenopt.core.errors import StructureError
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.closed_form import closed_form_zen
from zenopt.spaces.chain.closed_form.meanfield import input_distance, relu_distance, tap_sums

GOLDENS = json.loads((Path(__file__).parents[3] / "fixtures" / "zen_score_means.json").read_text())


def golden_subset(name: str) -> tuple[np.ndarray, list[str]]:
    """Measured means and structures, one record per structure (the first with most repeats)."""
    records: dict[str, dict] = {}
    for record in GOLDENS:
        space = "mobile" if "IDW" in record["structure"] else "superres"
        if f"{space}{record['resolution']}" == name:
            known = records.setdefault(record["structure"], record)
            if record["repeats"] > known["repeats"]:
                records[record["structure"]] = record
    return np.array([record["mean"] for record in records.values()]), list(records)


def ranks(values: np.ndarray) -> np.ndarray:
    return np.argsort(np.argsort(values))


@pytest.mark.parametrize(
    ("name", "resolution"), [("superres32", 32), ("superres224", 224), ("mobile224", 224)]
)
def test_agrees_with_the_reference_scores(name: str, resolution: int) -> None:
    measured, structures = golden_subset(name)
    computed = np.array(
        [closed_form_zen(Architecture.parse(text), resolution, batch_size=None) for text in structures]
    )
    assert len(structures) >= 12
    assert np.corrcoef(ranks(measured), ranks(computed))[0, 1] >= 0.998
    assert np.abs(computed / measured - 1).max() <= 0.0305


def test_one_layer_by_hand() -> None:
    # 1x1 convolution of 3 channels to 8 on 4x4 pixels: v = 3, d = 1 - 1/sqrt(1 + gamma^2), 8 * 16 outputs.
    distance = 1 - 1 / sqrt(1.01)
    spread = log(8 * 16) + log(sqrt(distance / pi))
    architecture = Architecture.parse("SuperConvK1BNRELU(3,8,1,1)")
    score = closed_form_zen(architecture, 4, gamma=0.1, batch_size=None)
    assert score == pytest.approx(0.5 * log(0.81 + 0.19 * 3) + spread, rel=1e-12)
    assert closed_form_zen(architecture, 4, gamma=0.1, batch_size=None, true_variance=True) == pytest.approx(
        0.5 * log(3) + spread, rel=1e-12
    )


def test_two_1x1_layers_by_hand() -> None:
    # Without padding S1 = S2 = 1: v2 = 8 (1/2 - 1/(2 pi)), and the distance grows by 1 / (1/2 - 1/(2 pi)).
    spread = 0.5 - 1 / (2 * pi)
    distance = relu_distance(1 - 1 / sqrt(1.01)) / spread
    expected = (
        0.5 * log(0.81 + 0.19 * 3)
        + 0.5 * log(0.81 + 0.19 * 8 * spread)
        + log(16 * 16)
        + 0.5 * log(distance / pi)
    )
    architecture = Architecture.parse("SuperConvK1BNRELU(3,8,1,1)SuperConvK1BNRELU(8,16,1,1)")
    assert closed_form_zen(architecture, 4, gamma=0.1, batch_size=None) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("kernel", "stride", "size"), [(1, 2, 5), (3, 1, 4), (3, 2, 7), (7, 1, 2), (5, 2, 8)]
)
def test_tap_sums_count_valid_pixels(kernel: int, stride: int, size: int) -> None:
    padding = (kernel - 1) // 2
    inside = np.pad(np.ones((size, size)), padding)
    outputs = (size + 2 * padding - kernel) // stride + 1
    window = np.array(
        [
            [
                inside[t : t + outputs * stride : stride, u : u + outputs * stride : stride].mean()
                for u in range(kernel)
            ]
            for t in range(kernel)
        ]
    )
    assert tap_sums(kernel, stride, size) == pytest.approx((window.sum(), (window**2).sum()), rel=1e-12)


@pytest.mark.parametrize("distance", [1e-4, 0.01, 0.3, 1.0, 1.7, 2.0])
def test_relu_distance_is_a_gaussian_integral(distance: float) -> None:
    # E relu(u)^2 - E relu(u) relu(v) with v = r u + sqrt(1 - r^2) w, by Gauss-Hermite quadrature in polar angle.
    angles = (np.arange(20_000) + 0.5) * (2 * pi / 20_000)
    shift = np.arccos(1 - distance)
    u, v = np.maximum(np.cos(angles), 0), np.maximum(np.cos(angles - shift), 0)
    assert relu_distance(distance) == pytest.approx(2 * np.mean(u * u - u * v), rel=2e-4, abs=1e-9)


def test_distances_join_smoothly() -> None:
    assert relu_distance(1.001e-7) == pytest.approx(1.001e-7 / 2, rel=1e-3)
    assert input_distance(1e-9) == pytest.approx(0.5e-18, rel=1e-12)


def test_resolution_must_be_positive() -> None:
    with pytest.raises(StructureError, match="resolution must be a positive integer"):
        closed_form_zen(Architecture.parse("SuperConvK1BNRELU(3,8,1,1)"), 0)


def test_imports_neither_torch_nor_optuna() -> None:
    code = (
        "import sys, zenopt.spaces.chain.closed_form; sys.exit(bool({'torch', 'optuna'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
