"""Layers and their shapes, against lists worked out by hand and against torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from goldens import record_id, structures
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from zenopt.core.errors import StructureError
from zenopt.core.lowering import Layer, lower, lower_unit, unit_out_size
from zenopt.nn import build_network
from zenopt.spaces.chain.architecture import Architecture, Block, make_block

SMALL = Architecture.parse("SuperConvK3BNRELU(3,8,2,1)SuperResK3K3(8,16,2,4,1)SuperConvK1BNRELU(16,32,1,1)")


def test_layers_by_hand() -> None:
    # 7 px: a stride-2 convolution with padding gives ceil(7 / 2) = 4, then 2.
    assert lower(SMALL, 7, num_classes=5) == (
        Layer("conv", "body", 0, 3, 8, 7, 4, 3, 2),
        Layer("norm", "body", 0, 8, 8, 4, 4),
        Layer("relu", "body", 0, 8, 8, 4, 4),
        Layer("conv", "body", 1, 8, 4, 4, 2, 3, 2),
        Layer("norm", "body", 1, 4, 4, 2, 2),
        Layer("relu", "body", 1, 4, 4, 2, 2),
        Layer("conv", "body", 1, 4, 16, 2, 2, 3, 1),
        Layer("norm", "body", 1, 16, 16, 2, 2),
        Layer("conv", "projection", 1, 8, 16, 4, 2, 1, 2, bias=True),
        Layer("norm", "projection", 1, 16, 16, 2, 2),
        Layer("add", "body", 1, 16, 16, 2, 2),
        Layer("relu", "body", 1, 16, 16, 2, 2),
        Layer("conv", "body", 2, 16, 32, 2, 2, 1, 1),
        Layer("norm", "body", 2, 32, 32, 2, 2),
        Layer("relu", "body", 2, 32, 32, 2, 2),
        Layer("pool", "head", 3, 32, 32, 2, 1),
        Layer("linear", "head", 3, 32, 5, 1, 1, bias=True),
    )


def test_squeeze_excite_stands_before_the_last_convolution() -> None:
    plain, gated = lower(SMALL, 8), lower(SMALL, 8, use_se=True)
    gate = (
        Layer("pool", "se", 1, 4, 4, 2, 1),
        Layer("conv", "se", 1, 4, 1, 1, 1),
        Layer("norm", "se", 1, 1, 1, 1, 1),
        Layer("relu", "se", 1, 1, 1, 1, 1),
        Layer("conv", "se", 1, 1, 4, 1, 1),
        Layer("norm", "se", 1, 4, 4, 1, 1),
        Layer("sigmoid", "se", 1, 4, 4, 1, 1),
        Layer("multiply", "se", 1, 4, 4, 2, 2),
    )
    assert gated == plain[:6] + gate + plain[6:]


def test_without_residual_links_only_the_bodies_remain() -> None:
    plain, linked = lower(SMALL, 8, residual=False), lower(SMALL, 8)
    assert plain == tuple(layer for layer in linked if layer.role != "projection" and layer.kind != "add")


def test_params_and_macs_of_layers_by_hand() -> None:
    depthwise = Layer("conv", "body", 0, 32, 32, 14, 7, 5, 2, 32)
    assert (depthwise.params, depthwise.macs) == (32 * 25, 32 * 25 * 49)
    biased = Layer("conv", "projection", 0, 8, 16, 4, 2, 1, 2, bias=True)
    assert (biased.params, biased.macs) == (8 * 16 + 16, 8 * 16 * 4)
    norm = Layer("norm", "body", 0, 16, 16, 4, 4)
    assert (norm.params, norm.macs, norm.out_elements) == (32, 0, 256)
    linear = Layer("linear", "head", 0, 32, 5, 1, 1, bias=True)
    assert (linear.params, linear.macs) == (32 * 5 + 5, 32 * 5)


@pytest.mark.parametrize("record", structures(), ids=record_id)
def test_last_map_has_the_published_shape(record: dict[str, Any]) -> None:
    pool = lower(Architecture.parse(record["structure"]), record["resolution"], use_se=record["use_se"])[-2]
    assert [1, pool.in_channels, pool.in_size, pool.in_size] == record["feature_shape"]


@st.composite
def small_blocks(draw: st.DrawFn) -> Block:
    name = draw(st.sampled_from(["SuperConvK5BNRELU", "SuperResK3K3", "SuperResK1K5K1", "SuperResIDWE2K7"]))
    values = {
        "in_channels": draw(st.sampled_from([3, 8])),
        "out_channels": draw(st.sampled_from([5, 8])),
        "stride": draw(st.integers(1, 4)),
        "depth": draw(st.integers(1, 2)),
    }
    if "Res" in name:
        values["bottleneck"] = draw(st.sampled_from([4, 8]))
    return make_block(name, **values)


@settings(max_examples=25)
@given(st.lists(small_blocks(), min_size=1, max_size=3), st.integers(1, 17), st.booleans(), st.booleans())
def test_shapes_are_those_of_torch(
    blocks: list[Block], resolution: int, use_se: bool, residual: bool
) -> None:
    architecture = Architecture.chain(blocks)
    layers = lower(architecture, resolution, num_classes=3, use_se=use_se, residual=residual)
    with torch.device("meta"):
        network = build_network(architecture, num_classes=3, use_se=use_se, residual=residual).eval()
        image = torch.empty(1, 3, resolution, resolution)
    kinds = {nn.Conv2d: "conv", nn.BatchNorm2d: "norm", nn.Linear: "linear"}
    seen: list[tuple] = []

    def record(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        sizes = (inputs[0].shape[-1], output.shape[-1]) if output.dim() == 4 else (1, 1)
        params = sum(parameter.numel() for parameter in module.parameters())
        seen.append((kinds[type(module)], inputs[0].shape[1], output.shape[1], *sizes, params))

    for module in network.modules():
        if type(module) in kinds:
            module.register_forward_hook(record)
    network(image)
    ours = [
        (layer.kind, layer.in_channels, layer.out_channels, layer.in_size, layer.out_size, layer.params)
        for layer in layers
        if layer.kind in kinds.values()
    ]
    # Shortcuts run before the body in torch, after it in the list.
    assert sorted(ours) == sorted(seen)


def test_floor_sizes_are_those_of_the_released_counts() -> None:
    block = SMALL.blocks[0]
    assert [unit_out_size(block, size) for size in (8, 7, 1)] == [4, 4, 1]
    assert [unit_out_size(block, size, floor_sizes=True) for size in (8, 7, 1)] == [4, 3, 0]
    assert lower_unit(block, 8, floor_sizes=True) == lower_unit(block, 8)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "32"])
def test_numbers_must_be_positive_integers(value: Any) -> None:
    with pytest.raises(StructureError, match="resolution must be a positive integer, got"):
        lower(SMALL, value)
    with pytest.raises(StructureError, match="num_classes must be a positive integer, got"):
        lower(SMALL, 8, num_classes=value)
