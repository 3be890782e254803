"""How well a supernet ranks networks whose accuracies are known: at its end, or after epochs of its training."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zenopt.core.costs import count
from zenopt.core.errors import CheckpointError, DataError, EvaluationError
from zenopt.core.progress import SILENT, Progress
from zenopt.core.statistics import RankStatistics, nearly_equal, rank_statistics
from zenopt.core.text import shortened_path
from zenopt.supernet.files import TrainedSupernet, has_ended, kept_epochs, read_supernet
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
        epoch: After which the weights were taken.
        images: How many judged.
    """

    accuracies: Mapping[str, float]
    known: Mapping[str, float]
    statistics: RankStatistics
    of_costs: Mapping[str, RankStatistics]
    seconds: float
    epoch: int
    images: int

    @property
    def mean_accuracy(self) -> float:
        """Mean accuracy of the paths that have one, in percent; NaN where none has."""
        found = [value for value in self.accuracies.values() if math.isfinite(value)]
        return statistics.fmean(found) if found else math.nan


def rank(
    supernet: TrainedSupernet,
    architectures: Sequence[Any],
    known: Mapping[str, float],
    judge: PathJudge,
    *,
    equal_macs: float | None = None,
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
        equal_macs:
            Also compare the order of networks whose MACs differ by at most this share, where counting tells little.
        resamples:
            Of the bootstrap intervals.
        seed:
            Of the resampling.
        progress:
            Is told of every path.

    Raises:
        DataError: If fewer than three networks are held, or too many to compare those of equal MACs.
    """
    held = held_by(supernet, architectures)
    progress.start(len(held), "path")
    return _ranked(supernet, held, known, judge, None, equal_macs, resamples, seed, progress)


def rank_over_epochs(
    folder: Path,
    architectures: Sequence[Any],
    known: Mapping[str, float],
    judge_of: Callable[[TrainedSupernet], PathJudge],
    *,
    equal_macs: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
    progress: Progress = SILENT,
) -> list[Ranking]:
    """Compare the order after each epoch whose weights were kept, and at the end if the training has come to it.

    Args:
        folder:
            Of the supernet.
        judge_of:
            Makes what judges the paths of a supernet.

    The others are those of :func:`rank`.

    Raises:
        CheckpointError: If no weights were kept, or a file is damaged.
        DataError: As for :func:`rank`.
    """
    epochs: list[int | None] = [*kept_epochs(folder)]
    if not epochs:
        read_supernet(folder)
        raise CheckpointError(
            f"No weights of earlier epochs are kept in {shortened_path(folder)}; train with --keep-every."
        )
    if has_ended(folder):
        epochs.append(None)
    found: list[Ranking] = []
    for epoch in epochs:
        supernet = read_supernet(folder, epoch)
        held = held_by(supernet, architectures)
        if not found:
            progress.start(len(held) * len(epochs), "path")
        judge = judge_of(supernet)
        own = _ranked(supernet, held, known, judge, epoch, equal_macs, resamples, seed, progress)
        found.append(own)
    return found


def held_by(supernet: TrainedSupernet, architectures: Iterable[Any]) -> list[Any]:
    """Return the architectures that a supernet holds.

    Raises:
        DataError: If they are fewer than three.
    """
    held = [found for found in architectures if supernet.weights.misfit(found) is None]
    if len(held) < 3:
        raise DataError(
            "Ranks need at least 3 networks with known accuracies that the supernet holds; there "
            f"{'is' if len(held) == 1 else 'are'} {len(held)}."
        )
    return held


def _ranked(
    supernet: TrainedSupernet,
    held: Sequence[Any],
    known: Mapping[str, float],
    judge: PathJudge,
    epoch: int | None,
    equal_macs: float | None,
    resamples: int,
    seed: int,
    progress: Progress,
) -> Ranking:
    facts = supernet.facts
    costs = [count(found, facts.resolution, facts.num_classes, use_se=facts.use_se) for found in held]
    are_alike = None if equal_macs is None else nearly_equal([own.macs for own in costs], equal_macs)
    accuracies: dict[str, float] = {}
    started = time.perf_counter()
    for architecture in held:
        try:
            accuracies[str(architecture)] = judge.accuracy(architecture)
        except EvaluationError as error:
            progress.note(f"Warning: {error}")
            accuracies[str(architecture)] = -math.inf
        progress.advance()
    seconds = (time.perf_counter() - started) / len(held)
    truth = [known[str(architecture)] for architecture in held]

    def agreement(values: Sequence[float]) -> RankStatistics:
        return rank_statistics(values, truth, resamples=resamples, seed=seed, are_alike=are_alike)

    return Ranking(
        accuracies,
        dict(zip(accuracies, truth, strict=True)),
        agreement(list(accuracies.values())),
        {name: agreement([float(getattr(cost, name)) for cost in costs]) for name in COSTS},
        seconds,
        facts.recipe.epochs if epoch is None else epoch,
        judge.images,
    )
