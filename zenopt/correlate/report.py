"""Proxies against a table of known accuracies: the statistics of ``zenopt correlate``."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zenopt.core.errors import DataError
from zenopt.core.statistics import RankStatistics, rank_statistics
from zenopt.core.tables import Table
from zenopt.correlate.measure import Scores
from zenopt.proxies.registry import get_proxy


@dataclass(frozen=True)
class Correlation:
    """How well one proxy ranks one data set.

    Attributes:
        column: The data set: a column of the table.
        proxy: The proxy.
        statistics: Rank statistics; failures rank last together.
        failed: Architectures without a score.
        mean_seconds: Mean wall time per architecture. A pass that proxies share counts for the first of them.
    """

    column: str
    proxy: str
    statistics: RankStatistics
    failed: int
    mean_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return plain data; a statistic that is undefined (a constant score) is null."""
        found = self.statistics
        return {
            "spearman": found.spearman.value,
            "low": found.spearman.low,
            "high": found.spearman.high,
            "kendall": found.kendall.value,
            "kendall_low": found.kendall.low,
            "kendall_high": found.kendall.high,
            "top_count": found.top_count,
            "top_overlap": found.top.value,
            "top_overlap_low": found.top.low,
            "top_overlap_high": found.top.high,
            "n": found.n,
            "failed": self.failed,
            "mean_seconds": self.mean_seconds,
        }


def correlate(
    table: Table,
    scores: Scores,
    columns: Sequence[str],
    *,
    top_share: float = 0.1,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Correlation]:
    """Compare scores with the columns of a table.

    A score's direction is its proxy's: a positive correlation always means that the proxy is right.

    Args:
        table:
            The accuracies, more is better.
        scores:
            Scores by proxy and architecture.
        columns:
            Columns of the table. Architectures without a number there are left out of that column's statistics.
        top_share, resamples, seed:
            See :func:`~zenopt.core.statistics.rank_statistics`.

    Raises:
        DataError: If a column does not exist.
    """
    found = []
    for column in columns:
        truth = table.column(column)
        for proxy, by_structure in scores.items():
            texts = [text for text in by_structure if text in truth]
            results = [by_structure[text] for text in texts]
            found.append(
                Correlation(
                    column=column,
                    proxy=proxy,
                    statistics=rank_statistics(
                        [oriented(result.value, proxy) for result in results],
                        [truth[text] for text in texts],
                        top_share=top_share,
                        resamples=resamples,
                        seed=seed,
                    ),
                    failed=sum(result.value is None for result in results),
                    mean_seconds=sum(result.seconds for result in results) / max(1, len(results)),
                )
            )
    return found


def results_json(correlations: Sequence[Correlation]) -> dict[str, dict[str, Any]]:
    """Return ``results[data set][proxy]`` as plain data."""
    results: dict[str, dict[str, Any]] = {}
    for item in correlations:
        results.setdefault(item.column, {})[item.proxy] = item.to_json()
    return results


def write_scores(path: str | Path, scores: Scores) -> None:
    """Write scores as CSV: ``structure``, then one column per proxy, empty where it failed.

    Raises:
        DataError: If the file cannot be written.
    """
    names = list(scores)
    try:
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["structure", *names])
            for text in scores[names[0]]:
                values = [scores[name][text].value for name in names]
                writer.writerow([text, *("" if value is None else repr(value) for value in values)])
    except OSError as error:
        raise DataError(f"Scores {path} cannot be written: {error.strerror}.") from None


def oriented(value: float | None, proxy: str) -> float:
    """Return a score so that more is better, and a failure is worst."""
    if value is None:
        return -math.inf
    return value if get_proxy(proxy).direction == "maximize" else -value
