"""Combining proxies by ranks, over a set of architectures. Imports no torch.

A score table maps a proxy's name to its scores, one per architecture in the same order; ``None`` (a proxy that failed)
ranks last. Directions come from the registry.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from zenopt.core.errors import ProxyError
from zenopt.proxies.catalogue import AZ_NAS, VOTERS
from zenopt.proxies.registry import get_proxy

ScoreTable = Mapping[str, Sequence["float | None"]]


def ranks(scores: Sequence[float | None], direction: str = "maximize") -> NDArray[np.float64]:
    """Rank scores: 1 is the worst, ``len(scores)`` the best; ties share their mean rank, failures come last."""
    values = np.array([-math.inf if _is_missing(score) else _signed(score, direction) for score in scores])
    order = np.argsort(values, kind="stable")
    result = np.empty(len(values))
    start = 0
    while start < len(values):
        stop = start
        while stop < len(values) and values[order[stop]] == values[order[start]]:
            stop += 1
        result[order[start:stop]] = (start + 1 + stop) / 2
        start = stop
    return result


def vote(table: ScoreTable, names: Sequence[str] = VOTERS) -> NDArray[np.float64]:
    """Let proxies vote on every pair of architectures.

    The published vote decides one pair by majority; here each architecture gets the mean result against all others:
    1 if it wins every pair, -1 if it loses every one.

    Args:
        table:
            The scores.
        names:
            The proxies that vote; an odd number leaves no draws.
    """
    columns = [_ranks_of(table, name) for name in _present(table, names)]
    size = len(columns[0])
    total = np.zeros(size)
    for index in range(size):
        wins = sum(np.sign(column[index] - column) for column in columns)
        total[index] = np.sign(wins).sum()
    return total / max(1, size - 1)


def weighted_ranks(table: ScoreTable, weights: Mapping[str, float]) -> NDArray[np.float64]:
    """Return the weighted mean of ranks scaled to 0 (worst) ... 1 (best); a negative weight reverses a proxy."""
    names = _present(table, list(weights))
    norm = sum(abs(weights[name]) for name in names)
    if norm == 0.0:
        raise ProxyError("An ensemble needs at least one weight other than 0.")
    size = len(table[names[0]])
    total = sum(weights[name] * (_ranks_of(table, name) - 1) / max(1, size - 1) for name in names)
    return np.asarray(total / norm, dtype=np.float64)


def az_nas(table: ScoreTable, names: Sequence[str] = AZ_NAS) -> NDArray[np.float64]:
    """AZ-NAS's combination: ``sum over proxies of ln(rank / architectures)``, which punishes a single bad rank.

    Ranks depend on the set: scores of different sets cannot be compared.
    """
    columns = [_ranks_of(table, name) for name in _present(table, names)]
    return np.asarray(sum(np.log(column / len(column)) for column in columns), dtype=np.float64)


def fit_rank_weights(table: ScoreTable, truth: Sequence[float], ridge: float = 1e-2) -> dict[str, float]:
    """Learn weights for :func:`weighted_ranks` by ridge regression of the truth's ranks on the proxies' ranks.

    Args:
        table:
            Scores of architectures whose truth is known; judge the weights on others.
        truth:
            E.g. accuracies, more is better.
        ridge:
            Penalty per architecture; keeps the weights of near-copies from growing against each other.
    """
    names = _present(table, list(table))
    size = len(truth)
    columns = np.stack([(_ranks_of(table, name) - 1) / max(1, size - 1) for name in names], axis=1) - 0.5
    wanted = (ranks(list(truth)) - 1) / max(1, size - 1) - 0.5
    gram = columns.T @ columns + ridge * size * np.eye(len(names))
    solution = np.linalg.solve(gram, columns.T @ wanted)
    return dict(zip(names, solution.tolist(), strict=True))


def _present(table: ScoreTable, names: Sequence[str]) -> list[str]:
    if not names:
        raise ProxyError("An ensemble needs at least one proxy.")
    missing = [name for name in names if name not in table]
    if missing:
        raise ProxyError(f"The table has no scores of {', '.join(missing)}; it has {', '.join(table)}.")
    sizes = {len(table[name]) for name in names}
    if len(sizes) != 1 or sizes == {0}:
        raise ProxyError(f"All proxies of a table need one score per architecture, got {sorted(sizes)}.")
    return list(names)


def _ranks_of(table: ScoreTable, name: str) -> NDArray[np.float64]:
    return ranks(table[name], get_proxy(name).direction)


def _is_missing(score: float | None) -> bool:
    return score is None or not math.isfinite(score)


def _signed(score: float | None, direction: str) -> float:
    assert score is not None
    return score if direction == "maximize" else -score
