"""What each layer adds to a score: arrays like those of zero-cost-nas, whose sum is the score."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from zero_cost_nets import GOLDENS, batch, build

from zenopt.proxies import evaluate, get_proxy, register_proxy
from zenopt.proxies.probe import LayerArrays, Probe, over_layers
from zenopt.proxies.registry import PROXIES

SUMS = ("grad_norm", "snip", "plain", "grasp", "fisher", "synflow", "synflow_bn")


class Net(nn.Module):
    """A convolution, a normalisation, a classifier, and a layer that no gradient reaches."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.unused = nn.Linear(5, 2)
        self.head = nn.Linear(4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.stem(images).mean(dim=(2, 3)))


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 3, 8, 8, generator=generator), torch.arange(6) % 3


def test_arrays_have_the_shape_of_the_weights_and_sum_to_the_score(data: tuple) -> None:
    network = Net()
    plain = evaluate(network, *data, SUMS)
    found = evaluate(network, *data, SUMS, per_layer=True)
    for name in SUMS:
        assert plain[name].layers is None
        layers = found[name].layers
        assert layers is not None and list(layers) == ["stem.0", "unused", "head"]
        assert layers["unused"].shape == (2, 5) and not layers["unused"].any()
        if name == "grad_norm":
            assert layers["stem.0"].shape == layers["head"].shape == ()
        else:
            assert layers["stem.0"].shape == (4, 3, 3, 3) and layers["head"].shape == (3, 4)
        assert found[name].value == pytest.approx(sum(array.sum().item() for array in layers.values()))
        assert found[name].value == plain[name].value
    assert (found["snip"].layers["head"] >= 0).all() and (found["plain"].layers["head"] < 0).any()


def test_saliencies_are_what_autograd_says(data: tuple) -> None:
    network = Net()
    found = evaluate(network, *data, ["snip", "plain", "fisher"], per_layer=True)
    weights = [network.stem[0].weight, network.head.weight]
    maps = network.stem[0](data[0])
    outputs = network.head(network.stem[2](network.stem[1](maps)).mean(dim=(2, 3)))
    loss = nn.functional.cross_entropy(outputs, data[1])
    *gradients, by_map = torch.autograd.grad(loss, [*weights, maps])
    for name, weight, gradient in zip(("stem.0", "head"), weights, gradients, strict=True):
        torch.testing.assert_close(found["plain"].layers[name], weight.detach() * gradient)
        torch.testing.assert_close(found["snip"].layers[name], (weight.detach() * gradient).abs())
    # One number a channel, given to all of its weights, as zero-cost-nas reshapes it.
    channel = 0.5 * (maps.detach() * by_map).sum(dim=(2, 3)).square().mean(dim=0)
    torch.testing.assert_close(
        found["fisher"].layers["stem.0"], channel.reshape(4, 1, 1, 1).expand(4, 3, 3, 3).clone()
    )


@pytest.mark.parametrize("name", ["tiny_vgg", "tiny_mobile", "all_none"])
def test_sums_equal_the_release(name: str) -> None:
    golden = next(found for group in GOLDENS.values() for found in group if found["name"] == name)
    results = evaluate(build(name), *batch(), SUMS, per_layer=True)
    for proxy in SUMS:
        layers = results[proxy].layers
        assert layers is not None
        total = sum(array.double().sum().item() for array in layers.values())
        assert total == pytest.approx(golden["measures"][proxy], rel=1e-3 if proxy == "grasp" else 1e-4)


def test_scores_that_are_no_sums_have_no_layers(data: tuple) -> None:
    found = evaluate(Net(), *data, ["naswot", "synflow-log", "params"], per_layer=True)
    assert all(result.layers is None and result.value is not None for result in found.values())


def test_a_proxy_of_ones_own(data: tuple) -> None:
    try:

        @register_proxy("size-of-step", cost_class="backward", needs=("data", "labels", "gradients"))
        @over_layers
        def size_of_step(probe: Probe) -> LayerArrays:
            """Sum of absolute gradients."""
            return ((weight, gradient.abs()) for weight, gradient in probe.weight_gradients())

        assert get_proxy("size-of-step").description == "Sum of absolute gradients"
        result = evaluate(Net(), *data, ["size-of-step"], per_layer=True)["size-of-step"]
        assert result.layers is not None and result.layers["head"].shape == (3, 4)
    finally:
        PROXIES.forget("size-of-step")
