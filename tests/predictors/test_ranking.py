"""Cheap rankings: by one input, at equal values of another, and several in turn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zenopt.core.errors import PredictorError
from zenopt.predictors.beginning import best_of_level
from zenopt.predictors.inputs import Inputs
from zenopt.predictors.ranking import FEWEST_NEAR, Ranking
from zenopt.predictors.surrogate import Surrogate

#: Ten networks of each of sixty depths; the score rises with depth, and at equal depth with the quality.
DEPTHS = np.repeat(np.arange(1.0, 61.0), 10)
QUALITY = np.tile(np.arange(10.0), 60)


def inputs(**further: Any) -> Inputs:
    columns = {"score": 3.0 * DEPTHS + QUALITY, "depth": DEPTHS, "cost": -DEPTHS, **further}
    return Inputs(
        tuple(columns), ("scores", "shape", "costs")[: len(columns)], np.column_stack([*columns.values()])
    )


def one(ranking: str, own: Inputs) -> Ranking:
    (found,) = Ranking.all_of(own, ranking)
    return found


def test_at_equal_values_networks_are_compared_with_their_like() -> None:
    own = inputs()
    plain, equal = one("score", own).scores(own), one("score at equal depth", own).scores(own)
    assert np.corrcoef(plain, DEPTHS)[0, 1] > 0.95
    assert abs(np.corrcoef(equal, DEPTHS)[0, 1]) < 0.1
    assert np.corrcoef(equal, QUALITY)[0, 1] > 0.9
    # The middle of its like has the score 0, whatever the depth.
    assert np.abs(equal[(QUALITY == 4) | (QUALITY == 5)]).mean() < 0.25


def test_where_few_are_equal_the_nearest_are_asked() -> None:
    own = inputs()
    ranking = one("score at equal depth", own)
    for level in (1.0, 30.0, 60.0, 30.5, -5.0, 99.0):
        near = ranking._near(level)
        assert len(near) >= FEWEST_NEAR
        depths = (near - near % 1) // 3
        assert np.abs(depths - np.clip(level, 1, 60)).max() <= 5
    # Where many are equal, all of them and nobody else.
    many = inputs(depth=np.where(DEPTHS > 30, 40.0, DEPTHS))
    assert len(one("score at equal depth", many)._near(40.0)) == 300


def test_a_ranking_that_is_there_and_one_that_is_not() -> None:
    own = inputs()
    two = Ranking.all_of(own, "score at equal depth and cost")
    assert [(r.column, r.equal) for r in two] == [(0, 1), (2, None)]
    for wrong, named in {"x": "x", "score at equal x": "x", "score and x": "x", "score and ": ""}.items():
        with pytest.raises(
            PredictorError, match=f"no input is called '{named}'; there are auto, none, score, depth"
        ):
            Ranking.all_of(own, wrong)
    # Names of others may hold the words between names.
    odd = Inputs(("this and that at equal cost",), ("earlier",), np.arange(5.0)[:, None])
    assert one("this and that at equal cost", odd).column == 0


def test_the_best_of_each_level() -> None:
    none = np.empty(0, dtype=np.intp)
    found = [best_of_level(QUALITY, DEPTHS, place, 3, none) for place in range(3)]
    chosen = [own for own in found if own is not None]
    # Levels are as wide as 2 % of all.
    assert DEPTHS[chosen] == pytest.approx([1, 30, 60], abs=1.2) and QUALITY[chosen].tolist() == [9, 9, 9]
    again = best_of_level(QUALITY, DEPTHS, 0, 3, np.flatnonzero((DEPTHS <= 3) & (QUALITY == 9)))
    assert again is not None and DEPTHS[again] <= 2.2 and QUALITY[again] == 8
    assert best_of_level(QUALITY, DEPTHS, 0, 1, np.arange(600)) is None
    # One level alone is every level.
    assert best_of_level(QUALITY[:10], DEPTHS[:10], 2, 3, none) == 9


def test_a_beginning_asks_rankings_in_turn_and_goes_on_where_it_stopped() -> None:
    own = inputs()
    surrogate = Surrogate(own, ranking="score at equal depth and cost")
    chosen = surrogate.begin(own, 4, np.random.default_rng(0))
    assert len(set(chosen)) == 4
    assert DEPTHS[[chosen[0], chosen[2]]] == pytest.approx([1, 60], abs=1.2)
    assert QUALITY[chosen[0]] == QUALITY[chosen[2]] == 9
    # The other one is for shallow networks.
    assert DEPTHS[chosen[1]] <= 2 and DEPTHS[chosen[3]] <= 13
    assert surrogate.begin(own, 4, np.random.default_rng(1), chosen[:1])[1] == chosen[2]
    assert surrogate.begin(own, 4, np.random.default_rng(0), chosen) == []
    few = own.rows([0, 1, 2])
    assert sorted(Surrogate(own, ranking="score at equal depth").begin(few, 9, np.random.default_rng(0))) == [
        0,
        1,
        2,
    ]
