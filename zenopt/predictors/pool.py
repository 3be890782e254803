"""The posterior at many candidates, kept up to date while observations arrive: each adds one row, nothing is redone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from zenopt.core.errors import PredictorError
from zenopt.predictors.kernels import Sample
from zenopt.predictors.process import Process

Array = NDArray[np.float64]

#: Candidates are predicted in single precision: their numbers are compared, not inverted.
SINGLE = np.float32


class Pool:
    """Means and deviations of the true values of candidates.

    Args:
        process:
            The fitted process.
        candidates:
            Inputs of the candidates; may hold networks that were observed.
    """

    def __init__(self, process: Process, candidates: Sample) -> None:
        self.candidates = candidates
        self._process = process
        self._prior = process.kernel.own_variance(candidates, process.hyper)
        self._solved = np.empty((0, len(candidates)), SINGLE)
        self._count = 0
        self._mean = np.zeros(len(candidates))
        self._explained = np.zeros(len(candidates))
        self.update(process)

    def update(self, process: Process) -> None:
        """Take further observations in; hyperparameters and the earlier observations must be the same.

        Raises:
            PredictorError: If the process is not an extension of the one before.
        """
        count = len(process.sample)
        if count < self._count or process.hyper is not self._process.hyper:
            raise PredictorError(
                "A pool follows one process while it is extended; make a new one after a fit."
            )
        if count > self._count:
            self._append(process, count)
        self._process = process
        # The values may have moved to another scale, so the mean is made anew.
        learned = process.whitened.astype(SINGLE) @ self._solved[:count]
        self._mean = process.kernel.prior(self.candidates, process.hyper) + learned

    @property
    def mean(self) -> Array:
        """Posterior means, standardised."""
        return self._mean

    @property
    def deviation(self) -> Array:
        """Posterior standard deviations of the true values, standardised."""
        return np.sqrt(np.maximum(self._prior - self._explained, 1e-6))

    def peek(self, process: Process) -> tuple[Array, Array]:
        """Return means and deviations under an extension of the process that is not to be kept (running trainings)."""
        rows = self._rows(process)
        explained = self._explained + np.einsum("ij,ij->j", rows, rows, dtype=np.float64)
        mean = self._mean + process.whitened[self._count :].astype(SINGLE) @ rows
        return np.asarray(mean, dtype=np.float64), np.sqrt(np.maximum(self._prior - explained, 1e-6))

    def _append(self, process: Process, count: int) -> None:
        if count > len(self._solved):
            room = np.empty((max(count, 2 * len(self._solved)), len(self.candidates)), SINGLE)
            room[: self._count] = self._solved[: self._count]
            self._solved = room
        rows = self._rows(process)
        self._solved[self._count : count] = rows
        self._explained += np.einsum("ij,ij->j", rows, rows, dtype=np.float64)
        self._count = count

    def _rows(self, process: Process) -> NDArray[np.float32]:
        """Return the rows of ``factor^-1 cross`` that belong to observations not taken in yet."""
        old, factor = self._count, process.factor
        new = process.sample.rows(slice(old, None))
        cross = process.kernel.cross(new, self.candidates, process.hyper, SINGLE)
        cross = cross - factor[old:, :old].astype(SINGLE) @ self._solved[:old]
        corner = factor[old:, old:].astype(SINGLE)
        return np.asarray(solve_triangular(corner, cross, lower=True, check_finite=False))
