"""A Gaussian process fitted to observations: hyperparameters of largest posterior density, and the posterior they give.

Rasmussen & Williams, 2006, algorithm 2.1 and equations 5.8, 5.9 (marginal likelihood and gradient), 5.10 to 5.12 (each
observation predicted from all others).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, lapack, solve_triangular
from scipy.optimize import minimize

from zenopt.core.errors import PredictorError
from zenopt.predictors.kernels import Kernel, Sample

Array = NDArray[np.float64]

ITERATIONS = 40
#: A gain of this much in log posterior density per step is not worth another step.
TOLERANCE = 1e-2
LOG_2PI = math.log(2.0 * math.pi)


@dataclass(frozen=True)
class Process:
    """A fitted process.

    Attributes:
        kernel: The covariance.
        hyper: Its hyperparameters, logarithms.
        sample: What was observed, inputs.
        outputs: What was observed, standardised values.
        factor: Lower Cholesky factor of the observations' covariance.
        whitened: ``factor^-1 (outputs - prior mean)``.
    """

    kernel: Kernel = field(repr=False)
    hyper: Array
    sample: Sample = field(repr=False)
    outputs: Array = field(repr=False)
    factor: Array = field(repr=False)
    whitened: Array = field(repr=False)

    @classmethod
    def fit(
        cls,
        kernel: Kernel,
        sample: Sample,
        outputs: Array,
        start: Array | None = None,
        iterations: int = ITERATIONS,
    ) -> Process:
        """Find hyperparameters and conditions on the observations.

        Args:
            kernel, sample, outputs:
                What is fitted to what; outputs standardised, one per observation.
            start:
                Hyperparameters to begin with; the priors' means if not given.
            iterations:
                Steps at most; 0 keeps ``start``.
        """
        if len(sample) != len(outputs) or not len(sample):
            raise PredictorError(f"{len(sample)} observations need as many values, got {len(outputs)}.")
        hyper = kernel.prior_mean.copy() if start is None else start
        if iterations:
            found = minimize(
                lambda x: _loss(kernel, sample, outputs, x),
                hyper,
                jac=True,
                method="L-BFGS-B",
                bounds=kernel.bounds,
                options={"maxiter": iterations, "ftol": TOLERANCE / max(10.0, len(outputs))},
            )
            hyper = found.x
        return cls.condition(kernel, hyper, sample, outputs)

    @classmethod
    def condition(cls, kernel: Kernel, hyper: Array, sample: Sample, outputs: Array) -> Process:
        """Make the process with given hyperparameters."""
        covariance, _ = kernel.covariance(sample, hyper)
        factor = cholesky(covariance, lower=True, check_finite=False)
        rest = outputs - kernel.prior(sample, hyper)
        whitened = solve_triangular(factor, rest, lower=True, check_finite=False)
        return cls(kernel, hyper, sample, outputs, factor, whitened)

    def extend(self, sample: Sample, outputs: Array) -> Process:
        """Return the process with further observations, hyperparameters kept; the factor grows by rows."""
        count, more = len(self.sample), len(sample)
        if not more:
            return self
        below = solve_triangular(
            self.factor, self.kernel.cross(self.sample, sample, self.hyper), lower=True, check_finite=False
        )
        corner, _ = self.kernel.covariance(sample, self.hyper)
        factor = np.zeros((count + more, count + more))
        factor[:count, :count] = self.factor
        factor[count:, :count] = below.T
        factor[count:, count:] = cholesky(corner - below.T @ below, lower=True, check_finite=False)
        surprise = outputs - self.kernel.prior(sample, self.hyper) - below.T @ self.whitened
        rest = solve_triangular(factor[count:, count:], surprise, lower=True, check_finite=False)
        return Process(
            self.kernel,
            self.hyper,
            self.sample.join(sample),
            np.concatenate([self.outputs, outputs]),
            factor,
            np.concatenate([self.whitened, rest]),
        )

    def relabel(self, outputs: Array) -> Process:
        """Return the process with other values of the same observations (another scale, say)."""
        rest = outputs - self.kernel.prior(self.sample, self.hyper)
        whitened = solve_triangular(self.factor, rest, lower=True, check_finite=False)
        return Process(self.kernel, self.hyper, self.sample, outputs, self.factor, whitened)

    def predict(self, wanted: Sample) -> tuple[Array, Array]:
        """Return mean and standard deviation of the true values of networks at their training lengths."""
        cross = self.kernel.cross(self.sample, wanted, self.hyper)
        solved = solve_triangular(self.factor, cross, lower=True, check_finite=False)
        variance = self.kernel.own_variance(wanted, self.hyper) - (solved**2).sum(axis=0)
        mean = self.kernel.prior(wanted, self.hyper) + solved.T @ self.whitened
        return mean, np.sqrt(np.maximum(variance, 1e-12))

    def covariance(self, wanted: Sample) -> tuple[Array, Array]:
        """Return mean and joint covariance of the true values of networks."""
        cross = self.kernel.cross(self.sample, wanted, self.hyper)
        solved = solve_triangular(self.factor, cross, lower=True, check_finite=False)
        joint = self.kernel.cross(wanted, wanted, self.hyper)
        joint[np.diag_indices(len(wanted))] = self.kernel.own_variance(wanted, self.hyper)
        mean = self.kernel.prior(wanted, self.hyper) + solved.T @ self.whitened
        return mean, joint - solved.T @ solved

    def left_out(self) -> tuple[Array, Array]:
        """Return every observation's error and deviation when predicted from all others."""
        inverse = _inverse(self.factor)
        precision = np.diagonal(inverse)
        weights = solve_triangular(self.factor, self.whitened, lower=True, trans="T", check_finite=False)
        return weights / precision, 1.0 / np.sqrt(precision)

    @property
    def log_likelihood(self) -> float:
        """Logarithm of the marginal likelihood of the outputs."""
        size = len(self.outputs)
        spread = float(np.log(np.diagonal(self.factor)).sum())
        return float(-0.5 * self.whitened @ self.whitened - spread - 0.5 * size * LOG_2PI)

    @property
    def log_prior(self) -> float:
        """Logarithm of the hyperparameters' prior density, relative to its peak."""
        offset = (self.hyper - self.kernel.prior_mean) / self.kernel.prior_deviation
        return float(-0.5 * offset @ offset)


def _inverse(factor: Array) -> Array:
    inverse, _ = lapack.dpotri(factor, lower=1)
    lower = np.tril(inverse, -1)
    return np.asarray(lower + lower.T + np.diag(np.diagonal(inverse)))


def _loss(kernel: Kernel, sample: Sample, outputs: Array, hyper: Array) -> tuple[float, Array]:
    """Return minus the log posterior density of hyperparameters, and its gradient."""
    covariance, parts = kernel.covariance(sample, hyper)
    factor = cholesky(covariance, lower=True, check_finite=False, overwrite_a=True)
    rest = outputs - kernel.prior(sample, hyper)
    whitened = solve_triangular(factor, rest, lower=True, check_finite=False)
    weights = solve_triangular(factor, whitened, lower=True, trans="T", check_finite=False)
    size = len(outputs)
    value = -0.5 * whitened @ whitened - np.log(np.diagonal(factor)).sum() - 0.5 * size * LOG_2PI
    slope = kernel.gradient(sample, hyper, 0.5 * (np.outer(weights, weights) - _inverse(factor)), parts)
    slope[-1] = weights @ sample.trend
    offset = (hyper - kernel.prior_mean) / kernel.prior_deviation
    return float(-value + 0.5 * offset @ offset), -slope + offset / kernel.prior_deviation
