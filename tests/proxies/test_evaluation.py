"""evaluate(): sharing, splitting, errors, and what it leaves alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from zero_cost_nets import tiny_resnet, tiny_vgg

from zenopt.core.errors import DeviceError, ProxyError, UnknownNameError
from zenopt.proxies import evaluate, list_proxies, register_proxy
from zenopt.proxies.evaluation import ZERO_COST, is_out_of_memory
from zenopt.proxies.probe import Probe

GRADIENT = ("grad_norm", "snip", "plain", "fisher")


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(8, 3, 16, 16, generator=generator),
        torch.randint(10, (8,), generator=generator),
    )


class Counting(nn.Module):
    """Counts forwards, over all copies."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calls: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.append(len(x))
        return self.network(x)

    def __deepcopy__(self, memo: dict[int, object]) -> Counting:
        copied = Counting(copy.deepcopy(self.network, memo))
        copied.calls = self.calls
        return copied


@register_proxy("test-needs-memory", needs=("data", "labels"), shares=("weights",))
def needs_memory(probe: Probe) -> float:
    """Fail like a full GPU until parts have two samples."""
    found = probe.weight_gradients()
    if 8 / probe.parts > 2:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")
    return sum(gradient.abs().sum().item() for _, gradient in found)


@register_proxy("test-bug")
def buggy(probe: Probe) -> float:
    """Has a bug."""
    return probe.no_such_attribute  # type: ignore[attr-defined, no-any-return]


@register_proxy("test-infinite")
def infinite(probe: Probe) -> float:
    """Give infinity."""
    return float("inf")


def test_everything_is_left_as_it_was(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    torch.manual_seed(1)
    network = tiny_resnet()
    network[0].weight.grad = torch.ones_like(network[0].weight)
    network[3].eval()
    before = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    state, inputs = torch.get_rng_state(), data[0].clone()
    names = [proxy.name for proxy in list_proxies()]
    evaluate(network, *data, names)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(data[0], inputs) and not data[0].requires_grad
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all((p.grad is None) == (name != "0.weight") for name, p in network.named_parameters())
    assert network[0].weight.grad.eq(1).all()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_proxies_share_one_forward(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    network = Counting(tiny_vgg())
    together = evaluate(network, *data, [*GRADIENT, "grasp", "jacob_cov"])
    assert network.calls == [8]
    for name in (*GRADIENT, "grasp", "jacob_cov"):
        alone = evaluate(network, *data, [name])[name]
        assert alone.value == pytest.approx(together[name].value, rel=1e-5)


def test_order_does_not_matter(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    torch.manual_seed(2)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(1568, 10))
    names = ["zennas-synflow", "snip", "naswot", "jacob_cov", "synflow"]
    first = evaluate(network, *data, names, seed=5)
    last = evaluate(network, *data, names[::-1], seed=5)
    assert {name: result.value for name, result in first.items()} == {
        name: result.value for name, result in last.items()
    }


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_parts_add_up_to_the_whole(data: tuple[torch.Tensor, torch.Tensor], parts: int) -> None:
    """Without batch normalisation, splitting the batch changes nothing."""
    torch.manual_seed(3)
    whole = Probe(tiny_vgg(), *data, torch.Generator())
    split = Probe(whole.network, *data, torch.Generator())
    split.parts = parts
    from zenopt.proxies import zero_cost

    for function in (zero_cost.snip, zero_cost.fisher, zero_cost.grasp, zero_cost.jacob_cov, zero_cost.plain):
        assert function(split) == pytest.approx(function(whole), rel=1e-3, abs=1e-6), function
    assert all(torch.equal(a, b) for a, b in zip(split.relu_codes(), whole.relu_codes(), strict=True))


def test_batch_is_split_when_memory_runs_out(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    network = Counting(tiny_vgg())
    result = evaluate(network, *data, ["test-needs-memory"])["test-needs-memory"]
    assert result.error is None and result.value is not None
    assert network.calls == [8, 4, 4, 2, 2, 2, 2]
    full = evaluate(network, data[0][:1], data[1][:1], ["test-needs-memory"])["test-needs-memory"]
    assert full.value is None and full.error is not None and "out of memory" in full.error


def test_memory_errors_are_recognised() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")
    )
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_failures_are_recorded_beside_values(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    results = evaluate(
        tiny_vgg(), data[0], None, ["snip", "synflow", "test-bug", "test-infinite", "zen-closed-form"]
    )
    assert results["synflow"].value is not None and results["synflow"].error is None
    for name, complaint in {
        "snip": "needs labels",
        "test-bug": "AttributeError: 'Probe' object has no attribute",
        "test-infinite": "the score is inf",
        "zen-closed-form": "needs an architecture",
    }.items():
        assert results[name].value is None
        assert complaint in str(results[name].error)


def test_own_loss(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    network = tiny_vgg()
    targets = torch.randn(8, 10)
    results = evaluate(network, data[0], targets, ["plain"], loss_fn=nn.functional.mse_loss)
    loss = nn.functional.mse_loss(network(data[0]), targets)
    weights = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    expected = sum(
        (w * g).sum().item() for w, g in zip(weights, torch.autograd.grad(loss, weights), strict=True)
    )
    assert results["plain"].value == pytest.approx(expected, rel=1e-5)


def test_layers_that_work_in_place(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    torch.manual_seed(4)
    network = tiny_vgg()
    expected = evaluate(network, *data, GRADIENT)
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = True
    results = evaluate(network, *data, GRADIENT)
    for name in GRADIENT:
        assert results[name].value == pytest.approx(expected[name].value, rel=1e-6)


class ReluFunction(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu_(x)


def test_functions_that_work_in_place_are_noticed(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), ReluFunction(), nn.Flatten(), nn.Linear(784, 10))
    results = evaluate(network, *data, ["fisher", "naswot"])
    assert "changed in place" in str(results["fisher"].error)
    assert "no ReLU modules" in str(results["naswot"].error)


def test_frozen_networks_and_odd_outputs(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    network = tiny_vgg()
    expected = evaluate(network, *data, ["snip"])["snip"].value
    network.requires_grad_(False)
    assert evaluate(network, *data, ["snip"])["snip"].value == expected
    assert not any(parameter.requires_grad for parameter in network.parameters())

    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    assert "returns tuple" in str(evaluate(Pair(), *data, ["jacob_cov"])["jacob_cov"].error)


def test_bad_arguments(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    network = tiny_vgg()
    with pytest.raises(UnknownNameError):
        evaluate(network, *data, ["snipp"])
    with pytest.raises(DeviceError):
        evaluate(network, *data, ["snip"], device="cuda:77")
    with pytest.raises(ProxyError, match="one target per input, got 8 and 3"):
        evaluate(network, data[0], data[1][:3])


def test_default_is_zero_cost(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    results = evaluate(tiny_vgg(), *data)
    assert tuple(results) == ZERO_COST
    assert all(result.error is None for result in results.values())
    assert all(result.seconds >= 0 for result in results.values())
