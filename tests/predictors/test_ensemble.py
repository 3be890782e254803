"""Rank ensembles."""

from __future__ import annotations

import math

import numpy as np
import pytest

from zenopt.core.errors import ProxyError
from zenopt.predictors.ensemble import az_nas, fit_rank_weights, ranks, vote, weighted_ranks
from zenopt.proxies import register_proxy


@register_proxy("test-minimized", "minimize")
def minimized(probe: object) -> float:
    """Less is better."""
    return 0.0


def test_ranks() -> None:
    assert ranks([10.0, 30.0, 20.0]).tolist() == [1, 3, 2]
    assert ranks([10.0, 30.0, 20.0], "minimize").tolist() == [3, 1, 2]
    assert ranks([5.0, None, 5.0, math.nan, 7.0]).tolist() == [3.5, 1.5, 3.5, 1.5, 5]


def test_vote_is_a_majority_over_pairs() -> None:
    table = {"synflow": [3.0, 2.0, 1.0], "jacob_cov": [3.0, 1.0, 2.0], "snip": [1.0, 3.0, 2.0]}
    # 0 beats 1 (two of three) and 2 (two of three); 1 beats 2 (synflow and snip).
    assert vote(table).tolist() == [1.0, 0.0, -1.0]


def test_weights_and_directions() -> None:
    table = {"snip": [1.0, 2.0, 3.0], "test-minimized": [1.0, 2.0, 3.0]}
    assert weighted_ranks(table, {"snip": 2.0}).tolist() == [0.0, 0.5, 1.0]
    assert weighted_ranks(table, {"snip": -1.0}).tolist() == [0.0, -0.5, -1.0]
    assert weighted_ranks(table, {"snip": 1.0, "test-minimized": 1.0}).tolist() == [0.5, 0.5, 0.5]


def test_az_nas_punishes_one_bad_rank() -> None:
    table = {"snip": [4.0, 3.0, 2.0, 1.0], "plain": [1.0, 3.0, 4.0, 2.0]}
    scores = az_nas(table, ["snip", "plain"])
    assert scores.tolist() == pytest.approx(
        [math.log(1 / 4), math.log(9 / 16), math.log(2 / 4), math.log(2 / 16)]
    )
    assert scores.argmax() == 1


def test_learned_weights_find_the_informative_proxy() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=200)
    table = {
        "snip": (truth + 0.3 * rng.normal(size=200)).tolist(),
        "plain": rng.normal(size=200).tolist(),
        "test-minimized": (-truth + 2.0 * rng.normal(size=200)).tolist(),
    }
    weights = fit_rank_weights(table, truth.tolist())
    assert weights["snip"] > 5 * abs(weights["plain"])
    assert weights["snip"] > weights["test-minimized"] > 0


def test_bad_tables() -> None:
    with pytest.raises(ProxyError, match="no scores of jacob_cov, snip; it has synflow"):
        vote({"synflow": [1.0]})
    with pytest.raises(ProxyError, match="one score per architecture"):
        weighted_ranks({"snip": [1.0], "plain": [1.0, 2.0]}, {"snip": 1.0, "plain": 1.0})
    with pytest.raises(ProxyError, match="weight other than 0"):
        weighted_ranks({"snip": [1.0]}, {"snip": 0.0})
    with pytest.raises(ProxyError, match="at least one proxy"):
        az_nas({}, [])
