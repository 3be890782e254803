"""Compound scaling of chains: widths, depths, and the largest scaling within a cost."""

from __future__ import annotations

import math

import pytest

from zenopt import Architecture, count
from zenopt.core.errors import StructureError
from zenopt.spaces.chain.scaling import ALPHA, BETA, GAMMA, Factors, compound_to, scale, scaled_resolution

TEXT = (
    "SuperConvK3BNRELU(3,16,1,1)SuperResK3K3(16,40,2,24,3)SuperResIDWE4K5(40,48,1,160,1)"
    "SuperConvK1BNRELU(48,128,1,1)"
)


def test_widths_are_multiples_of_8_and_depths_are_rounded_up() -> None:
    found = scale(Architecture.parse(TEXT), Factors(width=1.3, depth=1.2))
    # 16 -> 20.8 -> 24, 40 -> 52 -> 48 (halves to even), 24 -> 31.2 -> 32, 48 -> 62.4 -> 64, 160 -> 208.
    assert str(found) == (
        "SuperConvK3BNRELU(3,24,1,1)SuperResK3K3(24,48,2,32,4)SuperResIDWE4K5(48,64,1,208,2)"
        "SuperConvK1BNRELU(64,168,1,1)"
    )


def test_nothing_changes_by_one() -> None:
    # A width that is no multiple of 8 is not rounded unless it is scaled.
    odd = Architecture.parse("SuperConvK3BNRELU(3,13,1,1)SuperResK3K3(13,21,2,9,3)")
    assert scale(odd, Factors()) == odd
    assert scale(odd, Factors(depth=2.0)).depth == 1 + 6


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_factors_are_positive_numbers(factor: float) -> None:
    with pytest.raises(StructureError, match="factor of width must be a positive number"):
        scale(Architecture.parse(TEXT), Factors(width=factor))


def test_too_wide_is_an_error() -> None:
    with pytest.raises(StructureError, match="out_channels must be"):
        scale(Architecture.parse(TEXT), Factors(width=1e4))


def test_compound_factors_are_those_of_the_paper() -> None:
    assert pytest.approx(2.0, rel=0.05) == ALPHA * BETA**2 * GAMMA**2
    found = Factors.compound(3.0)
    assert (found.depth, found.width, found.resolution) == pytest.approx((1.728, 1.331, 1.520875))


@pytest.mark.parametrize("cost", ["macs", "params"])
@pytest.mark.parametrize("multiple", [0.5, 1.0, 2.0, 8.0])
def test_the_largest_scaling_within_a_cost(cost: str, multiple: float) -> None:
    architecture = Architecture.parse(TEXT)

    def used(factors: Factors) -> float:
        return float(getattr(count(scale(architecture, factors), scaled_resolution(64, factors), 10), cost))

    target = multiple * used(Factors())
    found = compound_to(used, target)
    assert used(found) <= target
    assert used(found) > 0.6 * target
    # A hundredth more of the coefficient is too much.
    phi = math.log(found.depth, ALPHA)
    assert used(Factors.compound(phi + 0.01)) > target or phi > 11.9


def test_a_cost_that_nothing_meets() -> None:
    with pytest.raises(StructureError, match="No scaling of this network uses at most 5"):
        compound_to(lambda factors: 6.0, 5.0)
