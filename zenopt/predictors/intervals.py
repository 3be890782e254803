"""Intervals that hold: the process's own deviations, corrected by how well it predicts observations from all others.

A conformal factor (Vovk et al., "Algorithmic Learning in a Random World", 2005, in the leave-one-out form of Barber et
al., "Predictive inference with the jackknife+", Annals of Statistics 49, 2021): the quantile of the left-out errors in
units of their predicted deviations. Few observations know little of their own tail, so the factor is drawn towards the
normal one as if that had been seen in ``TRUST`` observations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from zenopt.core.errors import PredictorError
from zenopt.predictors.process import Process
from zenopt.predictors.warp import Warp

Array = NDArray[np.float64]

TRUST = 20.0


@dataclass(frozen=True)
class Interval:
    """Where values lie with a given probability.

    Attributes:
        low, high: Ends, in units of the values; they need not be symmetric around the middle.
        middle: Medians, in units of the values.
    """

    low: Array = field(repr=False)
    middle: Array = field(repr=False)
    high: Array = field(repr=False)


def interval_factor(process: Process, probability: float, level: int | None = None) -> float:
    """Return how many predicted deviations the interval reaches to either side.

    Args:
        process:
            The fitted process.
        probability:
            Of a value to lie inside, e.g. 0.9.
        level:
            Index of the training length whose observations are looked at; all if not given.
    """
    if not 0.0 < probability < 1.0:
        raise PredictorError(f"The probability of an interval must lie between 0 and 1, got {probability!r}.")
    normal = float(ndtri(0.5 + probability / 2.0))
    errors, deviations = process.left_out()
    ratio = np.abs(errors / deviations)
    if level is not None:
        ratio = ratio[process.sample.levels == level]
    count = len(ratio)
    if not count:
        return normal
    place = min(count, math.ceil((count + 1) * probability)) - 1
    seen = float(np.sort(ratio)[place])
    return (count * seen + TRUST * normal) / (count + TRUST)


def interval(warp: Warp, mean: Array, deviation: Array, factor: float) -> Interval:
    """Return the interval of values whose places on the scale have these means and deviations."""
    reach = factor * deviation
    return Interval(warp.inverse(mean - reach), warp.inverse(mean), warp.inverse(mean + reach))


def value_moments(warp: Warp, mean: Array, deviation: Array) -> tuple[Array, Array]:
    """Return mean and standard deviation in units of the values (Gauss-Hermite quadrature over the scale)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    weights = weights / weights.sum()
    at = warp.inverse(mean[:, None] + deviation[:, None] * nodes)
    first = at @ weights
    return first, np.sqrt(np.maximum((at - first[:, None]) ** 2 @ weights, 0.0))
