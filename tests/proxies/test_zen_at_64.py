"""The batch-64 score from small batches: what is added, and where it refuses."""

from __future__ import annotations

import pytest
from structures import TINY_DEEP

from zenopt.core.costs import count
from zenopt.core.errors import ProxyError
from zenopt.proxies import score_architecture
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.closed_form.batch64 import DEPTH_FACTOR, depth_term

SHALLOW = Architecture.parse(TINY_DEEP)
DEEP = Architecture.parse(
    "SuperConvK3BNRELU(3,8,2,1)SuperResK1K3K1(8,16,2,8,5)SuperResK1K5K1(16,24,2,8,5)SuperConvK1BNRELU(24,32,1,1)"
)
MOBILE = Architecture.parse("SuperConvK3BNRELU(3,8,2,1)SuperResIDWE2K5(8,24,2,16,1)")


def score(architecture: Architecture, proxy: str, batch_size: int, **options: object) -> float:
    settings = {"resolution": 32, "seed": 4, **options}
    return score_architecture(architecture, proxy, batch_size=batch_size, **settings).mean  # type: ignore[arg-type]


def test_correction_is_added_to_the_measured_score() -> None:
    convs = count(DEEP, 32).convs
    assert convs == 62
    added = score(DEEP, "zen-at-64", 8) - score(DEEP, "zen", 8)
    assert added == pytest.approx(DEPTH_FACTOR * (8**-0.5 - 64**-0.5) * (convs - 30) ** 3)
    assert added > 0.02
    assert depth_term(convs, 4) > depth_term(convs, 8) > depth_term(convs, 32) > depth_term(convs, 64) == 0.0


def test_shallow_networks_and_full_batches_are_left_alone() -> None:
    assert score(SHALLOW, "zen-at-64", 8) == score(SHALLOW, "zen", 8)
    assert score(DEEP, "zen-at-64", 64) == score(DEEP, "zen", 64)


@pytest.mark.parametrize(
    ("architecture", "options", "complaint"),
    [
        (MOBILE, {}, "chains of super-blocks"),
        (SHALLOW, {"resolution": 64}, "not for this one at resolution 64"),
        (SHALLOW, {"residual": True}, "without residual links"),
        (SHALLOW, {"batch_size": 2}, "batches from 4 to 64, not .* batch 2"),
    ],
)
def test_outside_its_domain_it_refuses(
    architecture: Architecture, options: dict[str, object], complaint: str
) -> None:
    batch = options.pop("batch_size", 8)
    with pytest.raises(ProxyError, match=complaint):
        score(architecture, "zen-at-64", batch, **options)  # type: ignore[arg-type]
