"""Rank agreement of scores and costs with trained accuracy, with intervals over networks and training seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from zenopt.core.statistics import kendall, spearman
from zenopt.train.errors import TrainError
from zenopt.verify.linked import Verified


@dataclass(frozen=True)
class Agreement:
    """How a column's ranks agree with the ranks of accuracy.

    Attributes:
        spearman, kendall: Spearman's rho and Kendall's tau-b with the mean accuracy over seeds.
        spearman_interval, kendall_interval: Percentile bootstrap intervals.
        networks: How many networks they rest on.
    """

    column: str
    spearman: float
    spearman_interval: tuple[float, float]
    kendall: float
    kendall_interval: tuple[float, float]
    networks: int

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain data; what is not defined, as where all accuracies are equal, is ``None``."""
        return {
            "column": self.column,
            "spearman": _or_none(self.spearman),
            "spearman_interval": [_or_none(value) for value in self.spearman_interval],
            "kendall": _or_none(self.kendall),
            "kendall_interval": [_or_none(value) for value in self.kendall_interval],
            "networks": self.networks,
        }


def agreement(verified: Sequence[Verified], *, seed: int = 0) -> list[Agreement]:
    """Return the rank agreement of every score and cost with accuracy, strongest first.

    Raises:
        TrainError: If fewer than three networks were trained to the end.
    """
    trained = [item for item in verified if item.top1]
    facts = [item.candidate.facts for item in trained]
    shared = [key for key in (facts[0] if facts else {}) if all(key in row for row in facts)]
    varied = [key for key in shared if len({row[key] for row in facts}) > 1]
    found = rank_agreement(facts, [item.top1 for item in trained], columns=varied, seed=seed)
    return sorted(found, key=lambda item: -abs(item.spearman) if isfinite(item.spearman) else 1.0)


def rank_agreement(
    facts: Sequence[Mapping[str, float]],
    accuracies: Sequence[Sequence[float]],
    *,
    columns: Sequence[str] | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Agreement]:
    """Return the agreement of each column of facts with accuracy.

    An interval covers both kinds of chance: every resample draws networks with replacement, and for every drawn network
    its training seeds with replacement. Few seeds make it too narrow (a single seed cannot show its own spread).

    Args:
        facts:
            What is known of each network, by column.
        accuracies:
            The accuracies of each network, one a training seed.
        columns:
            Which columns; those that every network has unless given.
        resamples:
            Bootstrap resamples.
        level:
            Coverage of the intervals, in (0, 1).
        seed:
            Of the resampling.

    Raises:
        TrainError: Fewer than three networks, or one without accuracies.
    """
    if len(facts) != len(accuracies) or len(facts) < 3:
        raise TrainError(
            f"Rank agreement needs at least 3 networks with accuracies; there are {len(accuracies)}."
        )
    if any(not len(seeds) for seeds in accuracies):
        raise TrainError("Rank agreement needs an accuracy for every network.")
    if columns is None:
        columns = [name for name in facts[0] if all(name in row for row in facts)]
    random = np.random.default_rng(seed)
    means = np.array([np.mean(seeds) for seeds in accuracies])
    # The same resamples serve every column, so that columns can be compared.
    picks = random.integers(len(facts), size=(resamples, len(facts)))
    drawn = np.empty(picks.shape)
    for network, seeds in enumerate(accuracies):
        places = np.nonzero(picks == network)
        choice = random.integers(len(seeds), size=(len(places[0]), len(seeds)))
        drawn[places] = np.asarray(seeds, dtype=float)[choice].mean(axis=1)
    found = []
    for column in columns:
        values = np.array([row[column] for row in facts], dtype=float)
        rhos = [_known(spearman(values[pick], accuracy)) for pick, accuracy in zip(picks, drawn, strict=True)]
        taus = [_known(kendall(values[pick], accuracy)) for pick, accuracy in zip(picks, drawn, strict=True)]
        found.append(
            Agreement(
                column,
                _known(spearman(values, means)),
                _interval(rhos, level),
                _known(kendall(values, means)),
                _interval(taus, level),
                len(facts),
            )
        )
    return found


def _or_none(value: float) -> float | None:
    return value if isfinite(value) else None


def _known(value: float | None) -> float:
    """Return a correlation, or nan where a side was constant."""
    return float("nan") if value is None else value


def _interval(values: Sequence[float], level: float) -> tuple[float, float]:
    known = np.asarray(values)[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
