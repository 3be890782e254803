"""Combinations of proxies, judged like proxies; what is learned is learned on one part and judged on the other."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zenopt.core.errors import DataError
from zenopt.core.progress import SILENT, Progress
from zenopt.core.statistics import rank_statistics, spearman
from zenopt.core.tables import Table
from zenopt.correlate.measure import Scores
from zenopt.correlate.report import Correlation
from zenopt.predictors.ensemble import VOTERS, fit_rank_weights, ranks, vote, weighted_ranks
from zenopt.predictors.features import architecture_features
from zenopt.predictors.inputs import Inputs
from zenopt.predictors.learned import MAX_LEARNED, LearnedScore, fit_learned
from zenopt.predictors.observations import Observations
from zenopt.predictors.surrogate import Surrogate
from zenopt.proxies.registry import get_proxy

VOTE, MEAN, LEARNED, PROCESS = "vote", "mean-rank", "learned-ranks", "learned-process"
#: The predictor of the learned search, on what it reads of networks and on the proxies.
SURROGATE = "surrogate"
#: Its group of inputs that the proxies are.
PROXIES = "proxies"

Features = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Splits:
    """What a learned combination reaches over several random splits of the same architectures.

    Attributes:
        mean, low, high: Mean, and 2.5 and 97.5 % quantiles over splits, of Spearman's correlation on what was not
            learned from. They say how much the split matters; an interval over architectures is that of one split.
        repeats: Number of splits.
        train, test: Architectures on each side.
    """

    mean: float
    low: float
    high: float
    repeats: int
    train: int
    test: int


@dataclass(frozen=True)
class Combined:
    """Combinations and how they fare.

    Attributes:
        correlations: Statistics on what a combination was not learned from.
        weights: Learned weights of ranks, by column and proxy.
        splits: Learned combinations over random splits, by column and name.
        reads: Groups of inputs that ``surrogate`` reads, by column.
    """

    correlations: list[Correlation] = field(default_factory=list)
    weights: dict[str, dict[str, float]] = field(default_factory=dict)
    splits: dict[str, dict[str, Splits]] = field(default_factory=dict)
    reads: dict[str, tuple[str, ...]] = field(default_factory=dict)


def combine(
    table: Table,
    scores: Scores,
    columns: Sequence[str],
    *,
    features: Features | None = None,
    inputs: Inputs | None = None,
    groups: Sequence[str] = (),
    train: int | None = None,
    repeats: int = 20,
    top_share: float = 0.1,
    resamples: int = 1000,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Combined:
    """Judge combinations of all scored proxies.

    ``vote`` is the majority of synflow, jacob_cov and snip (where they are among the proxies), ``mean-rank`` the plain
    mean of all ranks. Others are learned from a random part of the architectures, and their statistics are those of the
    rest: ``learned-ranks``, a ridge regression of ranks; ``learned-process``, a Gaussian process on ranks and on
    features, where there are any; and with ``inputs`` ``surrogate``, the predictor of the learned search.

    Args:
        table, scores, columns, top_share, resamples, seed:
            As for :func:`~zenopt.correlate.report.correlate`; ``seed`` also splits.
        features:
            Features by architecture (see :func:`features_of`).
        inputs:
            What the learned search reads of the architectures, in the order of the scores.
        groups:
            Groups of these inputs that it may read, besides the proxies; all if not given.
        train:
            Architectures that are learned from; half of them if not given.
        repeats:
            Random splits for :class:`Splits`; 0 for none.
        progress:
            Told of every split that has been learned.

    Raises:
        DataError: If too few architectures, or too many, would be learned from.
        PredictorError: If a group of inputs does not exist.
    """
    result = Combined()
    names = list(scores)
    progress.start(len(columns) * (1 + repeats), "split")
    read = None if inputs is None else _Read(inputs, scores, groups)
    for column in columns:
        truth = table.column(column)
        texts = [text for text in scores[names[0]] if text in truth]
        count = len(texts) // 2 if train is None else train
        most = min(len(texts) - 2, MAX_LEARNED)
        if not 3 <= count <= most:
            raise DataError(f"Of {len(texts)} architectures 3 to {most} can be learned from, not {count}.")
        combined: dict[str, tuple[list[str], list[float]]] = {}
        voters = [name for name in VOTERS if name in scores]
        if len(voters) == len(VOTERS):
            combined[VOTE] = (texts, vote(_rows(scores, texts, voters), voters).tolist())
        equal = dict.fromkeys(names, 1.0)
        combined[MEAN] = (texts, weighted_ranks(_rows(scores, texts, names), equal).tolist())
        known, test = _split(texts, count, f"halves {seed}")
        learned, weights = _learn(scores, features, read, truth, known, test)
        if read is not None:
            result.reads[column] = read.chosen
        progress.advance()
        result.weights[column] = weights
        combined.update({name: (test, values) for name, values in learned.items()})
        for name, (judged, values) in combined.items():
            found = rank_statistics(
                values, [truth[text] for text in judged], top_share=top_share, resamples=resamples, seed=seed
            )
            result.correlations.append(Correlation(column, name, found, failed=0, mean_seconds=0.0))
        result.splits[column] = _many_splits(
            scores, features, read, truth, texts, count, repeats, seed, progress
        )
    return result


def features_of(architectures: Sequence[Any], resolution: int, num_classes: int) -> Features:
    """Return the features of architectures by their text."""
    return {str(own): architecture_features(own, resolution, num_classes) for own in architectures}


def learn(
    table: Table,
    scores: Scores,
    column: str,
    features: Features | None,
    settings: Mapping[str, int],
    facts: Mapping[str, Any],
) -> LearnedScore:
    """Fit a process to every architecture that has been scored; what it is worth, :func:`combine` says."""
    truth = table.column(column)
    texts = [text for text in next(iter(scores.values())) if text in truth]
    return fit_learned(
        _rows(scores, texts, list(scores)),
        [truth[text] for text in texts],
        None if features is None else [features[text] for text in texts],
        settings=settings,
        facts=facts,
    )


def _learn(
    scores: Scores,
    features: Features | None,
    read: _Read | None,
    truth: Mapping[str, float],
    known: Sequence[str],
    test: Sequence[str],
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return what the learned combinations say of the test architectures, and the weights of ranks."""
    names, wanted = list(scores), [truth[text] for text in known]
    rows, unseen = _rows(scores, known, names), _rows(scores, test, names)
    weights = fit_rank_weights(rows, wanted)
    own = None if features is None else [features[text] for text in known]
    others = None if features is None else [features[text] for text in test]
    process = fit_learned(rows, wanted, own)
    learned = {
        LEARNED: weighted_ranks(unseen, weights).tolist(),
        PROCESS: process.predict(unseen, others).tolist(),
    }
    if read is not None:
        learned[SURROGATE] = read.predict(known, wanted, test)
    return learned, weights


