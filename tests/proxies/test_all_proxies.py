"""Every registered proxy, on every family of architectures and on a plain module."""

from __future__ import annotations

import math

import pytest
import torch
from zero_cost_nets import tiny_mobile, tiny_resnet

from zenopt.core.errors import ProxyError
from zenopt.proxies import Proxy, evaluate, list_proxies, score_architecture
from zenopt.proxies.registry import PROXIES as KNOWN
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.nasbench201.architecture import CellArchitecture

CHAIN = Architecture.parse(
    "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,2,8,1)SuperResK1K5K1(16,24,2,8,1)SuperConvK1BNRELU(24,32,1,1)"
)
MOBILE = Architecture.parse(
    "SuperConvK3BNRELU(3,16,2,1)SuperResIDWE2K5(16,24,2,16,1)SuperConvK1BNRELU(24,48,1,1)"
)
CELL = CellArchitecture.parse(
    "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
)
PROXIES = [proxy for proxy in list_proxies() if proxy.name in KNOWN.built_in]
CHAINS_ONLY = {"zen-at-64", "zen-closed-form", "zennas-params", "zennas-flops"}
CELLS_ONLY = {"synflow-expected"}


@pytest.mark.parametrize("proxy", PROXIES, ids=lambda proxy: proxy.name)
@pytest.mark.parametrize("residual", [False, True])
def test_on_chains(proxy: Proxy, residual: bool) -> None:
    if proxy.name in ("zen-closed-form", "zen-at-64") and residual:
        pytest.skip("describes networks without links")
    if proxy.name in CELLS_ONLY:
        with pytest.raises(ProxyError, match="NAS-Bench-201 cells"):
            score_architecture(CHAIN, proxy, resolution=16, num_classes=10, residual=residual)
        return
    if proxy.name == "zen-at-64":
        pytest.skip("has a domain of its own; see test_zen_at_64.py")
    for architecture in (CHAIN, MOBILE):
        score = score_architecture(
            architecture, proxy, resolution=16, num_classes=10, batch_size=8, seed=2, residual=residual
        )
        again = score_architecture(
            architecture, proxy.name, resolution=16, num_classes=10, batch_size=8, seed=2, residual=residual
        )
        assert math.isfinite(score.mean) and again.values == score.values


@pytest.mark.parametrize("proxy", PROXIES, ids=lambda proxy: proxy.name)
def test_on_cells(proxy: Proxy) -> None:
    if proxy.name in CHAINS_ONLY:
        with pytest.raises(ProxyError, match="chains of super-blocks"):
            score_architecture(CELL, proxy, resolution=16, num_classes=10, batch_size=8)
        return
    score = score_architecture(CELL, proxy, resolution=16, num_classes=10, batch_size=8)
    assert math.isfinite(score.mean)


def test_on_plain_modules() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(16, 3, 32, 32, generator=generator)
    labels = torch.randint(10, (16,), generator=generator)
    names = [proxy.name for proxy in PROXIES if proxy.kind == "network"]
    for network in (tiny_resnet(), tiny_mobile()):
        results = evaluate(network, images, labels, names)
        failed = {name: result.error for name, result in results.items() if result.error}
        assert not failed


def test_declarations() -> None:
    for proxy in PROXIES:
        assert proxy.direction == "maximize"
        assert 10 < len(proxy.description) < 120 and not proxy.description.endswith(".")
        assert proxy.function.__doc__
    assert {proxy.name for proxy in PROXIES} == KNOWN.built_in
