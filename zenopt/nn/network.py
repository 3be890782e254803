"""The network of an architecture: super-blocks, global average pooling, linear classifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from zenopt.core.errors import StructureError
from zenopt.core.lowering import check_positive
from zenopt.nn.modules import build_nodes
from zenopt.spaces.chain.architecture import Architecture


class Network(nn.Module):
    """A chain of super-blocks with a classifier.

    Args:
        architecture:
            The chain.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether squeeze-excite gates are built.
        residual:
            Whether residual links are built.

    Attributes:
        blocks: One ``nn.Sequential`` per super-block.
        classifier: ``nn.Linear`` with bias.
    """

    def __init__(
        self, architecture: Architecture, num_classes: int, use_se: bool = False, residual: bool = True
    ) -> None:
        super().__init__()
        check_positive(num_classes=num_classes)
        self.architecture = architecture
        self.num_classes = num_classes
        self.use_se = use_se
        self.residual = residual
        self.blocks = nn.ModuleList(
            build_nodes(block.expand(), use_se=use_se, residual=residual) for block in architecture.blocks
        )
        self.classifier = nn.Linear(architecture.out_channels, num_classes)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Maps a ``batch x 3 x height x width`` image tensor to the last feature map, before pooling."""
        for block in self.blocks:
            x = block(x)
        return x

    def forward_stages(self, x: torch.Tensor) -> dict[int, torch.Tensor]:
        """Returns the last feature map at each down-sampling ratio, e.g. ``{16: ..., 32: ...}``.

        Args:
            x:
                A ``batch x 3 x height x width`` image tensor.

        Returns:
            Ratio of strides so far -> the deepest map of that ratio.
        """
        stages: dict[int, torch.Tensor] = {}
        ratio = 1
        for block, module in zip(self.architecture.blocks, self.blocks, strict=True):
            x = module(x)
            ratio *= block.stride
            stages[ratio] = x
        return stages

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps a ``batch x 3 x height x width`` image tensor to ``batch x num_classes`` logits."""
        return self.classifier(self.forward_features(x).mean(dim=(2, 3)))


Builder = Callable[..., nn.Module]
_BUILDERS: dict[type, Builder] = {Architecture: Network}


def register_builder(architecture_type: type, builder: Builder) -> None:
    """Registers how architectures of another family are built.

    Args:
        architecture_type:
            The class of the architectures.
        builder:
            Called as ``builder(architecture, num_classes=..., use_se=..., residual=...)``.

    Raises:
        ValueError: If the type already has a builder.
    """
    if architecture_type in _BUILDERS:
        raise ValueError(f"{architecture_type.__name__} already has a network builder.")
    _BUILDERS[architecture_type] = builder


def build_network(
    architecture: Any, *, num_classes: int = 1000, use_se: bool = False, residual: bool = True
) -> nn.Module:
    """Builds the torch module of an architecture.

    Args:
        architecture:
            An :class:`~zenopt.spaces.chain.architecture.Architecture` or one of a registered family.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether squeeze-excite gates are built.
        residual:
            Whether residual links are built. ``False`` gives the network Zen-NAS scores: no additions, no projections.

    Returns:
        A module with ``forward`` and ``forward_features``, initialised as PyTorch initialises its layers.

    Raises:
        StructureError: If the family has no builder or ``num_classes`` is not positive.
    """
    for cls in type(architecture).__mro__:
        if cls in _BUILDERS:
            return _BUILDERS[cls](architecture, num_classes=num_classes, use_se=use_se, residual=residual)
    raise StructureError(f"No network builder for {type(architecture).__name__}.")
