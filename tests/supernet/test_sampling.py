from __future__ import annotations

from collections import Counter

import pytest
from supernets import space_of, tiny_plan

from zenopt.core.budget import Budget
from zenopt.core.errors import SpecError
from zenopt.latency.limits import Limits
from zenopt.supernet.sampling import PathSampler


def test_paths_are_functions_of_seed_and_step() -> None:
    for sampling in ("uniform", "fair", "sandwich"):
        one, same, other = (tiny_plan(sampling, seed).sampler for seed in (0, 0, 1))
        steps = range(12)
        assert [one.paths(step) for step in steps] == [same.paths(step) for step in reversed(steps)][::-1]
        assert [one.paths(step) for step in steps] != [other.paths(step) for step in steps]


def test_fair_rounds_take_every_operation_once_on_every_edge() -> None:
    sampler = PathSampler(space_of("nasbench201"), "fair", seed=3)
    for turn in range(4):
        cells = [sampler.paths(step)[0].operations for step in range(5 * turn, 5 * turn + 5)]
        assert all(Counter(operations) == Counter(set(operations)) for operations in zip(*cells, strict=True))
    first = [sampler.paths(step)[0] for step in range(5)]
    assert len({cell.operations for cell in first}) == 5 and any(
        len(set(cell.operations)) > 1 for cell in first
    )


def test_a_sandwich_is_the_largest_the_smallest_and_what_is_between() -> None:
    plan = tiny_plan("sandwich")
    largest, *drawn, smallest = plan.sampler.paths(0)
    costs = [plan.limits.count(found).params for found in (largest, *drawn, smallest)]
    assert len(drawn) == 2 and costs[0] == max(costs) and costs[-1] == min(costs)
    assert largest.blocks[1].out_channels == 16 and smallest.blocks[1].out_channels == 8


def test_a_sandwich_of_alternatives_is_refused() -> None:
    with pytest.raises(SpecError, match="alternatives only"):
        PathSampler(space_of("nasbench-macro"), "sandwich")


@pytest.mark.parametrize("sampling", ["uniform", "fair"])
def test_paths_keep_the_budget(sampling: str) -> None:
    limits = Limits(Budget(macs=40e6), 32, 10)
    sampler = PathSampler(space_of("nasbench-macro"), sampling, limits=limits)  # type: ignore[arg-type]
    free = PathSampler(space_of("nasbench-macro"), sampling)  # type: ignore[arg-type]
    kept = [limits.count(sampler.paths(step)[0]).macs for step in range(20)]
    assert max(kept) <= 40e6 < max(limits.count(free.paths(step)[0]).macs for step in range(20))


def test_a_budget_that_nothing_keeps_is_said() -> None:
    with pytest.raises(SpecError, match="None of 1000 drawn architectures keeps the budget"):
        tiny_plan(params=10).sampler.paths(0)
