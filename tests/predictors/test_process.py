"""The process and its kernel: gradients, posterior by hand, incremental work, identities, lengths."""

from __future__ import annotations

import numpy as np
import pytest

from zenopt.core.errors import PredictorError
from zenopt.predictors.kernels import Kernel, Sample
from zenopt.predictors.pool import Pool
from zenopt.predictors.process import Process, _loss

SHARES = [(1.0,), (0.2, 1.0), (0.1, 0.4, 1.0)]


def draw(
    seed: int, count: int, shares: tuple[float, ...] = (1.0,), networks: int = 20
) -> tuple[Kernel, Sample, np.ndarray]:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(networks, 7))
    ids = rng.integers(0, networks, count)
    kernel = Kernel((np.arange(3), np.arange(3, 7)), shares)
    sample = Sample(
        matrix[ids],
        ids,
        rng.integers(0, len(shares), count),
        rng.uniform(0.3, 1.0, count),
        rng.normal(size=count),
    )
    values = matrix[ids, 0] + np.sin(matrix[ids, 4]) + 0.1 * rng.normal(size=count)
    return kernel, sample, (values - values.mean()) / values.std()


@pytest.mark.parametrize("shares", SHARES)
def test_gradient_is_that_of_finite_differences(shares: tuple[float, ...]) -> None:
    kernel, sample, values = draw(0, 30, shares)
    hyper = kernel.prior_mean + 0.5 * np.random.default_rng(1).normal(size=len(kernel))
    _, gradient = _loss(kernel, sample, values, hyper)
    step = 1e-5
    for index in range(len(kernel)):
        moved = step * np.eye(len(kernel))[index]
        up, down = (
            _loss(kernel, sample, values, hyper + moved)[0],
            _loss(kernel, sample, values, hyper - moved)[0],
        )
        assert gradient[index] == pytest.approx((up - down) / (2 * step), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("shares", SHARES)
def test_posterior_is_that_of_the_textbook(shares: tuple[float, ...]) -> None:
    kernel, sample, values = draw(2, 25, shares)
    process = Process.fit(kernel, sample, values)
    _, wanted, _ = draw(3, 6, shares, networks=6)
    wanted = Sample(wanted.matrix, np.full(6, -1), wanted.levels, wanted.noise, wanted.trend)
    cross = kernel.cross(sample, wanted, process.hyper)
    prior = kernel.cross(sample, sample, process.hyper) + np.diag(
        kernel.noise_variance(sample, process.hyper)
    )
    mean, deviation = process.predict(wanted)
    surprise = values - kernel.prior(sample, process.hyper)
    expected = kernel.prior(wanted, process.hyper) + cross.T @ np.linalg.solve(prior, surprise)
    assert mean == pytest.approx(expected, abs=1e-8)
    variance = kernel.own_variance(wanted, process.hyper) - (cross * np.linalg.solve(prior, cross)).sum(
        axis=0
    )
    assert deviation == pytest.approx(np.sqrt(variance), abs=1e-8)
    joint_mean, joint = process.covariance(wanted)
    assert joint_mean == pytest.approx(mean, abs=1e-10)
    assert np.sqrt(np.diagonal(joint)) == pytest.approx(deviation, abs=1e-8)


def test_likelihood_and_leaving_out_agree_with_refitting() -> None:
    kernel, sample, values = draw(4, 15)
    process = Process.condition(kernel, kernel.prior_mean, sample, values)
    covariance, _ = kernel.covariance(sample, kernel.prior_mean)
    sign, log_determinant = np.linalg.slogdet(2 * np.pi * covariance)
    assert sign == 1
    rest = values - kernel.prior(sample, kernel.prior_mean)
    expected = -0.5 * rest @ np.linalg.solve(covariance, rest) - 0.5 * log_determinant
    assert process.log_likelihood == pytest.approx(expected, abs=1e-8)
    errors, deviations = process.left_out()
    for index in (0, 7, 14):
        rest = np.delete(np.arange(15), index)
        other = Process.condition(kernel, kernel.prior_mean, sample.rows(rest), values[rest])
        mean, deviation = other.predict(sample.rows(np.array([index])))
        noise = kernel.noise_variance(sample.rows(np.array([index])), kernel.prior_mean)
        assert errors[index] == pytest.approx(values[index] - mean[0], abs=1e-8)
        assert deviations[index] == pytest.approx(np.sqrt(deviation[0] ** 2 + noise[0]), abs=1e-8)


@pytest.mark.parametrize("shares", SHARES)
def test_extending_equals_conditioning_on_all(shares: tuple[float, ...]) -> None:
    kernel, sample, values = draw(5, 40, shares)
    hyper = kernel.prior_mean
    whole = Process.condition(kernel, hyper, sample, values)
    grown = Process.condition(kernel, hyper, sample.rows(slice(0, 25)), values[:25])
    grown = grown.extend(sample.rows(slice(25, 26)), values[25:26]).extend(
        sample.rows(slice(26, 40)), values[26:]
    )
    assert grown.factor == pytest.approx(whole.factor, abs=1e-10)
    assert grown.whitened == pytest.approx(whole.whitened, abs=1e-10)
    assert grown.extend(sample.rows(slice(0, 0)), values[:0]) is grown
    other = values[::-1].copy()
    relabelled = grown.relabel(other).predict(sample)[0]
    assert relabelled == pytest.approx(
        Process.condition(kernel, hyper, sample, other).predict(sample)[0], abs=1e-8
    )


def test_pool_follows_the_process() -> None:
    kernel, sample, values = draw(6, 40)
    _, candidates, _ = draw(7, 300, networks=300)
    candidates = Sample(
        candidates.matrix, np.full(300, -1), candidates.levels, candidates.noise, candidates.trend
    )
    process = Process.fit(kernel, sample.rows(slice(0, 20)), values[:20])
    pool = Pool(process, candidates)
    for end in (21, 30, 40):
        process = process.extend(
            sample.rows(slice(len(process.sample), end)), values[len(process.sample) : end]
        )
        peeked = pool.peek(process)
        pool.update(process)
        mean, deviation = process.predict(candidates)
        for found in ((pool.mean, pool.deviation), peeked):
            assert found[0] == pytest.approx(mean, abs=2e-4)
            assert found[1] == pytest.approx(deviation, abs=2e-3)
    refitted = Process.fit(kernel, sample, values)
    with pytest.raises(PredictorError, match="follows one process"):
        pool.update(refitted)


def test_what_is_a_networks_own_is_kept_when_it_is_trained_again() -> None:
    """200 networks with equal inputs: nothing but their identity tells them apart; two trainings of each."""
    rng = np.random.default_rng(8)
    own, ids = rng.normal(size=100), np.tile(np.arange(100), 2)
    values = own[ids] + 0.5 * rng.normal(size=200)
    matrix = rng.normal(size=(100, 2))[ids]
    kernel = Kernel((np.arange(2),))
    sample = Sample.of(matrix, ids)
    process = Process.fit(kernel, sample, (values - values.mean()) / values.std())
    noise = np.exp(process.hyper[kernel.kinds.index("noise")]) * values.var()
    assert noise == pytest.approx(0.25, rel=0.35)
    predicted, _ = process.predict(sample.rows(slice(0, 100)))
    assert np.corrcoef(predicted, own)[0, 1] > 0.9


def test_short_trainings_inform_about_full_ones() -> None:
    rng = np.random.default_rng(9)
    matrix = rng.normal(size=(60, 3))
    true = matrix[:, 0] ** 2 + rng.normal(size=60)
    short = 0.5 * true - 3.0 + 0.1 * rng.normal(size=60)
    kernel = Kernel((np.arange(3),), (0.2, 1.0))
    ids = np.concatenate([np.arange(60), np.arange(30)])
    levels = np.repeat([0, 1], [60, 30])
    outputs = np.concatenate(
        [(short - short.mean()) / short.std(), (true[:30] - true[:30].mean()) / true[:30].std()]
    )
    process = Process.fit(kernel, Sample(matrix[ids], ids, levels, np.ones(90), np.zeros(90)), outputs)
    wanted = Sample(matrix[30:], np.arange(30, 60), np.ones(30, int), np.ones(30), np.zeros(30))
    assert np.corrcoef(process.predict(wanted)[0], true[30:])[0, 1] > 0.9


def test_values_must_fit_the_observations() -> None:
    kernel, sample, values = draw(10, 5)
    with pytest.raises(PredictorError, match="5 observations need as many values, got 4"):
        Process.fit(kernel, sample, values[:4])
