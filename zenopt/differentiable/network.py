"""The search network: the family's own layers, with a weighted sum of all operations where one is to be found."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from zenopt.core.primitives import Choice
from zenopt.differentiable.relaxations import RELAXATIONS, Weights, expected
from zenopt.nn.network import Network
from zenopt.spaces.opened import OpenNetwork

#: Weights of operations by the name of their choice.
Mixture = Mapping[str, Weights]


class MixedOperation(nn.Module):
    """The weighted sum of the operations of a choice."""

    weights: Weights

    def __init__(self, operations: list[nn.Module]) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operations)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values, drawn = self.weights
        if drawn is not None:
            found: torch.Tensor = values[drawn] * self.operations[drawn](x)
            return found
        total = values[0] * self.operations[0](x)
        for index in range(1, len(self.operations)):
            total = total + values[index] * self.operations[index](x)
        return total


class SearchNetwork(nn.Module):
    """The network and its alphas.

    Args:
        opened:
            The family's search network.
        num_classes:
            Outputs of the classifier.
        relaxation:
            A name of :data:`~zenopt.differentiable.relaxations.RELAXATIONS`.
        deviation:
            Standard deviation of initial alphas.

    Attributes:
        mixed: The mixed operations of every choice by its name.
        alphas: What the weights of its operations are computed of.
    """

    def __init__(
        self, opened: OpenNetwork, num_classes: int, relaxation: str = "softmax", deviation: float = 1e-3
    ) -> None:
        super().__init__()
        self.opened = opened
        self.relaxation = relaxation
        # Not registered here: they are parts of the network.
        self.mixed: dict[str, list[MixedOperation]] = {name: [] for name in opened.choices}
        self.network = Network(
            opened, num_classes, description=opened.description, open_choice=self._mixed_operation
        )
        self.alphas = nn.ParameterDict(
            {
                name: nn.Parameter(deviation * torch.randn(len(operations)))
                for name, operations in opened.choices.items()
            }
        )

    def _mixed_operation(self, choice: Choice, operations: list[nn.Module]) -> nn.Module:
        mixed = MixedOperation(operations)
        self.mixed[choice.name].append(mixed)
        return mixed

    def draw(self, temperature: float = 1.0) -> dict[str, Weights]:
        """Return weights of operations, drawn where the relaxation draws; gradients reach the alphas."""
        relax = RELAXATIONS[self.relaxation]
        return {name: relax(alphas, temperature) for name, alphas in self.alphas.items()}

    def expected(self) -> dict[str, Weights]:
        """Return the weights without chance; gradients reach the alphas."""
        return {name: Weights(expected(self.relaxation, alphas)) for name, alphas in self.alphas.items()}

    def forward(self, images: torch.Tensor, mixture: Mixture) -> torch.Tensor:
        """Map a ``batch x 3 x height x width`` image tensor to ``batch x classes`` logits.

        Args:
            images:
                The images.
            mixture:
                Weights of every choice; all cells take the same.
        """
        for name, weights in mixture.items():
            for mixed in self.mixed[name]:
                mixed.weights = weights
        logits: torch.Tensor = self.network(images)
        return logits

    @torch.no_grad()
    def probabilities(self) -> dict[str, list[float]]:
        """Return the weights without chance, as numbers."""
        return {name: weights.values.tolist() for name, weights in self.expected().items()}
