"""Built networks: layers, shapes, shortcuts, features."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from zenopt.core.errors import StructureError
from zenopt.core.lowering import lower
from zenopt.nn import BN_EPS, Network, build_network
from zenopt.spaces.chain.architecture import Architecture

TEXT = (
    "SuperConvK3BNRELU(3,8,2,1)SuperResK3K3(8,16,2,8,2)SuperResK1K5K1(16,16,1,8,1)"
    "SuperResIDWE2K7(16,24,2,16,1)SuperConvK1BNRELU(24,32,1,1)"
)
ARCHITECTURE = Architecture.parse(TEXT)


def convolutions(network: nn.Module) -> list[tuple]:
    return [
        (
            m.in_channels,
            m.out_channels,
            m.kernel_size[0],
            m.stride[0],
            m.padding[0],
            m.groups,
            m.bias is not None,
        )
        for m in network.modules()
        if isinstance(m, nn.Conv2d)
    ]


@pytest.mark.parametrize("use_se", [False, True])
@pytest.mark.parametrize("residual", [False, True])
def test_the_convolutions_are_those_of_the_layers(use_se: bool, residual: bool) -> None:
    network = build_network(ARCHITECTURE, num_classes=5, use_se=use_se, residual=residual)
    layers = lower(ARCHITECTURE, 32, num_classes=5, use_se=use_se, residual=residual)
    expected = [
        (x.in_channels, x.out_channels, x.kernel, x.stride, (x.kernel - 1) // 2, x.groups, x.bias)
        for x in layers
        if x.kind == "conv"
    ]
    # Modules are registered in the order of the layers: body before shortcut. Initialisation draws in this order.
    assert convolutions(network) == expected


def test_batch_normalisation_is_the_released_one() -> None:
    norms = [m for m in build_network(ARCHITECTURE, use_se=True).modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum, norm.affine) for norm in norms} == {(BN_EPS, 0.1, True)}
    assert BN_EPS == 1e-3
    assert len(norms) == sum(layer.kind == "norm" for layer in lower(ARCHITECTURE, 32, use_se=True))


@pytest.mark.parametrize("size", [32, 33, 7])
def test_shapes(size: int) -> None:
    network = build_network(ARCHITECTURE, num_classes=5).eval()
    assert isinstance(network, Network)
    x = torch.randn(2, 3, size, size)
    side = lower(ARCHITECTURE, size)[-2].in_size
    features = network.forward_features(x)
    assert features.shape == (2, 32, side, side)
    logits = network(x)
    assert logits.shape == (2, 5)
    assert torch.allclose(logits, network.classifier(features.mean(dim=(2, 3))))
    # Fully convolutional: rectangles pass as well.
    assert network(torch.randn(1, 3, size, size + 8)).shape == (1, 5)


def test_features_by_stage() -> None:
    network = build_network(ARCHITECTURE).eval()
    assert isinstance(network, Network)
    x = torch.randn(1, 3, 64, 64)
    stages = network.forward_stages(x)
    assert {ratio: tuple(x.shape[1:]) for ratio, x in stages.items()} == {
        2: (8, 32, 32),
        4: (16, 16, 16),
        8: (32, 8, 8),
    }
    assert torch.equal(stages[8], network.forward_features(x))


def test_a_shortcut_is_added_before_the_relu() -> None:
    architecture = Architecture.parse("SuperResK3K3(3,4,1,4,2)")
    network = build_network(architecture).eval()
    first, relu, second, _ = network.blocks[0]
    x = torch.randn(2, 3, 5, 5)
    expected = torch.relu(first.body(x) + first.projection(x))
    assert torch.equal(relu(first(x)), expected)
    # The second unit keeps its width and stride: the shortcut is the identity.
    assert second.projection is None
    assert torch.equal(network.forward_features(x), torch.relu(second.body(expected) + expected))
    assert first.projection[0].bias is not None


def test_without_residual_links_the_bodies_stay_in_sequence() -> None:
    linked, plain = build_network(ARCHITECTURE).eval(), build_network(ARCHITECTURE, residual=False).eval()
    kinds = {type(module).__name__ for module in plain.modules()}
    assert kinds == {"Network", "ModuleList", "Sequential", "Conv2d", "BatchNorm2d", "ReLU", "Linear"}
    bodies = [c for c in convolutions(linked) if not c[-1]]
    assert convolutions(plain) == bodies


def test_squeeze_excite_scales_channels_by_their_means() -> None:
    architecture = Architecture.parse("SuperResK3K3(3,4,1,8,1)")
    network = build_network(architecture, use_se=True).eval()
    conv1, norm1, relu, gate, _, _ = network.blocks[0][0].body
    x = relu(norm1(conv1(torch.randn(2, 3, 5, 5))))
    _, squeeze, bn1, _, excite, bn2, _ = gate.gate
    means = x.mean(dim=(2, 3), keepdim=True)
    expected = x * torch.sigmoid(bn2(excite(torch.relu(bn1(squeeze(means))))))
    assert torch.allclose(gate(x), expected, atol=1e-6)
    assert squeeze.weight.shape == (2, 8, 1, 1)
    assert squeeze.bias is None


def test_plain_convolutions_have_no_gate() -> None:
    architecture = Architecture.parse("SuperConvK3BNRELU(3,8,1,2)")
    assert convolutions(build_network(architecture, use_se=True)) == convolutions(build_network(architecture))


def test_gradients_reach_every_parameter() -> None:
    network = build_network(ARCHITECTURE, num_classes=5, use_se=True).train()
    network(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_stochastic_depth_drops_whole_bodies_in_training_only() -> None:
    torch.manual_seed(0)
    network = build_network(Architecture.parse("SuperResK3K3(3,4,1,4,1)"))
    residual = network.blocks[0][0]
    residual.drop_path = 0.5
    for module in residual.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    x = torch.randn(64, 3, 4, 4)
    change = residual(x) - residual.projection(x)
    dropped = change.abs().amax(dim=(1, 2, 3)) < 1e-6
    assert 10 < dropped.sum() < 54
    assert torch.allclose(change[~dropped], 2 * residual.body(x)[~dropped], atol=1e-5)
    residual.eval()
    assert torch.allclose(residual(x), residual.body(x) + residual.projection(x))


@pytest.mark.parametrize("value", [0, -1, 2.0, True])
def test_classes_must_be_a_positive_integer(value: Any) -> None:
    with pytest.raises(StructureError, match="num_classes must be a positive integer"):
        build_network(ARCHITECTURE, num_classes=value)


def test_what_has_no_description_is_no_network() -> None:
    with pytest.raises(StructureError, match="str has no description"):
        build_network("SuperConvK3BNRELU(3,8,1,1)")
