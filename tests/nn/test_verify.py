"""Counts by other counters."""

from __future__ import annotations

import logging

import pytest
import torch

from zenopt.nn import verify
from zenopt.nn.verify import verify_counts
from zenopt.spaces.chain.architecture import Architecture

ARCHITECTURE = Architecture.parse(
    "SuperConvK3BNRELU(3,8,2,1)SuperResK1K3K1(8,16,2,8,1)SuperResIDWE2K3(16,24,2,16,1)SuperConvK1BNRELU(24,32,1,1)"
)


@pytest.mark.parametrize("use_se", [False, True])
@pytest.mark.parametrize("resolution", [32, 31])
def test_torch_counts_the_same(resolution: int, use_se: bool) -> None:
    found = verify_counts(ARCHITECTURE, resolution, 7, use_se=use_se)
    assert list(found) == ["zenopt", "torch", "thop"]
    ours, theirs = found["zenopt"], found["torch"]
    assert (ours["params"], ours["macs"]) == (theirs["params"], theirs["macs"])
    assert theirs["note"] == "equal to ours"
    assert found["thop"]["params"] == ours["params"]
    # thop adds two operations per normalised element, and a few per pooled one.
    assert ours["macs"] < found["thop"]["macs"] < 1.5 * ours["macs"]


def test_a_difference_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    built = verify.build_network

    def with_one_more(*arguments: object, **options: object) -> torch.nn.Module:
        network = built(*arguments, **options)
        network.extra = torch.nn.Parameter(torch.zeros(1))
        return network

    monkeypatch.setattr(verify, "build_network", with_one_more)
    assert verify_counts(ARCHITECTURE, 32, 7)["torch"]["note"] == "DIFFERS from ours"


def test_logging_is_left_as_it_was() -> None:
    before = logging.root.manager.disable
    verify_counts(ARCHITECTURE, 32, 7)
    assert logging.root.manager.disable == before
