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
            chosen.append(self.best_open(self.improvement()))
            self.believe(chosen[-1])
        return chosen

    def best_open(self, gain: Array) -> int:
        """Return the open candidate of largest gain; where nothing can be gained, of largest mean plus deviation."""
        gain = np.where(self.is_open, gain, -np.inf)
        if gain.max() < NO_HOPE:
            gain = np.where(self.is_open, self.mean + self.deviation, -np.inf)
        return int(np.argmax(gain))

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
