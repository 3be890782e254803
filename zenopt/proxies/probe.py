"""What a network proxy is given: a network, a batch, a loss and a source of random numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Probe:
    """A network and a batch, as a proxy sees them.

    Args:
        network:
            The network, not to be changed by a proxy; :meth:`private_network` gives a copy that may be.
        inputs:
            A ``batch x channels x height x width`` tensor on the network's device.
        targets:
            What ``loss_fn`` takes beside the outputs, e.g. class indices of shape ``batch``; ``None`` without labels.
        loss_fn:
            Called as ``loss_fn(outputs, targets)``; mean cross entropy by default.
        generator:
            Source of every random number, on the network's device.
        gamma:
            Size of the input perturbation (Zen-scores).
    """

    def __init__(
        self,
        network: nn.Module,
        inputs: torch.Tensor,
        targets: torch.Tensor | None,
        generator: torch.Generator,
        *,
        loss_fn: Loss | None = None,
        gamma: float = 0.01,
    ) -> None:
        self.network = network
        self.inputs = inputs
        self.targets = targets
        self.generator = generator
        self.loss_fn: Loss = nn.functional.cross_entropy if loss_fn is None else loss_fn
        self.gamma = gamma

    def private_network(self) -> nn.Module:
        """Returns a copy of the network that the proxy may change."""
        return copy.deepcopy(self.network)

    def noise(self) -> torch.Tensor:
        """Returns a batch from N(0, 1) of the inputs' shape."""
        return torch.randn(
            self.inputs.shape, generator=self.generator, device=self.inputs.device, dtype=torch.float32
        )
