"""Fits: the solver, and that the shipped profiles are what their data gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torchvision
from scipy.optimize import nnls
from scipy.stats import spearmanr

from zenopt.core.errors import DataError
from zenopt.latency import load_profile, predict_latency_ms
from zenopt.latency.fit import (
    errors_of,
    fit_relative,
    fit_robust,
    leave_one_out,
    nonnegative_least_squares,
    spearman,
)
from zenopt.latency.trace import predict_module_latency_ms
from zenopt.spaces.chain.architecture import Architecture

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "latency"
TERMS = json.loads((FIXTURES / "terms.json").read_text())
PUBLISHED = json.loads((FIXTURES / "published.json").read_text())


@pytest.mark.parametrize("seed", range(20))
def test_solver_agrees_with_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(12, 6)) * 10.0 ** rng.integers(-3, 4, 6)
    target = rng.normal(size=12)
    expected, residual = nnls(matrix, target)
    solution = nonnegative_least_squares(matrix, target)
    assert np.all(solution >= 0)
    assert np.linalg.norm(matrix @ solution - target) == pytest.approx(residual, rel=1e-6)
    assert np.allclose(solution, expected, rtol=1e-4, atol=1e-8 * max(1.0, expected.max()))


def test_rank_correlation_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 9, 40), rng.integers(0, 9, 40)
    assert spearman(first, second) == pytest.approx(spearmanr(first, second)[0])
    assert np.isnan(spearman([1, 1], [1, 2]))


@pytest.mark.parametrize("name", sorted(TERMS))
def test_profile_is_what_its_data_gives(name: str) -> None:
    case = TERMS[name]
    matrix, times = np.array(case["matrix"]), np.array(case["published_ms"])
    profile = load_profile(name)
    values = dict(zip(case["terms"], fit_relative(matrix, times), strict=True))
    stored = dict(profile.model["coefficients"])
    if "kernel_ms" in values:
        stored["kernel_ms"] = profile.model["dense"]
    for term, value in values.items():
        assert stored.get(term, 0.0) == pytest.approx(value, rel=1e-3)
    claimed = errors_of(leave_one_out(matrix, times), times).to_json()
    assert {key: profile.errors[key] for key in claimed} == pytest.approx(claimed, abs=2e-4)


def test_eager_profile_beats_two_rates_and_bytes() -> None:
    # Two-rate + bytes was known to reach 9.8 % mean and 42 % largest error, leave one out over these 18 networks.
    errors = load_profile("v100-fp16-b64-eager").errors
    assert errors["networks"] == 18
    assert errors["mape"] < 0.098
    assert errors["max"] < 0.42


@pytest.mark.parametrize("name", sorted(TERMS))
def test_published_zennets_are_predicted(name: str) -> None:
    case = TERMS[name]
    coefficients_only = {
        "v100-fp16-b64": 0.25,
        "v100-fp16-b64-eager": 0.25,
        "t4-int8-b64": 0.16,
        "pixel2-b1": 0.22,
    }
    for network, published in zip(case["networks"], case["published_ms"], strict=True):
        entry = PUBLISHED[network]
        if "structure" in entry:
            architecture = Architecture.parse(entry["structure"])
            predicted = predict_latency_ms(architecture, name, entry["resolution"], use_se=entry["use_se"])
            assert predicted == pytest.approx(published, rel=coefficients_only[name]), network


def test_resnet34_is_predicted_through_its_module() -> None:
    predicted = predict_module_latency_ms(torchvision.models.resnet34(), "v100-fp16-b64-eager", 224)
    assert predicted == pytest.approx(PUBLISHED["ResNet-34"]["v100_ms"], rel=0.1)


def test_times_must_be_positive() -> None:
    with pytest.raises(DataError):
        fit_relative(np.ones((2, 1)), np.array([1.0, 0.0]))
    with pytest.raises(DataError):
        fit_relative(np.ones((0, 1)), np.ones(0))


def test_errors_without_a_rank_correlation_stay_json() -> None:
    errors = errors_of([1.0, 1.0], [1.0, 2.0]).to_json()
    assert errors["spearman"] is None
    assert errors["mape"] == 0.25
    json.dumps(errors, allow_nan=False)


def test_wild_measurements_do_not_decide() -> None:
    matrix = np.arange(1.0, 21.0)[:, None]
    times = 3 * matrix[:, 0]
    times[4] *= 0.05
    assert fit_robust(matrix, times)[0] == pytest.approx(3, rel=0.05)
    assert fit_relative(matrix, times)[0] < 1
