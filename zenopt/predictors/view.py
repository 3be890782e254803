"""What is expected of candidates at one moment, and what changes when some of them are taken for running."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from zenopt.predictors.acquisition import expected_excess
from zenopt.predictors.kernels import Sample
from zenopt.predictors.pool import Pool
from zenopt.predictors.process import Process

Array = NDArray[np.float64]

#: Expected improvements below this are rounding: the choice is then by mean plus deviation.
NO_HOPE = 1e-9
#: Relative difference of gains below which the first candidate is taken.
TIE = 1e-6
#: Candidates of largest gain that are predicted again in double precision.
REFINED = 256


class View:
    """Candidates under a process; made by :meth:`Surrogate.view`.

    Args:
        pools:
            Follow the process of what was told, each some of the candidates; only read.
        process:
            That process, extended by what runs.
        candidates, networks:
            The candidates and which networks they are.
        closed:
            Networks that are not to be proposed.
        is_full:
            Which of the told trainings were full ones.
    """

    def __init__(
        self,
        pools: Sequence[Pool],
        process: Process,
        candidates: Sample,
        networks: tuple[Hashable, ...],
        closed: set[Hashable],
        is_full: NDArray[np.bool_],
    ) -> None:
        self._pools = pools
        self._process = process
        self._candidates = candidates
        self._networks = networks
        self._full = process.sample.rows(np.flatnonzero(is_full))
        self.is_open = np.array([network not in closed for network in networks], dtype=bool)
        self._look()

    @property
    def trained_mean(self) -> Array:
        """Posterior means of the networks of the full trainings, in the order they were told, standardised."""
        if not len(self._full):
            return np.empty(0)
        return self._process.predict(self._full)[0]

    def improvement(self) -> Array:
        """Return every candidate's expected improvement over the best posterior mean of a trained network."""
        trained = self.trained_mean
        best = float(trained.max()) if len(trained) else float(self.mean.max())
        return expected_excess(self.mean, self.deviation, best)

    def propose(self, count: int) -> list[int]:
        """Return the open candidates of largest expected improvement; each takes the earlier ones for running."""
        chosen: list[int] = []
        while len(chosen) < count and self.is_open.any():
            self.refine(self.promising(self.improvement(), REFINED))
            chosen.append(self.promising(self.improvement(), 1)[0])
            self.believe(chosen[-1])
        return chosen

    def promising(self, gain: Array, count: int) -> list[int]:
        """Return the open candidates of largest gain, best first, ties by place.

        Where nothing can be gained, mean plus deviation decides.
        """
        gain = np.where(self.is_open, gain, -np.inf)
        if gain.max() < NO_HOPE:
            gain = np.where(self.is_open, self.mean + self.deviation, -np.inf)
        count = min(count, int(self.is_open.sum()))
        first = (
            np.sort(np.argpartition(-gain, count - 1)[:count]) if count < len(gain) else np.arange(len(gain))
        )
        # Networks that are alike to the predictor differ by rounding, which depends on how it came to its numbers.
        level = TIE * max(abs(float(gain.max())), NO_HOPE)
        order = np.argsort(-np.round(gain[first] / level), kind="stable")[:count]
        return [int(index) for index in first[order]]

    def refine(self, index: Sequence[int]) -> None:
        """Predict some of the candidates in double precision."""
        if len(index):
            mean, deviation = self._process.predict(self._candidates.rows(np.asarray(index, dtype=np.intp)))
            self.mean[list(index)], self.deviation[list(index)] = mean, deviation

    def believe(self, index: int) -> None:
        """Take a candidate for running: it shows its posterior mean, and it is closed."""
        row = self._candidates.rows(np.array([index]))
        self._process = self._process.extend(row, self._process.predict(row)[0])
        self._look()
        self.is_open &= np.array([network != self._networks[index] for network in self._networks], dtype=bool)

    def _look(self) -> None:
        seen = [pool.peek(self._process) for pool in self._pools]
        self.mean = np.concatenate([mean for mean, _ in seen])
        self.deviation = np.concatenate([deviation for _, deviation in seen])