class _Read:
    """What the learned search reads of architectures, and the scores of proxies as one more group."""

    def __init__(self, inputs: Inputs, scores: Scores, groups: Sequence[str]) -> None:
        self._groups = (*groups, PROXIES) if groups else ()
        #: Groups that were read by the last prediction.
        self.chosen: tuple[str, ...] = ()
        texts = list(next(iter(scores.values())))
        self._places = {text: index for index, text in enumerate(texts)}
        columns = [
            ranks([by_text[text].value for text in texts], get_proxy(name).direction)
            for name, by_text in scores.items()
        ]
        proxies = np.stack(columns, axis=1)
        self._inputs = Inputs(
            (*inputs.names, *(f"proxy {name}" for name in scores)),
            (*inputs.groups, *(PROXIES for _ in scores)),
            np.concatenate([inputs.matrix, proxies], axis=1),
        )

    def predict(self, known: Sequence[str], wanted: Sequence[float], test: Sequence[str]) -> list[float]:
        surrogate = Surrogate(self._inputs, groups=self._groups)
        surrogate.learn(Observations.of(self._of(known), known, wanted))
        self.chosen = surrogate.reads
        return surrogate.predict(self._of(test), test).mean.tolist()

    def _of(self, texts: Sequence[str]) -> Inputs:
        return self._inputs.rows([self._places[text] for text in texts])


def _many_splits(
    scores: Scores,
    features: Features | None,
    read: _Read | None,
    truth: Mapping[str, float],
    texts: Sequence[str],
    count: int,
    repeats: int,
    seed: int,
    progress: Progress,
) -> dict[str, Splits]:
    reached: dict[str, list[float]] = {}
    for repeat in range(repeats):
        known, test = _split(texts, count, f"split {seed} {repeat}")
        learned, _ = _learn(scores, features, read, truth, known, test)
        progress.advance()
        for name, values in learned.items():
            found = spearman(values, [truth[text] for text in test])
            if found is not None:
                reached.setdefault(name, []).append(found)
    found_by_name = {}
    for name, values in reached.items():
        low, high = np.percentile(values, (2.5, 97.5)).tolist()
        found_by_name[name] = Splits(
            statistics.fmean(values), low, high, len(values), train=count, test=len(texts) - count
        )
    return found_by_name


def _rows(scores: Scores, texts: Sequence[str], names: Sequence[str]) -> Mapping[str, list[float | None]]:
    return {name: [scores[name][text].value for text in texts] for name in names}


def _split(texts: Sequence[str], count: int, key: str) -> tuple[list[str], list[str]]:
    shuffled = sorted(texts)
    random.Random(key).shuffle(shuffled)
    return shuffled[:count], shuffled[count:]
