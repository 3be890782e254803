"""The networks and the batch of the zero-cost-nas reference values: everything filled from numpy's RandomState."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from zenopt.nn import build_network
from zenopt.spaces.nasbench201.architecture import CellArchitecture

GOLDENS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "zero_cost.json").read_text()
)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    images = np.random.RandomState(12345).randn(64, 3, 32, 32).astype(np.float32)
    labels = np.random.RandomState(7).randint(0, 10, 64)
    return torch.from_numpy(images), torch.from_numpy(labels)


def fill(network: nn.Module) -> nn.Module:
    norm_weights = {
        id(module.weight)
        for module in network.modules()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    }
    with torch.no_grad():
        for index, parameter in enumerate(network.parameters()):
            z = np.random.RandomState(index).randn(*parameter.shape)
            if parameter.dim() > 1:
                z = z * math.sqrt(2 / np.prod(parameter.shape[1:]))
            elif id(parameter) in norm_weights:
                z = 1 + 0.1 * z
            else:
                z = 0.1 * z
            parameter.copy_(torch.from_numpy(z.astype(np.float32)))
    return network.train()


def tiny_vgg() -> nn.Module:
    def conv(a: int, b: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 3, padding=1), nn.ReLU()]

    return nn.Sequential(
        *conv(3, 16), nn.MaxPool2d(2), *conv(16, 32), nn.MaxPool2d(2), *conv(32, 32),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


class BasicBlock(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = (
            nn.Identity()
            if stride == 1
            else nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3))


def tiny_resnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        BasicBlock(16, 16, 1), BasicBlock(16, 32, 2), BasicBlock(32, 64, 2), Mean(), nn.Linear(64, 10),
    )  # fmt: skip


class Inverted(nn.Module):
    def __init__(self, channels: int, out: int, stride: int, expand: int) -> None:
        super().__init__()
        middle = channels * expand
        self.is_residual = stride == 1 and channels == out
        self.body = nn.Sequential(
            nn.Conv2d(channels, middle, 1, bias=False), nn.BatchNorm2d(middle), nn.ReLU6(),
            nn.Conv2d(middle, middle, 3, stride, 1, groups=middle, bias=False), nn.BatchNorm2d(middle), nn.ReLU6(),
            nn.Conv2d(middle, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x) if self.is_residual else self.body(x)


def tiny_mobile() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(),
        Inverted(16, 16, 1, 2), Inverted(16, 24, 2, 4), Inverted(24, 24, 1, 4), Mean(), nn.Linear(24, 10),
    )  # fmt: skip


def build(name: str) -> nn.Module:
    import torchvision

    for golden in GOLDENS["nb201"]:
        if golden["name"] == name:
            return fill(
                build_network(CellArchitecture.parse(golden["arch_str"]), num_classes=10, build="zero-cost")
            )
    makers = {
        "tiny_vgg": tiny_vgg,
        "tiny_resnet": tiny_resnet,
        "tiny_mobile": tiny_mobile,
        "torchvision_resnet18_10": lambda: torchvision.models.resnet18(num_classes=10),
        "torchvision_shufflenet_v2_x0_5_10": lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=10),
    }
    return fill(makers[name]())
