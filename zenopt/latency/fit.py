"""Fitting: non-negative least squares on relative errors, and how good the result is on what it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan

import numpy as np
from numpy.typing import NDArray

from zenopt.core.errors import DataError
from zenopt.latency.operations import Operation
from zenopt.latency.terms import CONSTANT, get_term

Array = NDArray[np.float64]
Fit = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Errors:
    """How far predictions are from measurements.

    Attributes:
        networks: How many were compared.
        mape: Mean of ``|predicted / measured - 1|``.
        max: Largest of them.
        within_10: Share of networks within 10 %.
        spearman: Rank correlation; 1 where all is in order.
    """

    networks: int
    mape: float
    max: float
    within_10: float
    spearman: float

    def to_json(self) -> dict[str, float | None]:
        """Return the numbers, rounded to what a profile should claim; ``None`` for a correlation that is none."""
        return {name: None if isnan(value) else round(value, 4) for name, value in asdict(self).items()}


def term_matrix(
    networks: Sequence[Sequence[Operation]], terms: Sequence[str], batch: int, size: float
) -> Array:
    """Sum each term over each network's operations.

    Args:
        networks:
            Operations of each network, for one image.
        terms:
            Names from :mod:`zenopt.latency.terms`.
        batch:
            Images per forward.
        size:
            Bytes of one number of a feature map.

    Returns:
        A ``networks x terms`` array; times a vector of coefficients it gives milliseconds per image.
    """
    matrix = np.empty((len(networks), len(terms)))
    for column, name in enumerate(terms):
        if name == CONSTANT:
            matrix[:, column] = 1 / batch
            continue
        term = get_term(name)
        matrix[:, column] = [sum(term(op, size, batch) for op in operations) for operations in networks]
    return matrix


def fit_relative(matrix: Array, times: Array, weights: Array | None = None) -> Array:
    """Fit non-negative coefficients that minimise the squared relative error.

    Args:
        matrix:
            ``networks x terms``.
        times:
            Measured times, all positive.
        weights:
            Weight of each network's squared error; all alike if not given.

    Raises:
        DataError: If a time is not positive or there is nothing to fit.
    """
    if len(times) == 0 or not np.all(np.isfinite(times)) or np.any(times <= 0):
        raise DataError("Latencies to fit must be positive numbers, at least one.")
    roots = np.ones(len(times)) if weights is None else np.sqrt(weights)
    return nonnegative_least_squares(matrix / times[:, None] * roots[:, None], roots)


def fit_robust(matrix: Array, times: Array, *, tolerance: float = 0.05, rounds: int = 10) -> Array:
    """Fit as :func:`fit_relative`, but single wild measurements count by their size, not its square.

    Iteratively reweighted least squares with Huber's weights on the logarithm of predicted over measured: a relative
    error cannot fall below -100 % but grows without bound, so that a measurement far too small would rule the fit.

    Args:
        matrix:
            ``networks x terms``.
        times:
            Measured times, all positive.
        tolerance:
            Error up to which a network has full weight.
        rounds:
            Reweightings.
    """
    values = fit_relative(matrix, times)
    for _ in range(rounds):
        ratio = np.maximum(matrix @ values / times, 1e-6)
        huber = tolerance / np.maximum(np.abs(np.log(ratio)), tolerance)
        # Dividing by the ratio makes too high and too low by the same factor count alike.
        values = fit_relative(matrix, times, huber / ratio)
    return values


def nonnegative_least_squares(matrix: Array, target: Array) -> Array:
    """Minimise ``|matrix @ x - target|`` over ``x >= 0`` by the active-set method of Lawson and Hanson (1974)."""
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0] = 1.0
    scaled = matrix / scale
    count = scaled.shape[1]
    solution = np.zeros(count)
    passive = np.zeros(count, dtype=bool)
    for _ in range(10 * count):
        gradient = scaled.T @ (target - scaled @ solution)
        gradient[passive] = -np.inf
        if np.all(passive) or gradient.max() <= 1e-10:
            break
        passive[int(np.argmax(gradient))] = True
        while True:
            trial = np.zeros(count)
            trial[passive] = np.linalg.lstsq(scaled[:, passive], target, rcond=None)[0]
            if np.all(trial[passive] > 0):
                solution = trial
                break
            blocked = passive & (trial <= 0)
            step = np.min(solution[blocked] / (solution[blocked] - trial[blocked]))
            solution = solution + step * (trial - solution)
            passive &= solution > 1e-12
            solution[~passive] = 0.0
    return solution / scale


def leave_one_out(matrix: Array, times: Array, fit: Fit = fit_relative) -> Array:
    """Predict each network by a fit to all the others."""
    indices = np.arange(len(times))
    return np.array([matrix[i] @ fit(matrix[indices != i], times[indices != i]) for i in indices])


def errors_of(predicted: Sequence[float] | Array, measured: Sequence[float] | Array) -> Errors:
    """Compare predictions with measurements of the same networks."""
    error = np.abs(np.asarray(predicted) / np.asarray(measured) - 1)
    return Errors(
        len(error),
        float(error.mean()),
        float(error.max()),
        float(np.mean(error <= 0.1)),
        spearman(predicted, measured),
    )


def spearman(first: Sequence[float] | Array, second: Sequence[float] | Array) -> float:
    """Return the rank correlation, ties sharing their mean rank; NaN if either side is constant."""
    ranks = [_ranks(np.asarray(values, dtype=float)) for values in (first, second)]
    centred = [rank - rank.mean() for rank in ranks]
    scale = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum()) / scale if scale > 0 else float("nan")


def _ranks(values: Array) -> Array:
    order = np.argsort(values, kind="stable")
    ranks = np.empty(len(values))
    ranks[order] = np.arange(len(values))
    unique, inverse = np.unique(values, return_inverse=True)
    sums = np.bincount(inverse, weights=ranks, minlength=len(unique))
    mean: Array = (sums / np.bincount(inverse, minlength=len(unique)))[inverse]
    return mean


def coefficients_json(terms: Sequence[str], values: Array) -> Mapping[str, float]:
    """Return coefficients by term name, four digits each, zeros left out."""
    return {name: float(f"{value:.4g}") for name, value in zip(terms, values, strict=True) if value > 0}
