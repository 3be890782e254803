"""Scales, choice of inputs, intervals and beginnings."""

from __future__ import annotations

import numpy as np
import pytest

from zenopt.core.errors import PredictorError
from zenopt.predictors.beginning import SHARE, begin_in_turn
from zenopt.predictors.evidence import choose
from zenopt.predictors.inputs import Inputs, Scaling
from zenopt.predictors.intervals import interval, interval_factor, value_moments
from zenopt.predictors.kernels import Sample
from zenopt.predictors.warp import SHAPES, Warp


@pytest.mark.parametrize("shape", SHAPES)
def test_scale_and_back(shape: tuple[float, float]) -> None:
    values = np.random.default_rng(0).gamma(2.0, size=50) * -3 + 94
    warp = Warp.of(values, *shape)
    z = warp.forward(values)
    assert z.mean() == pytest.approx(0, abs=1e-9) and z.std() == pytest.approx(1)
    assert (np.diff(z[np.argsort(values)]) > 0).all()
    assert warp.inverse(z) == pytest.approx(values)
    step = 1e-5
    slope = (warp.forward(values + step) - warp.forward(values - step)) / (2 * step)
    assert warp.log_slope(values) == pytest.approx(np.log(slope), abs=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_scale_goes_on_where_a_prediction_is_above_all_values(shape: tuple[float, float]) -> None:
    """An interval above all that was seen still has a width."""
    warp = Warp.of(np.arange(5.0), *shape)
    reached = warp.inverse(np.linspace(-3.0, 12.0, 40))
    assert (np.diff(reached) > 0).all()
    assert warp.inverse(np.zeros(1)) < 4.0 < reached[-1]


def test_scale_of_odd_values() -> None:
    flat = Warp.of(np.full(5, 10.0), 0.0, 0.3)
    assert np.isfinite(flat.forward(np.array([10.0, 9.0, 11.0]))).all()
    assert Warp.of(np.array([3.0]), 1 / 3, 0.3).inverse(np.zeros(1)) == pytest.approx([3.0])
    mostly_equal = Warp.of(np.array([1.0, 1.0, 1.0, 0.0]), 0.0, 0.3)
    assert mostly_equal.inverse(mostly_equal.forward(np.array([0.5]))) == pytest.approx([0.5])
    # A value above the ceiling stays finite, and never is worth less than one below it.
    beyond = Warp.of(np.arange(5.0), 0.0, 0.3).forward(np.array([4.0, 400.0]))
    assert np.isfinite(beyond).all() and beyond[1] > beyond[0]
    with pytest.raises(PredictorError, match="finite"):
        Warp.of(np.array([1.0, np.nan]), 0.0, 0.3)


def test_scale_that_made_the_values_is_found() -> None:
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(80, 3))
    latent = matrix[:, 0] + 0.1 * rng.normal(size=80)
    columns = {"all": np.arange(3)}
    assert choose(columns, (1.0,), Sample.of(matrix), latent).warps[0].power >= 1.0
    assert choose(columns, (1.0,), Sample.of(matrix), -np.exp(-2 * latent)).warps[0].power < 0.5


def test_group_of_noise_is_dropped_and_one_that_matters_kept() -> None:
    rng = np.random.default_rng(2)
    matrix = rng.normal(size=(60, 23))
    values = matrix[:, 0] * matrix[:, 1] + 2 * matrix[:, 2] + 0.05 * rng.normal(size=60)
    columns = {"shape": np.arange(3), "noise": np.arange(3, 23)}
    fit = choose(columns, (1.0,), Sample.of(matrix), values)
    assert fit.groups == ("shape",)
    assert {trial.groups for trial in fit.trials} == {("shape", "noise"), ("shape",), ("noise",)}
    assert fit.trials[0].evidence >= fit.trials[-1].evidence
    assert "reads shape" in str(fit) and "nats" in str(fit)
    assert choose(columns, (1.0,), Sample.of(matrix), values, selects=False).groups == ("shape", "noise")


