"""The executor computes what the module network computes, and draws from the same distribution."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import ks_2samp, ttest_ind
from structures import TINY
from torch import nn

from zenopt.core.lowering import lower
from zenopt.proxies import score_architecture
from zenopt.proxies.randomness import fresh_network, make_generator
from zenopt.proxies.zen import draw_inputs, zen_of_network
from zenopt.proxies.zen_executor import draw_weights, is_plain_chain, zen_of_chain
from zenopt.spaces.chain.architecture import Architecture

STRUCTURES = [
    TINY,
    "SuperConvK3BNRELU(3,16,2,1)SuperResK1K7K1(16,40,1,16,2)SuperResK5K5(40,24,2,16,1)SuperConvK1BNRELU(24,64,1,1)",
    "SuperConvK3BNRELU(3,8,2,1)SuperResIDWE2K5(8,24,2,16,2)SuperConvK1BNRELU(24,48,1,1)",
    "SuperConvK1BNRELU(3,8,1,2)SuperResIDWE6K3(8,16,2,8,1)",
]
CPU = torch.device("cpu")


def module_score(text: str, batch: int, seed: int, repeat: int, gamma: float = 0.01) -> float:
    """The plain procedure: modules, contiguous tensors."""
    generator = make_generator(seed, repeat, CPU)
    network = fresh_network(
        Architecture.parse(text), generator, num_classes=10, use_se=False, residual=False, scheme="gaussian"
    )
    return zen_of_network(network, (batch, 3, 16, 16), generator, gamma)


@pytest.mark.parametrize("text", STRUCTURES)
@pytest.mark.parametrize("batch", [3, 16])
def test_same_weights_same_score(text: str, batch: int) -> None:
    architecture = Architecture.parse(text)
    network = fresh_network(
        architecture,
        make_generator(1, 2, CPU),
        num_classes=10,
        use_se=False,
        residual=False,
        scheme="gaussian",
    )
    weights = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)]
    x, changed = draw_inputs((batch, 3, 16, 16), make_generator(5, 6, CPU), 0.01)
    layers = lower(architecture, 16, residual=False)
    before = x.clone()
    ours = zen_of_chain(layers, weights, x, changed)
    assert torch.equal(x, before)
    plain = zen_of_network(network, (batch, 3, 16, 16), make_generator(5, 6, CPU), 0.01)
    assert ours == pytest.approx(plain, rel=2e-5)


def test_weights_are_standard_normal_in_the_right_shapes() -> None:
    layers = lower(Architecture.parse(STRUCTURES[2]), 16, residual=False)
    weights = draw_weights(layers, make_generator(0, 0, CPU))
    convs = [layer for layer in layers if layer.kind == "conv"]
    assert [tuple(weight.shape) for weight in weights] == [
        (conv.out_channels, conv.in_channels // conv.groups, conv.kernel, conv.kernel) for conv in convs
    ]
    values = torch.cat([weight.flatten() for weight in weights])
    assert values.mean().abs() < 4 / len(values) ** 0.5
    assert (values.std() - 1).abs() < 4 / (2 * len(values)) ** 0.5


@pytest.mark.parametrize("text", STRUCTURES[:3])
def test_distribution_equals_the_plain_procedure(text: str) -> None:
    repeats = 100
    ours = score_architecture(
        Architecture.parse(text), resolution=16, num_classes=10, batch_size=8, repeats=repeats, seed=11
    )
    plain = [module_score(text, 8, 12, repeat) for repeat in range(repeats)]
    # Fixed seeds: these cannot flake. Each pair fails by chance once in a hundred sets of seeds.
    assert ks_2samp(ours.values, plain).pvalue > 0.01
    assert ttest_ind(ours.values, plain, equal_var=False).pvalue > 0.01


def test_the_distribution_test_can_fail() -> None:
    ours = score_architecture(
        Architecture.parse(STRUCTURES[0]), resolution=16, num_classes=10, batch_size=8, repeats=100, seed=11
    )
    # A perturbation ten percent larger moves the score by one and a half standard deviations.
    moved = [module_score(STRUCTURES[0], 8, 12, repeat, gamma=0.011) for repeat in range(100)]
    assert ks_2samp(ours.values, moved).pvalue < 1e-3


def test_what_is_no_plain_chain_runs_as_modules() -> None:
    architecture = Architecture.parse(STRUCTURES[0])
    assert is_plain_chain(lower(architecture, 16, residual=False))
    assert not is_plain_chain(lower(architecture, 16, residual=True))
    assert not is_plain_chain(lower(architecture, 16, residual=False, use_se=True))
    gated = score_architecture(architecture, resolution=16, batch_size=8, use_se=True)
    assert gated.mean != score_architecture(architecture, resolution=16, batch_size=8).mean
