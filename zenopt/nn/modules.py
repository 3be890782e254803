"""Torch modules for primitive nodes: the same description that is counted is what gets built."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from zenopt.core.errors import StructureError
from zenopt.core.primitives import Conv, Node, Norm, Relu, Residual, SqueezeExcite

#: ZenNAS sets this on every BN of a finished network, shortcuts and gates included.
BN_EPS = 1e-3


class ResidualModule(nn.Module):
    """Adds a (projected) input to what the body makes of it.

    Args:
        body:
            Main path.
        projection:
            Shortcut; ``None`` is the identity.
    """

    def __init__(self, body: nn.Sequential, projection: nn.Sequential | None) -> None:
        super().__init__()
        # ZenNAS registers the body before the projection; initialisation draws random numbers in this order.
        self.body = body
        self.projection = projection
        # Stochastic depth: 0 unless a training recipe asks for it (zenopt.train.regularise sets it).
        self.drop_path = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = x if self.projection is None else self.projection(x)
        body = self.body(x)
        if self.training and self.drop_path > 0.0:
            keep = 1.0 - self.drop_path
            mask = torch.empty((len(body), 1, 1, 1), dtype=body.dtype, device=body.device).bernoulli_(keep)
            body = body * (mask / keep)
        return body + shortcut


class SqueezeExciteModule(nn.Module):
    """Scales channels by a gate computed from their means (see :class:`zenopt.core.primitives.SqueezeExcite`)."""

    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, reduced, 1, bias=False),
            nn.BatchNorm2d(reduced, eps=BN_EPS),
            nn.ReLU(),
            nn.Conv2d(reduced, channels, 1, bias=False),
            nn.BatchNorm2d(channels, eps=BN_EPS),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gate(x)


def build_nodes(nodes: Iterable[Node], *, use_se: bool, residual: bool) -> nn.Sequential:
    """Builds modules for primitive nodes.

    Args:
        nodes:
            What a block's ``expand`` returned.
        use_se:
            Whether squeeze-excite nodes are built or left out.
        residual:
            Whether residual links are built; if not, the body stays in sequence and the projection disappears.

    Raises:
        StructureError: If a node's type is unknown.
    """
    modules: list[nn.Module] = []
    for node in nodes:
        if isinstance(node, Conv):
            modules.append(
                nn.Conv2d(
                    node.in_channels,
                    node.out_channels,
                    node.kernel,
                    stride=node.stride,
                    padding=(node.kernel - 1) // 2,
                    groups=node.groups,
                    bias=node.bias,
                )
            )
        elif isinstance(node, Norm):
            modules.append(nn.BatchNorm2d(node.channels, eps=BN_EPS))
        elif isinstance(node, Relu):
            modules.append(nn.ReLU())
        elif isinstance(node, SqueezeExcite):
            if use_se:
                modules.append(SqueezeExciteModule(node.channels, node.reduced))
        elif isinstance(node, Residual):
            body = build_nodes(node.body, use_se=use_se, residual=residual)
            if residual:
                projection = build_nodes(node.projection, use_se=use_se, residual=residual)
                modules.append(ResidualModule(body, projection if len(projection) else None))
            else:
                modules.extend(body)
        else:
            raise StructureError(f"Cannot build a node of type {type(node).__name__}.")
    return nn.Sequential(*modules)
