"""How alike networks are: prior covariance and mean of a Gaussian process, its hyperparameters, exact gradients.

For observations i, j of networks x_i, x_j at training lengths t_i, t_j (logarithm of the share of a full training):

    K_ij = A_i A_j [ exp(-|t_i - t_j| / T) k(x_i, x_j) + exp(-|t_i - t_j| / U) o [i, j are one network] ]
         + [t_i = t_j] + n(t_i) h_i [i = j]
    k    = s M(sum_g w_g |x_g - x'_g|^2 / d_g) + sum_g a_g x_g.x'_g / d_g

M(r^2) is the Matern function of smoothness 5/2 (Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006,
eq. 4.17), g runs over groups of d_g standardised inputs. The second term of the brackets is a network's own: not
explained by its inputs, but kept when it is trained again. n is the noise of a training, h_i = 1 unless the observation
is known to be better or worse. A shorter training is another, correlated output (autoregressive in ln t, after Kennedy
& O'Hagan, Biometrika 87, 2000, for a continuum of levels); every length has its own mean, the full length A = 1. With
full trainings alone T, U and A do not exist. The prior mean is b times a cheap ranking's normal score, b learned too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

SQRT5 = math.sqrt(5.0)
#: Added to the diagonal, for the factorisation alone.
JITTER = 1e-6
#: Priors of the logarithms of hyperparameters: mean, deviation. Outputs are standardised: 0 is "all of the variance".
PRIORS = {
    "smooth": (0.0, 1.0),
    "length": (-2.0, 1.5),
    "slope": (-1.0, 2.0),
    "own": (-4.0, 1.5),
    "noise": (-4.0, 1.5),
    "kept": (math.log(5.0), 1.0),
    "kept own": (math.log(5.0), 1.0),
    "amplitude": (0.0, 0.3),
    # No logarithm: deviations of the outputs per deviation of the cheap ranking.
    "trust": (0.4, 0.3),
}
#: Logarithms stay within these bounds; beyond, nothing changes but the rounding.
BOUNDS = (-12.0, 6.0)
TRUST_BOUNDS = (-1.0, 2.0)


@dataclass(frozen=True)
class Sample:
    """Observations as a kernel reads them.

    Attributes:
        matrix: Standardised inputs, ``observations x columns``.
        networks: Equal for observations of one network; -1 is a network that is like no other.
        levels: Index of the training length of every observation.
        noise: h, the noise variance in units of one full training's.
        trend: Normal scores of a cheap ranking, higher is thought better; zeros where there is none.
    """

    matrix: Array = field(repr=False)
    networks: Indices = field(repr=False)
    levels: Indices = field(repr=False)
    noise: Array = field(repr=False)
    trend: Array = field(repr=False)

    @classmethod
    def of(cls, matrix: Array, networks: Indices | None = None) -> Sample:
        """Make full trainings without a ranking; of networks that are like no other, unless said otherwise."""
        count = len(matrix)
        own = np.full(count, -1) if networks is None else networks
        return cls(matrix, own, np.zeros(count, dtype=np.intp), np.ones(count), np.zeros(count))

    def __len__(self) -> int:
        return len(self.matrix)

    def rows(self, index: Indices | slice) -> Sample:
        """Return some of the observations."""
        return Sample(
            self.matrix[index], self.networks[index], self.levels[index], self.noise[index], self.trend[index]
        )

    def join(self, other: Sample) -> Sample:
        """Return these observations followed by others."""
        return Sample(
            np.concatenate([self.matrix, other.matrix]),
            np.concatenate([self.networks, other.networks]),
            np.concatenate([self.levels, other.levels]),
            np.concatenate([self.noise, other.noise]),
            np.concatenate([self.trend, other.trend]),
        )


class Kernel:
    """The covariance for given groups of columns and training lengths.

    Args:
        columns:
            Positions of every group's columns.
        shares:
            Training lengths as shares of a full one, ascending; the last is 1.
    """

    def __init__(self, columns: tuple[Indices, ...], shares: tuple[float, ...] = (1.0,)) -> None:
        self.columns = columns
        self.shares = shares
        self._places = np.log(np.asarray(shares, dtype=np.float64))
        groups, lengths = len(columns), len(shares)
        kinds = ["smooth", *["length"] * groups, *["slope"] * groups, "own", *["noise"] * lengths]
        if lengths > 1:
            kinds += ["kept", "kept own", *["amplitude"] * (lengths - 1)]
        self.kinds = (*kinds, "trust")
        self.prior_mean = np.array([PRIORS[kind][0] for kind in self.kinds])
        self.prior_deviation = np.array([PRIORS[kind][1] for kind in self.kinds])
        self.bounds = tuple(TRUST_BOUNDS if kind == "trust" else BOUNDS for kind in self.kinds)
        self._lengths = slice(1, 1 + groups)
        self._slopes = slice(1 + groups, 1 + 2 * groups)
        self._own = 1 + 2 * groups
        self._noises = slice(self._own + 1, self._own + 1 + lengths)
        self._kept = self._noises.stop
        self._used = np.concatenate(columns)
        self._owner = np.repeat(np.arange(groups), [len(c) for c in columns])
        self._share = np.concatenate([np.full(len(c), 1.0 / len(c)) for c in columns])

    def __len__(self) -> int:
        return len(self.kinds)

    def prior(self, sample: Sample, hyper: Array) -> Array:
        """Return the prior means of observations."""
        return np.asarray(hyper[-1] * sample.trend)

    # -- values -----------------------------------------------------------------------------------------------------

    def cross(self, a: Sample, b: Sample, hyper: Array, dtype: type = np.float64) -> Array:
        """Return the covariances of the true values behind two sets of observations, ``len(a) x len(b)``."""
        smooth, linear = self._parts(a.matrix, b.matrix, hyper, dtype)
        inputs = smooth[0] + linear
        same = self._same(a, b)
        if len(self.shares) == 1:
            if same.any():
                inputs[same] += math.exp(hyper[self._own])
            inputs += 1.0
            return np.asarray(inputs)
        kept, own, amplitudes = self._levels(hyper)
        at = np.ix_(a.levels, b.levels)
        inputs *= kept[at]
        inputs += same * own[at] * math.exp(hyper[self._own])
        inputs *= np.outer(amplitudes[a.levels], amplitudes[b.levels])
        inputs += a.levels[:, None] == b.levels[None, :]
        return np.asarray(inputs)

    def own_variance(self, sample: Sample, hyper: Array) -> Array:
        """Return the prior variances of the true values behind observations."""
        slopes = np.exp(hyper[self._slopes])[self._owner] * self._share
        linear = (sample.matrix[:, self._used] ** 2) @ slopes
        amplitudes = self._levels(hyper)[2] if len(self.shares) > 1 else np.ones(1)
        inner = math.exp(hyper[0]) + linear + math.exp(hyper[self._own])
        return np.asarray(amplitudes[sample.levels] ** 2 * inner + 1.0, dtype=np.float64)

    def noise_variance(self, sample: Sample, hyper: Array) -> Array:
        """Return the variances of the observations around the true values."""
        return np.asarray(np.exp(hyper[self._noises])[sample.levels] * sample.noise + JITTER)

    # -- gradients --------------------------------------------------------------------------------------------------

    def covariance(self, sample: Sample, hyper: Array) -> tuple[Array, dict[str, NDArray[Any]]]:
        """Return the covariance of observations, and what :meth:`gradient` needs of it."""
        (smooth, slope), linear = self._parts(sample.matrix, sample.matrix, hyper)
        same = self._same(sample, sample) | np.eye(len(sample), dtype=bool)
        own = math.exp(hyper[self._own]) * same
        parts = {"smooth": smooth, "slope": slope, "linear": linear, "own": own}
        if len(self.shares) > 1:
            kept, kept_own, amplitudes = self._levels(hyper)
            at = np.ix_(sample.levels, sample.levels)
            outer = np.outer(amplitudes[sample.levels], amplitudes[sample.levels])
            parts["kept"], parts["kept own"] = kept[at] * outer, kept_own[at] * outer
            total = parts["kept"] * (smooth + linear) + parts["kept own"] * own
            total += sample.levels[:, None] == sample.levels[None, :]
        else:
            total = smooth + linear + own + 1.0
        total[np.diag_indices(len(sample))] += self.noise_variance(sample, hyper)
        return total, parts

    def gradient(self, sample: Sample, hyper: Array, weight: Array, parts: dict[str, NDArray[Any]]) -> Array:
        """Return the derivative by the hyperparameters of ``sum(weight * covariance)``, weight symmetric.

        That by the trust, which the covariance does not depend on, is left 0.
        """
        result = np.zeros(len(self))
        on_inputs = weight * parts["kept"] if "kept" in parts else weight
        on_own = weight * parts["kept own"] if "kept own" in parts else weight
        result[0] = np.vdot(on_inputs, parts["smooth"])
        used = sample.matrix[:, self._used]
        lengths = np.exp(hyper[self._lengths])[self._owner] * self._share
        slopes = np.exp(hyper[self._slopes])[self._owner] * self._share
        by_distance = on_inputs * parts["slope"]
        # sum_ij m_ij (x_i - x_j)^2 for every column at once.
        moved = 2.0 * ((used**2).T @ by_distance.sum(axis=1) - ((by_distance @ used) * used).sum(axis=0))
        count = len(self.columns)
        result[self._lengths] = np.bincount(self._owner, lengths * moved, count)
        result[self._slopes] = np.bincount(
            self._owner, slopes * ((on_inputs @ used) * used).sum(axis=0), count
        )
        result[self._own] = np.vdot(on_own, parts["own"])
        noise = np.diagonal(weight) * np.exp(hyper[self._noises])[sample.levels] * sample.noise
        result[self._noises] = np.bincount(sample.levels, noise, len(self.shares))
        if len(self.shares) > 1:
            inputs = on_inputs * (parts["smooth"] + parts["linear"])
            own = on_own * parts["own"]
            apart = np.abs(self._places[:, None] - self._places)[np.ix_(sample.levels, sample.levels)]
            result[self._kept] = np.vdot(inputs, apart) * math.exp(-hyper[self._kept])
            result[self._kept + 1] = np.vdot(own, apart) * math.exp(-hyper[self._kept + 1])
            by_level = np.bincount(sample.levels, (inputs + own).sum(axis=1), len(self.shares))
            result[self._kept + 2 : -1] = 2.0 * by_level[:-1]
        return result

    # -- parts ------------------------------------------------------------------------------------------------------

    def _parts(
        self, a: Array, b: Array, hyper: Array, dtype: type = np.float64
    ) -> tuple[tuple[Array, Array], Array]:
        """Return the Matern part, its derivative by the squared distance, and the linear part."""
        lengths = np.exp(hyper[self._lengths])[self._owner] * self._share
        slopes = np.exp(hyper[self._slopes])[self._owner] * self._share
        left: NDArray[Any] = a[:, self._used].astype(dtype)
        right: NDArray[Any] = b[:, self._used].astype(dtype)
        linear = (left * slopes.astype(dtype)) @ right.T
        root = np.sqrt(lengths).astype(dtype)
        left, right = left * root, right * root
        squares = left @ right.T
        squares *= -2.0
        squares += (left**2).sum(axis=1)[:, None]
        squares += (right**2).sum(axis=1)[None, :]
        np.maximum(squares, 1e-12, out=squares)
        distance = np.sqrt(squares)
        distance *= SQRT5
        scale = math.exp(hyper[0])
        decay = np.exp(-distance)
        decay *= scale
        slope = -5.0 / 6.0 * (1.0 + distance) * decay
        squares *= 5.0 / 3.0
        squares += distance
        squares += 1.0
        squares *= decay
        return (squares, slope), linear

    def _levels(self, hyper: Array) -> tuple[Array, Array, Array]:
        """Return correlations of the smooth and of the own part between training lengths, and amplitudes."""
        apart = np.abs(self._places[:, None] - self._places)
        kept = np.exp(-apart * math.exp(-hyper[self._kept]))
        own = np.exp(-apart * math.exp(-hyper[self._kept + 1]))
        return kept, own, np.append(np.exp(hyper[self._kept + 2 : -1]), 1.0)

    @staticmethod
    def _same(a: Sample, b: Sample) -> NDArray[np.bool_]:
        return (a.networks[:, None] == b.networks[None, :]) & (a.networks >= 0)[:, None]