def test_interval_covers() -> None:
    covered = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        matrix = rng.normal(size=(460, 3))
        latent = np.sin(matrix[:, 0]) + matrix[:, 1] + 0.3 * rng.standard_t(5, size=460)
        values = 90 - 4 * np.exp(-0.5 * latent)
        fit = choose({"all": np.arange(3)}, (1.0,), Sample.of(matrix[:60]), values[:60])
        wanted = Sample.of(matrix[60:])
        mean, deviation = fit.process.predict(wanted)
        noise = fit.process.kernel.noise_variance(wanted, fit.process.hyper)
        found = interval(fit.warps[0], mean, np.sqrt(deviation**2 + noise), interval_factor(fit.process, 0.9))
        assert (found.low <= found.middle).all() and (found.middle <= found.high).all()
        covered.append(((values[60:] >= found.low) & (values[60:] <= found.high)).mean())
    assert 0.86 <= np.mean(covered) <= 0.94


def test_factor_is_normal_without_observations_of_a_length_and_probability_is_checked() -> None:
    matrix = np.random.default_rng(3).normal(size=(12, 2))
    process = choose({"all": np.arange(2)}, (1.0,), Sample.of(matrix), matrix[:, 0]).process
    assert interval_factor(process, 0.9, level=3) == pytest.approx(1.6449, abs=1e-3)
    assert interval_factor(process, 0.99) > interval_factor(process, 0.5)
    with pytest.raises(PredictorError, match="between 0 and 1"):
        interval_factor(process, 1.5)


def test_moments_are_those_of_monte_carlo() -> None:
    warp = Warp.of(np.linspace(80, 94, 30), 0.0, 0.3)
    draws = warp.inverse(0.4 + 0.6 * np.random.default_rng(4).normal(size=200_000))
    mean, deviation = value_moments(warp, np.array([0.4]), np.array([0.6]))
    assert mean == pytest.approx([draws.mean()], abs=0.03)
    assert deviation == pytest.approx([draws.std()], abs=0.03)


def test_beginning_takes_the_top_and_spreads() -> None:
    rng = np.random.default_rng(5)
    matrix, ranking = rng.normal(size=(500, 4)), rng.normal(size=500)
    chosen = begin_in_turn(matrix, [(ranking, None)], 5, np.random.default_rng(0))
    order = np.argsort(-ranking)
    assert chosen[0] == order[0] and len(set(chosen)) == 5
    assert all(np.flatnonzero(order == one)[0] < SHARE * 500 for one in chosen)
    assert chosen == begin_in_turn(matrix, [(ranking, None)], 5, np.random.default_rng(0))
    rest = begin_in_turn(matrix, [(ranking, None)], 5, np.random.default_rng(0), np.array(chosen[:3]))
    assert rest == chosen[3:]


def test_beginning_without_a_ranking_and_of_few_candidates() -> None:
    matrix = np.random.default_rng(6).normal(size=(3, 2))
    assert sorted(begin_in_turn(matrix, [], 10, np.random.default_rng(0))) == [0, 1, 2]
    with pytest.raises(PredictorError, match="finite number for each of 3"):
        begin_in_turn(matrix, [(np.array([1.0, np.nan, 0.0]), None)], 2, np.random.default_rng(0))
    with pytest.raises(PredictorError, match="needs networks"):
        begin_in_turn(matrix[:0], [], 1, np.random.default_rng(0))


def test_inputs_say_what_is_wrong() -> None:
    good = Inputs(("a", "b"), ("g", "h"), np.array([[1.0, 2.0], [1.0, 3.0]]))
    assert good.group_names == ("g", "h") and len(good.rows([0])) == 1 and len(good.join(good)) == 4
    with pytest.raises(PredictorError, match="2 names need a matrix"):
        Inputs(("a", "b"), ("g", "h"), np.ones((2, 3)))
    with pytest.raises(PredictorError, match="as many groups"):
        Inputs(("a", "b"), ("g",), np.ones((2, 2)))
    with pytest.raises(PredictorError, match="'b' is not finite"):
        Inputs(("a", "b"), ("g", "h"), np.array([[1.0, np.inf]]))
    scaling = Scaling.of(good)
    assert scaling.group_names == ("h",) and scaling.apply(good).tolist() == [[-1.0], [1.0]]
    with pytest.raises(PredictorError, match="No input differs"):
        Scaling.of(good.rows([0, 0]))
    with pytest.raises(PredictorError, match="other columns"):
        scaling.apply(Inputs(("a",), ("g",), np.ones((1, 1))))
    with pytest.raises(PredictorError, match="same columns"):
        good.join(Inputs(("a",), ("g",), np.ones((1, 1))))
