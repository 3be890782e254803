"""Violations of limits."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zenopt.core.budget import Budget, is_feasible
from zenopt.core.costs import Costs, count
from zenopt.core.errors import BudgetError
from zenopt.spaces.chain.architecture import Architecture

COSTS = count(Architecture.parse("SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,2,4,2)"), 8, 5)


def test_violations_are_signed_and_relative() -> None:
    budget = Budget(params=COSTS.params / 2, macs=COSTS.macs * 4, layers=3, convs=4, latency_ms=0.5)
    assert budget.violations(COSTS, latency_ms=0.55) == pytest.approx(
        {"params": 1.0, "macs": -0.75, "layers": 0.0, "convs": 0.25, "latency_ms": 0.1}
    )


def test_min_width_is_a_lower_limit() -> None:
    # The narrowest convolution has 4 channels.
    assert Budget(min_width=5).violations(COSTS) == {"min_width": pytest.approx(0.2)}
    assert Budget(min_width=4).violations(COSTS) == {"min_width": 0.0}
    assert Budget(min_width=2).violations(COSTS) == {"min_width": -1.0}


def test_depth_to_width() -> None:
    limit = COSTS.depth_to_width
    assert Budget(depth_to_width=limit).violations(COSTS) == {"depth_to_width": 0.0}
    assert Budget(depth_to_width=limit / 2).violations(COSTS)["depth_to_width"] == pytest.approx(1.0)


def test_counting_chooses_the_counts() -> None:
    true = Budget(params=1000, macs=1000).violations(COSTS)
    zennas = Budget(params=1000, macs=1000, counting="zennas").violations(COSTS)
    assert true == {"params": COSTS.params / 1000 - 1, "macs": COSTS.macs / 1000 - 1}
    assert zennas == {"params": COSTS.zennas_params / 1000 - 1, "macs": COSTS.zennas_flops / 1000 - 1}


def test_without_limits_everything_is_feasible() -> None:
    assert Budget().limits() == {}
    assert Budget().violations(COSTS) == {}
    assert is_feasible({})


@given(st.floats(1, 1e9))
def test_feasible_is_within_the_limit(limit: float) -> None:
    assert is_feasible(Budget(params=limit).violations(COSTS)) == (COSTS.params <= limit)


def test_one_violation_is_enough() -> None:
    assert is_feasible({"params": -0.5, "macs": 0.0})
    assert not is_feasible({"params": -0.5, "macs": 1e-12})


def test_a_latency_limit_needs_a_latency() -> None:
    with pytest.raises(BudgetError, match=r"budget\.latency_ms is set but no latency"):
        Budget(latency_ms=1).violations(COSTS)


@pytest.mark.parametrize(
    "name", ["params", "macs", "layers", "latency_ms", "convs", "min_width", "depth_to_width"]
)
@pytest.mark.parametrize("value", [0, -1, math.nan])
def test_limits_are_positive(name: str, value: Any) -> None:
    with pytest.raises(BudgetError, match=f"budget.{name} must be a positive number, got {value}"):
        Budget(**{name: value})


def test_unknown_counting() -> None:
    with pytest.raises(BudgetError, match=r"budget\.counting must be one of true, zennas; got 'both'"):
        Budget(counting="both")


def test_recorded_costs_are_limited_as_counted_ones_and_unknown_ones_are_not_passed_over() -> None:
    class Recorded:
        recorded_costs = Costs.recorded({"params": 2000.0})

    costs = count(Recorded(), 32)
    assert costs.params == 2000 and math.isnan(costs.macs)
    assert Budget(params=1000).violations(costs) == {"params": 1.0}
    for limit in ({"macs": 1e6}, {"min_width": 8}, {"convs": 3}):
        with pytest.raises(BudgetError, match=f"budget.{next(iter(limit))} is set but nothing records"):
            Budget(**limit).violations(costs)
