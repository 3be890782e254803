"""Counts: ours against torch, and the released code's own against its recorded values."""

from __future__ import annotations

from math import exp, log
from typing import Any

import pytest
import torch
from goldens import load_fixture, record_id, structures
from torch.utils.flop_counter import FlopCounterMode

from zenopt.core.costs import count
from zenopt.core.lowering import lower
from zenopt.nn import build_network
from zenopt.spaces.chain.architecture import Architecture


@pytest.mark.parametrize("record", structures(), ids=record_id)
def test_counts_equal_the_recorded_ones(record: dict[str, Any]) -> None:
    architecture = Architecture.parse(record["structure"])
    costs = count(architecture, record["resolution"], record["num_classes"], use_se=record["use_se"])
    assert costs.params == record["true_params"]
    assert costs.macs == record["true_macs"]
    assert costs.layers == record["num_layers"]
    assert costs.zennas_params == record["params"]
    assert costs.zennas_flops == record["flops"]
    unlinked = count(
        architecture, record["resolution"], record["num_classes"], use_se=record["use_se"], residual=False
    )
    assert unlinked.zennas_params == record["params_no_reslink"]
    assert unlinked.zennas_flops == record["flops_no_reslink"]


@pytest.mark.parametrize(
    "case", load_fixture("zennas_split_cases"), ids=lambda case: case["structure"][26:60]
)
def test_counts_of_odd_sizes_and_deep_blocks(case: dict[str, Any]) -> None:
    before, after = Architecture.parse(case["structure"]), Architecture.parse(case["split6"])
    assert before.depth == case["num_layers"]
    # 31 and 33 pixels: the released counts round sizes down after a stride, convolutions round up.
    classes = 10
    for architecture, resolution, params, flops in (
        (before, 32, "params", "flops32"),
        (after, 32, "params_after", "flops32_after"),
        (before, 33, "params", "flops33"),
        (before, 31, "params", "flops31"),
    ):
        costs = count(architecture, resolution, classes)
        assert costs.zennas_params == case[params]
        assert costs.zennas_flops == case[flops]


@pytest.mark.parametrize("resolution", [1, 7, 16, 31])
@pytest.mark.parametrize("use_se", [False, True])
@pytest.mark.parametrize("residual", [False, True])
def test_counts_equal_torch(resolution: int, use_se: bool, residual: bool) -> None:
    architecture = Architecture.parse(
        "SuperConvK3BNRELU(3,8,2,2)SuperResK5K5(8,16,2,8,2)SuperResK1K3K1(16,24,3,8,2)"
        "SuperResIDWE6K7(24,16,2,8,2)SuperConvK1BNRELU(16,32,1,1)"
    )
    costs = count(architecture, resolution, 7, use_se=use_se, residual=residual)
    network = build_network(architecture, num_classes=7, use_se=use_se, residual=residual).eval()
    assert costs.params == sum(parameter.numel() for parameter in network.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, resolution, resolution))
    assert costs.macs == counter.get_total_flops() / 2


@pytest.mark.parametrize(
    "record",
    [r for r in structures() if "__se" in r["id"] and r["id"].startswith("zennet_imagenet")],
    ids=record_id,
)
def test_published_networks_have_the_counted_parameters(record: dict[str, Any]) -> None:
    architecture = Architecture.parse(record["structure"])
    with torch.device("meta"):
        network = build_network(architecture, num_classes=1000, use_se=True)
    counted = count(architecture, record["resolution"], use_se=True).params
    assert counted == sum(parameter.numel() for parameter in network.parameters()) == record["true_params"]


def test_every_cost_of_a_small_network_by_hand() -> None:
    # 8 px. Stem: 3 x 3, 3 -> 8, 8 px out. Residual: 3 x 3, 8 -> 4 at stride 2 (4 px), 3 x 3, 4 -> 16, shortcut 8 -> 16.
    architecture = Architecture.parse("SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,2,4,1)")
    costs = count(architecture, 8, 5)
    convolutions = [3 * 8 * 9, 8 * 4 * 9, 4 * 16 * 9]
    norms, shortcut, classifier = 8 + 4 + 16, 8 * 16, 16 * 5
    assert costs.params == sum(convolutions) + 2 * norms + (shortcut + 16 + 2 * 16) + classifier + 5
    assert costs.zennas_params == sum(convolutions) + norms + (shortcut + 16) + classifier + 1
    macs = convolutions[0] * 64 + (convolutions[1] + convolutions[2]) * 16
    assert costs.macs == macs + shortcut * 16 + classifier
    # The released count divides the shortcut's size by the stride twice: 2 x 2 pixels instead of 4 x 4.
    assert costs.zennas_flops == macs + 8 * 64 + (4 + 16) * 16 + (shortcut + 16) * 4 + classifier
    assert costs.layers == 2
    assert costs.convs == 3
    assert costs.min_width == 4
    assert costs.activation_bytes == 4 * (8 * 64 + 4 * 16 + 16 * 16 + 16 * 16 + 5)
    fan_ins = [3 * 9, 8 * 9, 4 * 9]
    assert costs.depth_to_width == pytest.approx(3 / exp(sum(map(log, fan_ins)) / 3))


def test_activations_are_the_outputs_of_convolutions_and_linear_layers() -> None:
    record = structures()[0]
    architecture = Architecture.parse(record["structure"])
    layers = lower(architecture, 32, num_classes=10, use_se=True)
    outputs = sum(layer.out_elements for layer in layers if layer.kind in ("conv", "linear"))
    assert count(architecture, 32, 10, use_se=True).activation_bytes == 4 * outputs


def test_counting_chooses_whose_counts() -> None:
    costs = count(Architecture.parse(structures()[0]["structure"]), 32, 10)
    assert costs.counted("true") == (costs.params, costs.macs)
    assert costs.counted("zennas") == (costs.zennas_params, costs.zennas_flops)
    assert costs.counted("true") != costs.counted("zennas")


def test_the_published_400m_network_has_more_true_macs_than_its_name_says() -> None:
    record = next(r for r in structures() if r["id"] == "zennet_imagenet1k_flops400M_res224")
    assert count(Architecture.parse(record["structure"]), 224).macs == 400_213_376
