"""Torch networks of NAS-Bench-201 cells, in the two builds that published scores refer to.

``official`` is the benchmark's own (its accuracies are of these networks): BN with weights, convolutions without bias.
``zero-cost`` is that of the zero-cost-nas release: inside cells BN has neither weights nor running statistics, and the
convolutions have a bias. Stem, reductions and head are alike.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import nn

from zenopt.core.errors import StructureError
from zenopt.core.lowering import check_positive
from zenopt.nn.network import register_builder
from zenopt.spaces.nasbench201.architecture import (
    CELLS_PER_STAGE,
    CHANNELS,
    EDGES,
    CellArchitecture,
    check_cell_options,
)

Build = Literal["official", "zero-cost"]
BUILDS: tuple[Build, ...] = ("official", "zero-cost")


class Zero(nn.Module):
    """Multiplies by zero: gradients are zeros rather than absent, and a NaN stays one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 0.0


class Cell(nn.Module):
    """The cell: node 0 is the input, every other node the sum of its edges, node 3 the output."""

    def __init__(self, architecture: CellArchitecture, channels: int, build: Build) -> None:
        super().__init__()
        self.edges = nn.ModuleList(_operation(name, channels, build) for name in architecture.operations)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        nodes = [x]
        for end in (1, 2, 3):
            terms = [
                operation(nodes[start])
                for (start, stop), operation in zip(EDGES, self.edges, strict=True)
                if stop == end
            ]
            total = terms[0]
            for term in terms[1:]:
                total = total + term
            nodes.append(total)
        return nodes[-1]


class Reduction(nn.Module):
    """The residual block between stages; there is no ReLU after the sum."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        # The shortcut is defined first, as in the releases: parameters are numbered in this order.
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, stride=2), nn.Conv2d(in_channels, channels, 1, bias=False)
        )
        self.body = nn.Sequential(
            *_relu_conv_norm(in_channels, channels, 3, stride=2), *_relu_conv_norm(channels, channels, 3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.shortcut(x) + self.body(x)


class CellNetwork(nn.Module):
    """A NAS-Bench-201 network.

    Args:
        architecture:
            The cell.
        num_classes:
            Outputs of the classifier.
        build:
            ``"official"`` or ``"zero-cost"``.

    Raises:
        StructureError: If the build is unknown or a number is not positive.
    """

    def __init__(
        self, architecture: CellArchitecture, num_classes: int = 10, build: Build = "official"
    ) -> None:
        super().__init__()
        check_positive(num_classes=num_classes)
        if build not in BUILDS:
            raise StructureError(f"Unknown NAS-Bench-201 build {build!r}; allowed: {', '.join(BUILDS)}.")
        self.architecture = architecture
        self.num_classes = num_classes
        self.build: Build = build
        self.stem = nn.Sequential(
            nn.Conv2d(3, CHANNELS[0], 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS[0])
        )
        blocks: list[nn.Module] = []
        for stage, channels in enumerate(CHANNELS):
            if stage:
                blocks.append(Reduction(CHANNELS[stage - 1], channels))
            blocks += [Cell(architecture, channels, build) for _ in range(CELLS_PER_STAGE)]
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Sequential(nn.BatchNorm2d(CHANNELS[-1]), nn.ReLU())
        self.classifier = nn.Linear(CHANNELS[-1], num_classes)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Maps a ``batch x 3 x height x width`` image tensor to the last feature map, before pooling."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps a ``batch x 3 x height x width`` image tensor to ``batch x num_classes`` logits."""
        return self.classifier(self.forward_features(x).mean(dim=(2, 3)))

    def without_norms(self) -> CellNetwork:
        """Returns a copy without BN, as synflow wants it; a ``zero-cost`` build keeps those of its reductions."""
        network = copy.deepcopy(self)
        kept: set[nn.Module] = set()
        if self.build == "zero-cost":
            kept = {part for block in network.blocks if isinstance(block, Reduction) for part in block.body}
        for module in list(network.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.BatchNorm2d) and child not in kept:
                    setattr(module, name, nn.Identity())
        return network


def build_cell_network(
    architecture: CellArchitecture, *, num_classes: int, use_se: bool = False, residual: bool = True
) -> CellNetwork:
    """Builds the official network of a cell (see :func:`~zenopt.nn.build_network`)."""
    check_cell_options(use_se, residual)
    return CellNetwork(architecture, num_classes)


register_builder(CellArchitecture, build_cell_network)


def _operation(name: str, channels: int, build: Build) -> nn.Module:
    if name == "none":
        return Zero()
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    kernel = int(name[-1])
    if build == "official":
        return nn.Sequential(*_relu_conv_norm(channels, channels, kernel))
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, padding=kernel // 2),
        nn.BatchNorm2d(channels, affine=False, track_running_stats=False),
    )


def _relu_conv_norm(in_channels: int, channels: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.ReLU(),
        nn.Conv2d(in_channels, channels, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels),
    ]
