"""Scores on a CUDA device: those of the CPU, up to rounding and to the stream of random numbers."""

from __future__ import annotations

import math

import pytest
import torch
from gpu import DEVICE, NEEDS_GPU
from structures import TWO_HALVINGS

from zenopt.core.lowering import lower
from zenopt.nn import build_network
from zenopt.proxies import evaluate, get_proxy, list_proxies, score_architecture
from zenopt.proxies.devices import available_devices, resolve_device
from zenopt.proxies.evaluation import is_out_of_memory
from zenopt.proxies.randomness import fresh_network, initialise, make_generator
from zenopt.proxies.zen import draw_inputs, zen_of_network
from zenopt.proxies.zen_executor import draw_weights, zen_of_chain
from zenopt.spaces.chain.architecture import Architecture

pytestmark = NEEDS_GPU

TINY = Architecture.parse(TWO_HALVINGS)
OPTIONS = {"resolution": 32, "num_classes": 10, "batch_size": 16}
NETWORK_PROXIES = [own.name for own in list_proxies() if own.kind == "network"]
#: They draw their own weights or noise on the network's device, whose stream differs from the CPU's.
DRAWING = (
    "zen",
    "zennas-gradnorm",
    "zennas-naswot",
    "zennas-synflow",
    "random",
    "meco",
    "te-nas-linear-regions",
)


def draws(name: str) -> bool:
    return name in DRAWING or name.startswith("az-nas")


def test_the_device_is_found_by_each_of_its_names() -> None:
    assert DEVICE in available_devices()
    assert resolve_device("cuda") == resolve_device(DEVICE) == torch.device(DEVICE)


@pytest.mark.parametrize("proxy", NETWORK_PROXIES)
def test_scores_have_the_distribution_of_the_cpu(proxy: str) -> None:
    """Streams differ between devices, so only means can agree."""
    repeats = 4 if proxy == "te-nas-linear-regions" else 16
    cpu = score_architecture(TINY, proxy, device="cpu", repeats=repeats, **OPTIONS)
    gpu = score_architecture(TINY, proxy, device=DEVICE, repeats=repeats, seed=1, **OPTIONS)
    assert gpu.device == DEVICE
    error = math.hypot(cpu.std, gpu.std) / math.sqrt(repeats - 1)
    assert abs(cpu.mean - gpu.mean) <= 5 * error + 1e-5 * abs(cpu.mean)


@pytest.mark.parametrize("proxy", [name for name in NETWORK_PROXIES if not draws(name)])
def test_equal_weights_and_images_have_equal_scores(proxy: str) -> None:
    network = fresh_network(
        TINY, make_generator(0, 0, torch.device("cpu")), num_classes=10, use_se=True, residual=True
    )
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8)
    cpu = evaluate(network, images, labels, [proxy])[proxy]
    gpu = evaluate(network, images, labels, [proxy], device=DEVICE)[proxy]
    assert gpu.error is None and cpu.error is None
    # Codes of units near zero may flip; condition numbers, and sums of numbers of both signs, amplify rounding.
    rough = proxy in ("te-nas-ntk", "jacob_cov", "grasp", "plain")
    assert gpu.value == pytest.approx(cpu.value, rel=0.05 if rough else 0.01)


@pytest.mark.parametrize("proxy", ["zen", "snip", "zico", "zennas-gradnorm"])
def test_equal_seeds_have_equal_scores(proxy: str) -> None:
    first, second = (
        score_architecture(TINY, proxy, device=DEVICE, repeats=3, seed=5, **OPTIONS) for _ in range(2)
    )
    assert first.values == pytest.approx(second.values, rel=1e-5)
    assert len(set(first.values)) == 3


def test_the_executor_computes_what_the_network_does() -> None:
    layers = lower(TINY, 32, num_classes=10, residual=False)
    generator = make_generator(2, 0, torch.device(DEVICE))
    weights = draw_weights(layers, generator)
    x, changed = draw_inputs((16, 3, 32, 32), generator, 0.01)
    assert {tensor.device.type for tensor in (*weights, x, changed)} == {"cuda"}
    fast = zen_of_chain(layers, weights, x, changed)
    network = build_network(TINY, num_classes=10, residual=False).to(DEVICE)
    generator = make_generator(2, 0, torch.device(DEVICE))
    initialise(network, "gaussian", generator)
    assert fast == pytest.approx(zen_of_network(network, (16, 3, 32, 32), generator, 0.01), abs=0.5)
    slow = score_architecture(TINY, "zen", device=DEVICE, repeats=16, use_se=True, **OPTIONS)
    assert math.isfinite(slow.mean)


def test_rounding_to_tf32_is_off_whatever_is_set() -> None:
    before = torch.backends.cudnn.allow_tf32
    try:
        values = []
        for allowed in (True, False):
            torch.backends.cudnn.allow_tf32 = allowed
            values.append(score_architecture(TINY, "zen", device=DEVICE, **OPTIONS).mean)
            assert torch.backends.cudnn.allow_tf32 == allowed
        assert values[0] == pytest.approx(values[1], rel=1e-5)
    finally:
        torch.backends.cudnn.allow_tf32 = before


def test_a_network_and_the_random_state_stay_as_they_are() -> None:
    network = build_network(TINY, num_classes=10)
    states = torch.get_rng_state(), torch.cuda.get_rng_state(DEVICE)
    images = torch.ones(8, 3, 32, 32)
    found = evaluate(network, images, torch.arange(8), ["zen", "snip"], device=DEVICE, per_layer=True)
    assert all(score.error is None for score in found.values())
    assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(torch.cuda.get_rng_state(DEVICE), states[1])
    layers = found["snip"].layers
    assert layers and sum(array.sum().item() for array in layers.values()) == pytest.approx(
        found["snip"].value
    )


def test_work_on_the_cpu_leaves_the_gpu_s_generator_alone() -> None:
    before = torch.cuda.get_rng_state(DEVICE)
    evaluate(build_network(TINY, num_classes=10), torch.ones(8, 3, 32, 32), torch.arange(8), ["snip"])
    assert torch.equal(torch.cuda.get_rng_state(DEVICE), before)


def test_missing_memory_is_known_and_batches_are_split() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**50, dtype=torch.uint8, device=DEVICE)
    assert is_out_of_memory(refused.value)

    sizes: list[int] = []

    class Hungry(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            sizes.append(len(x))
            if len(x) > 4:
                torch.empty(2**50, dtype=torch.uint8, device=x.device)
            return self.layer(x.mean(dim=(2, 3)))

    found = evaluate(Hungry(), torch.randn(16, 3, 8, 8), torch.arange(16) % 10, ["snip"], device=DEVICE)
    assert found["snip"].error is None and sizes[:2] == [16, 8] and sizes[-1] == 4
    assert get_proxy("snip").name == "snip"
