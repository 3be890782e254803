"""Combinations of proxies, judged like proxies; what is learned is learned on one half and judged on the other."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from zenopt.correlate.measure import Scores
from zenopt.correlate.report import Correlation
from zenopt.correlate.statistics import rank_statistics
from zenopt.proxies.ensemble import VOTERS, fit_rank_weights, vote, weighted_ranks
from zenopt.tables import Table

VOTE, MEAN, LEARNED = "vote", "mean-rank", "learned-ranks"


def combine(
    table: Table,
    scores: Scores,
    columns: Sequence[str],
    *,
    top_share: float = 0.1,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[list[Correlation], dict[str, dict[str, float]]]:
    """Judges combinations of all scored proxies.

    ``vote`` is the majority of synflow, jacob_cov and snip (where they are among the proxies), ``mean-rank`` the plain
    mean of all ranks, ``learned-ranks`` a ridge regression of ranks fitted on a random half of the architectures, whose
    statistics are those of the other half.

    Args:
        table, scores, columns, top_share, resamples, seed:
            As for :func:`~zenopt.correlate.report.correlate`; ``seed`` also splits the halves.

    Returns:
        The statistics, and the learned weights by column and proxy.
    """
    found: list[Correlation] = []
    weights: dict[str, dict[str, float]] = {}
    names = list(scores)
    for column in columns:
        truth = table.column(column)
        texts = [text for text in scores[names[0]] if text in truth]
        combined: dict[str, tuple[list[str], list[float]]] = {}
        voters = [name for name in VOTERS if name in scores]
        if len(voters) == len(VOTERS):
            combined[VOTE] = (texts, vote(_rows(scores, texts, voters), voters).tolist())
        equal = dict.fromkeys(names, 1.0)
        combined[MEAN] = (texts, weighted_ranks(_rows(scores, texts, names), equal).tolist())
        train, test = _halves(texts, seed)
        learned = fit_rank_weights(_rows(scores, train, names), [truth[text] for text in train])
        weights[column] = learned
        combined[LEARNED] = (test, weighted_ranks(_rows(scores, test, names), learned).tolist())
        for name, (judged, values) in combined.items():
            found.append(
                Correlation(
                    column=column,
                    proxy=name,
                    statistics=rank_statistics(
                        values,
                        [truth[text] for text in judged],
                        top_share=top_share,
                        resamples=resamples,
                        seed=seed,
                    ),
                    failed=0,
                    mean_seconds=0.0,
                )
            )
    return found, weights


def _rows(scores: Scores, texts: Sequence[str], names: Sequence[str]) -> Mapping[str, list[float | None]]:
    return {name: [scores[name][text].value for text in texts] for name in names}


def _halves(texts: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    shuffled = sorted(texts)
    random.Random(f"halves {seed}").shuffle(shuffled)
    middle = len(shuffled) // 2
    return shuffled[:middle], shuffled[middle:]
