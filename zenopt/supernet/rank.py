"""How well a supernet ranks networks whose accuracies are known."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zenopt.core.costs import count
from zenopt.core.errors import DataError, EvaluationError
from zenopt.core.progress import SILENT, Progress
from zenopt.core.statistics import RankStatistics, rank_statistics
from zenopt.supernet.files import TrainedSupernet
from zenopt.supernet.judging import PathJudge

#: Costs that rank the same networks, for comparison.
COSTS = ("params", "macs")


@dataclass(frozen=True)
class Ranking:
    """Networks with the accuracies of their paths and those that are known.

    Attributes:
        accuracies: Text of a network -> accuracy of its path, in percent; minus infinity where it has none.
        known: Text of a network -> its known accuracy.
        statistics: How the two orders agree.
        of_costs: The same of costs, by name.
        seconds: Wall time of an evaluation, the mean.
    """

    accuracies: Mapping[str, float]
    known: Mapping[str, float]
    statistics: RankStatistics
    of_costs: Mapping[str, RankStatistics]
    seconds: float


def rank(
    supernet: TrainedSupernet,
    architectures: Sequence[Any],
    known: Mapping[str, float],
    judge: PathJudge,
    *,
    resamples: int = 1000,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Ranking:
    """Judge architectures and compare their order with the known one.

    Args:
        supernet:
            The supernet.
        architectures:
            Some of its space; those that it does not hold are left out.
        known:
            Canonical text -> accuracy, of all of them.
        judge:
            Judges the paths.
        resamples:
            Of the bootstrap intervals.
        seed:
            Of the resampling.
        progress:
            Is told of every path.

    Raises:
        DataError: If fewer than three networks are held.
    """
    held = [found for found in architectures if supernet.weights.misfit(found) is None]
    if len(held) < 3:
        raise DataError(
            f"Ranks need at least 3 networks with known accuracies that the supernet holds; there are {len(held)}."
        )
    accuracies: dict[str, float] = {}
    started = time.perf_counter()
    progress.start(len(held), "path")
    for architecture in held:
        try:
            accuracies[str(architecture)] = judge.accuracy(architecture)
        except EvaluationError as error:
            progress.note(f"Warning: {error}")
            accuracies[str(architecture)] = -math.inf
        progress.advance()
    seconds = (time.perf_counter() - started) / len(held)
    truth = [known[str(architecture)] for architecture in held]
    facts = supernet.facts
    costs = [count(found, facts.resolution, facts.num_classes, use_se=facts.use_se) for found in held]

    def agreement(values: Sequence[float]) -> RankStatistics:
        return rank_statistics(values, truth, resamples=resamples, seed=seed)

    return Ranking(
        accuracies,
        dict(zip(accuracies, truth, strict=True)),
        agreement(list(accuracies.values())),
        {name: agreement([float(getattr(cost, name)) for cost in costs]) for name in COSTS},
        seconds,
    )
