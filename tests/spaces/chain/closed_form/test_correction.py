from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from zenopt.core.errors import StructureError
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.closed_form import closed_form_zen
from zenopt.spaces.chain.closed_form.block_terms import Shape, readings
from zenopt.spaces.chain.closed_form.edges import (
    POSITIONS,
    VARIANCES,
    hills,
    position_of,
    tap_means,
    window_matrix,
)
from zenopt.spaces.chain.closed_form.meanfield import tap_sums

SCORES = json.loads((Path(__file__).parents[3] / "fixtures" / "zen_score_means.json").read_text())
NARROW = "SuperConvK3BNRELU(3,8,1,1)SuperResK1K3K1(8,16,2,8,5)SuperResK1K3K1(16,16,1,8,5)SuperConvK1BNRELU(16,64,1,1)"


def test_errors_against_the_reference_scores_are_below_one_percent() -> None:
    # None of these 67 records was fitted on.
    errors = [
        closed_form_zen(
            Architecture.parse(record["structure"]), record["resolution"], batch_size=record["batch_size"]
        )
        / record["mean"]
        - 1
        for record in SCORES
    ]
    assert len(errors) == 67
    assert np.abs(errors).max() < 0.01
    assert np.sqrt(np.mean(np.square(errors))) < 0.004
    assert abs(np.mean(errors)) < 0.002


def test_edges_alone_bring_most_of_it() -> None:
    # Nothing is fitted in the treatment of zero padding: with a batch of one nothing else is seen of the scatter.
    record = next(record for record in SCORES if record["id"] == "zennet_imagenet1k_latency12ms_res224")
    architecture = Architecture.parse(record["structure"])
    plain = closed_form_zen(architecture, 224, batch_size=None)
    edges = closed_form_zen(architecture, 224, batch_size=1)
    assert record["mean"] - plain > 9
    assert record["mean"] - edges < 6.5


def test_larger_batches_score_higher() -> None:
    architecture = Architecture.parse(NARROW)
    scores = [closed_form_zen(architecture, 32, batch_size=batch) for batch in (4, 8, 16, 64)]
    assert scores == sorted(set(scores))
    # Nothing was measured beyond; larger batches count as this.
    assert closed_form_zen(architecture, 32, batch_size=256) == scores[-1]


def test_the_published_dependence_on_the_batch() -> None:
    # Measured: batch 64 gives 123.15 +- .20, 16 gives 122.35 +- .13, 8 gives 121.58 +- .07.
    record = next(record for record in SCORES if record["id"] == "zennet_cifar_model_size1M_res32")
    architecture = Architecture.parse(record["structure"])
    for batch, measured in ((64, 123.15), (16, 122.35), (8, 121.58)):
        assert closed_form_zen(architecture, 32, batch_size=batch) == pytest.approx(measured, rel=0.012)


def test_batch_size_must_be_positive() -> None:
    with pytest.raises(StructureError, match="batch_size must be a positive integer"):
        closed_form_zen(Architecture.parse(NARROW), 32, batch_size=0)


@pytest.mark.parametrize("size", [1, 2, 4, 7, 16, 112])
def test_hills_have_mean_one_and_grow(size: int) -> None:
    patterns = hills(size)
    assert patterns.shape == (size, POSITIONS)
    assert patterns.mean(axis=0) == pytest.approx(np.ones(POSITIONS), rel=1e-9)
    assert patterns.min() >= 0
    positions = position_of(patterns)
    assert (np.diff(positions) > -1e-6).all()
    reachable = VARIANCES[1:] < 0.9 * (patterns[:, -1] ** 2).mean() - 0.9
    assert np.abs(positions - np.arange(POSITIONS))[1:][reachable].max(initial=0) < 0.3


@pytest.mark.parametrize(("kernel", "stride", "size"), [(3, 1, 8), (5, 2, 9), (7, 1, 4), (1, 2, 7)])
def test_flat_patterns_give_the_sums_over_valid_taps(kernel: int, stride: int, size: int) -> None:
    flat = np.ones((size, 1))
    valid, squared = tap_sums(kernel, stride, size)
    assert (window_matrix(kernel, stride, size) @ flat).mean() ** 2 == pytest.approx(valid, rel=1e-12)
    assert (tap_means(flat, kernel, stride) ** 2).sum() ** 2 == pytest.approx(squared, rel=1e-12)


def test_edges_as_a_simulation_sees_them() -> None:
    # Wide random convolutions with zero padding on a 6x6 map: the variance of each pixel among samples.
    random = np.random.default_rng(0)
    size, width, batch = 6, 96, 48
    values = random.standard_normal((batch, width, size, size))
    pattern = np.ones(size)
    for _ in range(3):
        padded = np.pad(np.maximum(values, 0), ((0, 0), (0, 0), (1, 1), (1, 1)))
        weights = random.standard_normal((width, width, 3, 3))
        values = sum(
            np.einsum(
                "bchw,oc->bohw", padded[:, :, t : t + size, u : u + size], weights[:, :, t, u], optimize=True
            )
            for t in range(3)
            for u in range(3)
        )
        values -= values.mean(axis=(0, 2, 3), keepdims=True)
        values /= values.std(axis=(0, 2, 3), keepdims=True)
        pattern = window_matrix(3, 1, size) @ pattern
        pattern /= pattern.mean()
    seen = values.var(axis=0).mean(axis=0)
    assert seen / seen.mean() == pytest.approx(np.outer(pattern, pattern), rel=0.15)


def test_readings_name_the_widths() -> None:
    shape = Shape.of("SuperResIDWE6K5", 2, 32, 1, False)
    found = [
        (reading.symbol, reading.ratio, reading.fan_symbol, reading.fan_ratio) for reading in readings(shape)
    ]
    assert found == [(1, 1, 1, 1), (2, 6, 0, 1), (2, 6, 2, 6), (2, 1, 2, 1), (3, 6, 0, 1), (3, 6, 3, 6)]
