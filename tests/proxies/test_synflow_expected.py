"""The computed synflow of cells against the measured one."""

from __future__ import annotations

import random

import pytest
from structures import NO_BLOCKS

from zenopt.core.errors import ProxyError
from zenopt.correlate import spearman
from zenopt.proxies import score_architecture
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.nasbench201.architecture import CellArchitecture
from zenopt.spaces.nasbench201.space import NasBench201Space


def both(cell: CellArchitecture, resolution: int = 16) -> tuple[float, float]:
    names = ("synflow-expected", "synflow-log")
    computed, measured = (
        score_architecture(cell, name, resolution=resolution, num_classes=10, batch_size=2).mean
        for name in names
    )
    return computed, measured


def test_it_is_near_the_measured_one_where_no_border_cuts() -> None:
    """Without 3x3 convolutions in the cells only stem and reductions meet the border."""
    for operations in (
        ("skip_connect",) * 6,
        ("nor_conv_1x1", "none", "nor_conv_1x1", "none", "skip_connect", "nor_conv_1x1"),
    ):
        for skeleton in ((16, 5), (8, 2)):
            computed, measured = both(CellArchitecture(operations, *skeleton), resolution=32)
            assert computed == pytest.approx(measured, abs=0.5)
            assert computed > measured


def test_it_ranks_as_the_measured_one() -> None:
    rng, space = random.Random(2), NasBench201Space()
    pairs = []
    for _ in range(10):
        try:
            pairs.append(both(space.draw(rng)))
        except ProxyError as error:
            assert "no flow" in str(error) or "flow reaches" in str(error)
    computed, measured = zip(*pairs, strict=True)
    correlation = spearman(computed, measured)
    assert correlation is not None and correlation > 0.95


def test_both_fail_where_nothing_flows_and_chains_are_refused() -> None:
    dead = CellArchitecture(("nor_conv_3x3", "none", "none", "none", "none", "none"))
    for name in ("synflow-expected", "synflow-log"):
        with pytest.raises(ProxyError):
            score_architecture(dead, name, resolution=8, num_classes=10, batch_size=2)
    chain = Architecture.parse(NO_BLOCKS)
    with pytest.raises(ProxyError, match="takes NAS-Bench-201 cells"):
        score_architecture(chain, "synflow-expected", resolution=8)
