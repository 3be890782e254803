"""ZiCo, SWAP, MeCo, AZ-NAS, NASWOT, TE-NAS and sizes on networks small enough to work out by other means."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from zero_cost_nets import tiny_resnet, tiny_vgg

from zenopt.proxies import evaluate
from zenopt.proxies.naswot import log_determinant


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 3, 16, 16, generator=generator), torch.randint(10, (8,), generator=generator)


def value(network: nn.Module, data: tuple[torch.Tensor, torch.Tensor], name: str) -> float:
    result = evaluate(network, *data, [name])[name]
    assert result.error is None, result.error
    assert result.value is not None
    return result.value


def linear(weight: list[list[float]]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight), bias=False)
    layer.weight = nn.Parameter(torch.tensor(weight))
    return layer


def test_naswot_by_hand() -> None:
    # Sample codes 10, 01, 11: they agree with themselves in 2 units, pairwise in 0, 1 and 1.
    codes = [torch.tensor([[True, False], [False, True], [True, True]])]
    kernel = np.array([[2, 0, 1], [0, 2, 1], [1, 1, 2]])
    assert log_determinant(codes) == pytest.approx(math.log(np.linalg.det(kernel)))
    # Two layers add up.
    assert log_determinant(codes * 2) == pytest.approx(math.log(np.linalg.det(2 * kernel)))


def test_naswot_reads_all_relu_modules(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    network = nn.Sequential(nn.Flatten(), linear([[1.0, 0.0], [0.0, 1.0]]), nn.ReLU())
    inputs = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
    assert value(network, (inputs, torch.zeros(3)), "naswot") == pytest.approx(math.log(4))
    same = evaluate(network, torch.ones(2, 2), None, ["naswot"])["naswot"]
    assert "same units" in str(same.error)


def test_swap_by_hand() -> None:
    # Three samples, units (x > 0), (y > 0), (x > 0 again): patterns 101, 011, 101 over the samples.
    network = nn.Sequential(linear([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]), nn.ReLU())
    inputs = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
    assert value(network, (inputs, torch.zeros(3)), "swap") == 2


def test_swap_counts_as_a_set_does(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    network = tiny_vgg()
    patterns: set[tuple[bool, ...]] = set()

    def observe(module: nn.Module, args: object, output: torch.Tensor) -> None:
        patterns.update(map(tuple, (output > 0).flatten(1).t().tolist()))

    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(observe)
    network(data[0])
    expected = len(patterns)
    assert value(network, data, "swap") == expected


def test_zico_from_two_backward_passes(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    network = tiny_resnet()
    gradients = []
    for half in (slice(0, 4), slice(4, 8)):
        copied = copy.deepcopy(network)
        nn.functional.cross_entropy(copied(data[0][half]), data[1][half]).backward()
        gradients.append([m.weight.grad for m in copied.modules() if isinstance(m, nn.Conv2d | nn.Linear)])
    expected = 0.0
    for first, second in zip(*gradients, strict=True):
        a, b = first.double().numpy(), second.double().numpy()
        spread = np.abs(a - b) / 2
        mean = (np.abs(a) + np.abs(b)) / 2
        expected += math.log((mean[spread > 0] / spread[spread > 0]).sum())
    assert value(network, data, "zico") == pytest.approx(expected, rel=1e-3)
    tiny = evaluate(network, data[0][:3], data[1][:3], ["zico"])["zico"]
    assert "at least 4 samples" in str(tiny.error)


def test_meco_by_numpy(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(980, 10))
    expected = 0.0
    x = data[0]
    for layer in network[:2]:
        x = layer(x)
        expected += np.linalg.eigvalsh(np.corrcoef(x[0].detach().double().flatten(1).numpy()))[0]
    assert expected > 0.01
    assert value(network, data, "meco") == pytest.approx(expected, rel=1e-4)


def test_ntk_of_a_linear_layer_is_the_gram_matrix() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    inputs = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    rows = inputs.flatten(1).double()
    eigenvalues = np.linalg.eigvalsh((rows @ rows.t()).numpy())
    assert value(network, (inputs, torch.zeros(5)), "te-nas-ntk") == pytest.approx(
        -eigenvalues[-1] / eigenvalues[0], rel=1e-4
    )
    doubled = evaluate(network, torch.cat([inputs[:1], inputs[:1]]), None, ["te-nas-ntk"])["te-nas-ntk"]
    # Equal samples: the smallest eigenvalue is 0 up to rounding.
    assert doubled.value is None or doubled.value < -1e12


def test_linear_regions_of_two_units() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(27, 2, bias=False), nn.ReLU())
    inputs = torch.zeros(1, 3, 3, 3)
    # Two lines through the origin cut the plane in four.
    assert value(network, (inputs, torch.zeros(1)), "te-nas-linear-regions") == 4


def test_az_nas_of_orthogonal_blocks() -> None:
    """A block of an orthogonal 1x1 convolution keeps lengths: trainability 0, entropy kept, progressivity 0."""
    from zenopt.proxies import az_nas

    class Blocks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList(nn.Conv2d(4, 4, 1, bias=False) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for block in self.blocks:
                x = block(x)
            return x.mean(dim=(2, 3))

    network = Blocks()
    orthogonal = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))[0]
    x = torch.randn(64, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with pytest.MonkeyPatch.context() as patch:
        # The definition redraws weights; here they stay orthogonal.
        from zenopt.proxies import probe

        patch.setattr(probe, "initialise", lambda *_: None)
        for block in network.blocks:
            block.weight = nn.Parameter(orthogonal[:, :, None, None].clone())
        names = ["az-nas-expressivity", "az-nas-progressivity", "az-nas-trainability"]
        results = evaluate(network, x, None, names)
    assert az_nas.__doc__
    # Independent channels of equal variance: ln 4 in each of three blocks.
    assert results[names[0]].value == pytest.approx(3 * math.log(4), rel=1e-3)
    assert results[names[1]].value == pytest.approx(0.0, abs=1e-4)
    assert results[names[2]].value == pytest.approx(0.0, abs=1e-2)


def test_az_nas_reads_strided_blocks(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert value(tiny_resnet(), data, "az-nas-trainability") < 0
    assert value(tiny_resnet(), data, "az-nas-progressivity") > 0


def test_sizes() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(128, 10)
    )
    data = torch.randn(2, 3, 4, 4), torch.zeros(2, dtype=torch.long)
    # 3*8*9 + 8, BN 16, 128*10 + 10; MACs 3*8*9*16 + 1280.
    assert value(network, data, "params") == 224 + 16 + 1290
    assert value(network, data, "macs") == 3456 + 1280
