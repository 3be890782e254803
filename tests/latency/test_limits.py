"""Budgets at a resolution, on a device; shrinking what is over them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from zenopt.core.budget import Budget
from zenopt.core.costs import count
from zenopt.core.errors import BudgetError
from zenopt.latency.limits import Limits
from zenopt.latency.predict import predict_latency_ms
from zenopt.latency.profile import load_profile
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.mobile import MobileSpace
from zenopt.spaces.chain.superres import SuperResSpace

SPACE = SuperResSpace()
INITIAL = SPACE.parse(SPACE.initial)


def test_a_check_holds_costs_latency_and_violations() -> None:
    profile = load_profile("v100-fp16-b64")
    limits = Limits(Budget(params=1e6, latency_ms=0.001), 128, 100, use_se=True, device=profile)
    check = limits.check(INITIAL)
    assert check.costs == count(INITIAL, 128, 100, use_se=True) != count(INITIAL, 128, 100)
    assert check.latency_ms == predict_latency_ms(INITIAL, profile, 128, 100, use_se=True)
    assert check.violations == limits.budget.violations(check.costs, check.latency_ms)
    assert check.violations["params"] < 0 < check.violations["latency_ms"]
    assert not check.is_feasible


def test_without_a_device_there_is_no_latency() -> None:
    assert Limits(Budget(params=1e6), 32).check(INITIAL).latency_ms is None
    with pytest.raises(BudgetError, match="no latency of the architecture is known"):
        Limits(Budget(latency_ms=1), 32).check(INITIAL)


def test_what_fits_is_left_alone() -> None:
    assert Limits(Budget(params=1e6), 32, 100).closest_fit(SPACE, INITIAL) is INITIAL


@pytest.mark.parametrize(
    "budget",
    [
        Budget(params=40_000),
        Budget(macs=60e6),
        Budget(layers=6, params=60_000, counting="zennas"),
        Budget(latency_ms=0.03),
    ],
)
def test_what_does_not_fit_is_shrunk_until_it_does(budget: Budget) -> None:
    limits = Limits(budget, 128, 100, device=load_profile("v100-fp16-b64"))
    found = limits.closest_fit(SPACE, INITIAL)
    assert found != INITIAL
    assert SPACE.contains(found)
    assert limits.check(found).is_feasible
    # It is the first on the way down that fits.
    before = INITIAL
    while SPACE.shrink(before) != found:
        before = SPACE.shrink(before)
        assert before is not None
    assert not limits.check(before).is_feasible


def test_layers_are_met_by_depth_and_spare_blocks_before_widths_go() -> None:
    text = "SuperConvK3BNRELU(3,8,1,1)" + "".join(
        f"SuperResK3K3({8 if stage == block == 0 else 64},64,{1 if stage == 0 or block else 2},32,2)"
        for stage in range(4)
        for block in range(2)
    )
    deep = Architecture.parse(f"{text}SuperConvK1BNRELU(64,128,1,1)")
    found = Limits(Budget(layers=7), 32, 100).closest_fit(SPACE, deep)
    assert found.depth == 7
    assert [block.out_channels for block in found.blocks] == [8, 64, 64, 64, 64, 64, 128]


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (
            Budget(params=100, macs=1e12),
            r"No architecture fits budget\.params = 100: .* misses it by [\d,.]+%\.$",
        ),
        (Budget(params=1e6, macs=1000), r"budget\.macs = 1000: "),
        (Budget(params=1e6, layers=3), r"budget\.layers = 3: .* misses it by 100\.0%\.$"),
        # Cutting widths makes this one worse; the narrowest convolution of the initial structure has 8 channels.
        (Budget(min_width=16), r"budget\.min_width = 16: .* misses it by 50\.0%\.$"),
    ],
)
def test_where_nothing_fits_the_error_names_the_budget(budget: Budget, message: str) -> None:
    with pytest.raises(BudgetError, match=message) as caught:
        Limits(budget, 32, 100).closest_fit(SPACE, INITIAL)
    assert "\n" not in str(caught.value)


def test_a_fixed_head_stays() -> None:
    space = MobileSpace()
    smallest = space.parse(space.initial)
    while (smaller := space.shrink(smallest)) is not None:
        smallest = smaller
    assert smallest.out_channels == 2048
    with pytest.raises(BudgetError, match=r"budget\.params = 1e\+06"):
        Limits(Budget(params=1e6), 224).closest_fit(space, space.parse(space.initial))


def test_checks_without_torch() -> None:
    code = (
        "import sys\n"
        "from zenopt.latency.limits import Limits\n"
        "from zenopt.core.budget import Budget\n"
        "from zenopt.spaces.chain.architecture import Architecture\n"
        "Limits(Budget(params=1), 32).check(Architecture.parse('SuperConvK3BNRELU(3,8,1,1)'))\n"
        "sys.exit(bool({'torch', 'optuna'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
