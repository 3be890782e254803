"""How alphas become weights of operations, so that gradients reach them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F


class Weights(NamedTuple):
    """Weights of the operations of one choice.

    Attributes:
        values: They sum to 1.
        drawn: The only operation that is run; ``None`` where all are.
    """

    values: torch.Tensor
    drawn: int | None = None


#: Called with the alphas of a choice and the temperature; draws from torch's global generator.
Relaxation = Callable[[torch.Tensor, float], Weights]


def softmax(alphas: torch.Tensor, temperature: float) -> Weights:
    """Return the softmax of alphas: nothing is drawn (DARTS)."""
    return Weights(F.softmax(alphas, 0))


def gumbel(alphas: torch.Tensor, temperature: float) -> Weights:
    """Draw from the concrete distribution, also called Gumbel-softmax (SNAS, FBNet)."""
    return Weights(F.softmax((alphas + _gumbel_noise(alphas)) / temperature, 0))


def gumbel_hard(alphas: torch.Tensor, temperature: float) -> Weights:
    """Draw one operation; gradients are those of the concrete distribution (GDAS)."""
    soft = gumbel(alphas, temperature).values
    drawn = int(soft.argmax())
    hard = F.one_hot(soft.argmax(), len(soft)).to(soft.dtype)
    return Weights(hard - soft.detach() + soft, drawn)


def dirichlet(alphas: torch.Tensor, temperature: float) -> Weights:
    """Draw from the Dirichlet distribution of concentration ``elu(alpha) + 1`` (DrNAS)."""
    return Weights(torch.distributions.Dirichlet(concentration(alphas)).rsample())


def concentration(alphas: torch.Tensor) -> torch.Tensor:
    """Return the concentration that alphas stand for in DrNAS, above 0."""
    # Far below zero elu + 1 is rounded to 0, of which there is no distribution.
    return (F.elu(alphas) + 1).clamp_min(1e-6)


def _gumbel_noise(like: torch.Tensor) -> torch.Tensor:
    smallest = torch.finfo(like.dtype).tiny
    return -torch.empty_like(like).exponential_().clamp_min(smallest).log()


RELAXATIONS: dict[str, Relaxation] = {
    "softmax": softmax,
    "gumbel": gumbel,
    "gumbel-hard": gumbel_hard,
    "dirichlet": dirichlet,
}


def expected(relaxation: str, alphas: torch.Tensor) -> torch.Tensor:
    """Return the weights without chance, from which architectures are derived; a Dirichlet distribution's mean."""
    if relaxation == "dirichlet":
        values = concentration(alphas)
        return values / values.sum()
    return F.softmax(alphas, 0)
