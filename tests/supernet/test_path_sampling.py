"""A path of a supernet is the stand-alone network with the same weights, bit for bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from supernets import SPACES, space_of, weights_of
from torch import nn

from zenopt.core.costs import count
from zenopt.core.errors import CheckpointError
from zenopt.nn.network import Network
from zenopt.spaces.registry import get_space
from zenopt.supernet.kernels import part
from zenopt.supernet.layers import layers_of, shapes_of
from zenopt.supernet.sampling import PathSampler
from zenopt.supernet.shared import SharedWeights, misfit, skeleton
from zenopt.train.layout import StridedPointwise

QUICK = ("nasbench-macro", "superres")
FAMILIES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SPACES]
SEEDS = st.integers(0, 2**31)


def _check_path(name: str, use_se: bool, seed: int) -> None:
    weights, resolution = weights_of(name, use_se), SPACES[name][2]
    architecture = PathSampler(space_of(name), seed=seed).draw(0, "test")
    network = weights.network(architecture)
    costs = count(architecture, resolution, weights.num_classes, use_se=use_se)
    assert sum(value.numel() for value in network.parameters()) == costs.params
    images = torch.randn(4, 3, resolution, resolution, generator=torch.Generator().manual_seed(seed))
    torch.manual_seed(0)  # MnasNet drops features
    path = weights(architecture, images)
    torch.manual_seed(0)
    assert torch.equal(path, network.train()(images))


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=6)
@given(seed=SEEDS)
def test_a_path_computes_what_its_network_does(name: str, seed: int) -> None:
    _check_path(name, False, seed)


@settings(max_examples=4)
@given(seed=SEEDS)
def test_gates_are_shared_too(seed: int) -> None:
    _check_path("superres", True, seed)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_supernet_holds_every_network_of_its_space(name: str) -> None:
    weights, sampler = weights_of(name), PathSampler(space_of(name), seed=1)
    for step in range(40):
        assert weights.misfit(sampler.draw(step, "held")) is None


@pytest.mark.parametrize("name", FAMILIES)
def test_names_of_layers_are_those_of_the_shapes(name: str) -> None:
    """Shapes come from units, parts from the whole network: both must tell the same names."""
    architecture = space_of(name).parse(space_of(name).initial)
    network = Network(architecture, 5)
    found = {
        f"{layer}.{tensor}": tuple(value.shape)
        for layer, module in layers_of(network).items()
        for tensor, value in module.named_parameters()
    }
    assert found == shapes_of(architecture, 5, False)
    assert sum(torch.Size(shape).numel() for shape in found.values()) == sum(
        value.numel() for value in network.parameters()
    )


def test_parts_are_first_channels_and_centres_of_kernels() -> None:
    tensor = torch.arange(4 * 3 * 5 * 5.0).view(4, 3, 5, 5)
    assert torch.equal(part(tensor, (2, 1, 3, 3)), tensor[:2, :1, 1:4, 1:4])
    assert part(tensor, (4, 3, 5, 5)) is tensor


def test_alternatives_share_nothing_and_widths_do() -> None:
    macro, chain = space_of("nasbench-macro"), space_of("superres")
    one, other = (set(shapes_of(macro.parse(text), 5, False)) for text in ("11111111", "22222222"))
    assert {name.partition("/")[0] for name in one & other} == {
        "stem",
        "head",
        "classifier.weight",
        "classifier.bias",
    }
    texts = (
        "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,1)SuperResK3K3(16,16,2,8,1)SuperConvK1BNRELU(16,32,1,1)",
        "SuperConvK3BNRELU(3,8,1,1)SuperResK5K5(8,24,1,8,2)SuperResK3K3(24,16,2,8,1)SuperConvK1BNRELU(16,32,1,1)",
    )
    small, large = (shapes_of(chain.parse(text), 5, False) for text in texts)
    assert misfit(small, large) is None and misfit(large, small) is not None


def test_an_identity_left_out_moves_no_other_layer() -> None:
    space = space_of("nasbench-macro")
    assert space.parse("20111211").places[1:5] == (
        "layer1.mb6_k5",
        "layer3.mb3_k3",
        "layer4.mb3_k3",
        "layer5.mb3_k3",
    )


def test_gradients_reach_the_path_alone() -> None:
    weights = weights_of("nasbench-macro")
    for tensor in weights.tensors.values():
        tensor.grad = None
    weights(space_of("nasbench-macro").parse("10111111"), torch.randn(2, 3, 8, 8)).sum().backward()
    reached = {name.partition("/")[0] for name, tensor in weights.tensors.items() if tensor.grad is not None}
    assert "layer1_mb3_k3" in reached and not any("mb6_k5" in name or "layer2" in name for name in reached)


def test_what_is_not_held_is_named() -> None:
    wide = get_space("superres")(max_width=64, initial="")
    text = "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,64,1,8,1)SuperResK3K3(64,16,2,8,1)SuperConvK1BNRELU(16,32,1,1)"
    weights: SharedWeights = weights_of("superres")
    with pytest.raises(CheckpointError, match=r"does not hold SuperConv.*stage1_block1.*is not part of"):
        weights(wide.parse(text), torch.randn(2, 3, 8, 8))
    cell = space_of("nasbench201").parse(space_of("nasbench201").initial)
    with pytest.raises(CheckpointError, match="it has no blocks_0/0to1_relu-conv3-norm/conv0"):
        weights_of("nasbench-macro").check([cell])


def test_the_faster_layout_is_safe_and_computes_the_same() -> None:
    """Strided 1x1 convolutions of few channels crash oneDNN in it (see zenopt.train.layout)."""
    text = "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,8,1,8,1)SuperResK3K3(8,16,2,8,1)SuperConvK1BNRELU(16,32,1,1)"
    weights, architecture = weights_of("superres"), space_of("superres").parse(text)
    images = torch.randn(4, 3, 8, 8)
    last = images.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(weights(architecture, images), weights(architecture, last), atol=1e-5)
    path = skeleton(architecture, 5, False, "cpu")
    convs = [module for module in path.modules() if isinstance(module, nn.Conv2d)]
    strided = [module for module in convs if module.stride == (2, 2) and module.kernel_size == (1, 1)]
    assert strided and all(isinstance(module, StridedPointwise) for module in strided)
