"""ZenNAS checkpoints: keys, weights, logits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from goldens import load_fixture
from structures import TINY
from torch import nn

from zenopt.core.errors import BundleError
from zenopt.nn import Network, build_network
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.chain.checkpoint import load_zennas_state_dict, zennas_keys

CHECKPOINTS = ["zennas_checkpoint_cifar10", "zennas_checkpoint_imagenet_se"]
SMALL = Architecture.parse(TINY)


def build(golden: dict[str, Any]) -> Network:
    network = build_network(
        Architecture.parse(golden["structure"]), num_classes=golden["num_classes"], use_se=golden["use_se"]
    )
    assert isinstance(network, Network)
    return network.eval()


def filled(keys: list[list[str]]) -> dict[str, torch.Tensor]:
    """A checkpoint with weights that anybody can draw again: numpy's RandomState, seeded by position."""
    state = {}
    for position, (key, text) in enumerate(keys):
        shape = [int(side) for side in text.split("x")] if text else []
        if key.endswith("num_batches_tracked"):
            state[key] = torch.zeros((), dtype=torch.int64)
            continue
        g = (
            np.random.RandomState(position)
            .standard_normal(math.prod(shape))
            .astype(np.float32)
            .reshape(shape)
        )
        is_norm = len(shape) == 1 and f"{key.rpartition('.')[0]}.running_mean" in dict(keys)
        if len(shape) > 1:
            value = g * np.float32(math.sqrt(2 / math.prod(shape[1:])))
        elif is_norm and key.endswith("weight"):
            value = 1 + np.float32(0.1) * g
        elif key.endswith("running_var"):
            value = 1 + np.float32(0.1) * np.abs(g)
        else:
            value = np.float32(0.1) * g
        state[key] = torch.from_numpy(value)
    return state


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_keys_and_shapes_in_the_order_of_the_release(name: str) -> None:
    golden = load_fixture(name)
    network = build(golden)
    own = network.state_dict()
    mapping = zennas_keys(network)
    found = [[key, "x".join(map(str, own[ours].shape))] for key, ours in mapping.items()]
    assert found == golden["keys"]
    assert set(mapping.values()) == set(own)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_logits_of_the_release_come_out(name: str) -> None:
    golden = load_fixture(name)
    network = build(golden)
    report = load_zennas_state_dict(network, filled(golden["keys"]))
    assert report.complete
    size = golden["resolution"]
    shape = (2, 3, size, size)
    x = torch.from_numpy(np.random.RandomState(12345).standard_normal(shape).astype(np.float32))
    with torch.inference_mode():
        features = network.forward_features(x)
        logits = network(x)
    assert list(features.shape[1:]) == golden["feature_shape"][1:]
    assert features.double().abs().mean().item() == pytest.approx(golden["feature_abs_mean"], rel=1e-4)
    expected = torch.tensor(golden["logits"])
    assert (logits - expected).abs().max() < 1e-4 * expected.abs().max()


def small_state() -> dict[str, torch.Tensor]:
    network = build_network(SMALL, num_classes=4)
    assert isinstance(network, Network)
    own = network.state_dict()
    return {
        key: torch.randn_like(own[ours]) if own[ours].dim() else own[ours]
        for key, ours in zennas_keys(network).items()
    }


@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_tensor_is_copied(prefix: str) -> None:
    state = small_state()
    network = build_network(SMALL, num_classes=4)
    report = load_zennas_state_dict(network, {f"{prefix}{key}": value for key, value in state.items()})
    assert report.complete
    assert (report.missing, report.unexpected) == ((), ())
    own = network.state_dict()
    assert isinstance(network, Network)
    for key, ours in zennas_keys(network).items():
        assert torch.equal(own[ours], state[key])
        assert own[ours].data_ptr() != state[key].data_ptr()


def test_missing_and_unexpected_keys_are_reported() -> None:
    state = small_state()
    state["module_list.9.weight"] = state.pop("fc_linear.netblock.bias")
    network = build_network(SMALL, num_classes=4)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(
        BundleError,
        match=r"missing keys: 1 \(fc_linear\.netblock\.bias\), unexpected keys: 1 \(module_list\.9\.weight\)\.$",
    ):
        load_zennas_state_dict(network, state)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    report = load_zennas_state_dict(network, state, strict=False)
    assert report.missing == ("fc_linear.netblock.bias",)
    assert report.unexpected == ("module_list.9.weight",)
    assert not report.complete
    assert torch.equal(network.state_dict()["classifier.weight"], state["fc_linear.netblock.weight"])
    assert torch.equal(network.state_dict()["classifier.bias"], before["classifier.bias"])


@pytest.mark.parametrize("strict", [False, True])
def test_a_wrong_shape_is_an_error_and_nothing_is_loaded(strict: bool) -> None:
    state = small_state()
    network = build_network(SMALL, num_classes=5)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(
        BundleError,
        match=r"'fc_linear\.netblock\.weight' has shape \(4, 32\), the network needs \(5, 32\)\.$",
    ):
        load_zennas_state_dict(network, state, strict=strict)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_whole_checkpoint_instead_of_its_state_dict() -> None:
    with pytest.raises(
        BundleError, match=r"missing keys: 33 \(module_list\.0.*unexpected keys: 2 \(state_dict, epoch\)"
    ):
        load_zennas_state_dict(build_network(SMALL, num_classes=4), {"state_dict": small_state(), "epoch": 3})  # type: ignore[dict-item]


def test_what_the_release_could_not_have_made() -> None:
    with pytest.raises(BundleError, match="fit chains of super-blocks, not Linear"):
        load_zennas_state_dict(nn.Linear(1, 1), {})
    with pytest.raises(BundleError, match="with residual links"):
        load_zennas_state_dict(build_network(SMALL, num_classes=4, residual=False), small_state())
