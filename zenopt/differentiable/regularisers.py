"""What keeps a search from collapsing into skip connections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Any

import torch

from zenopt.differentiable.settings import EigenvalueStop, Method
from zenopt.spaces.opened import OpenNetwork


def beta_decay(alphas: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return the mean of logsumexp(alpha) over choices, whose gradient is the softmax itself (Ye et al. 2022)."""
    return torch.stack([torch.logsumexp(alpha, 0) for alpha in alphas]).mean()


def dominant_eigenvalue(
    loss: torch.Tensor, parameters: Sequence[torch.Tensor], iterations: int = 30, tolerance: float = 1e-3
) -> float:
    """Return the largest eigenvalue of a loss's Hessian, by power iteration.

    Where the one of largest magnitude is negative, a second iteration on the Hessian less that one finds the largest.

    Args:
        loss:
            Computed of the parameters, with its graph.
        parameters:
            By which it is derived.
        iterations:
            At most, in each of the two.
        tolerance:
            Relative change at which an iteration ends.
    """
    first = torch.autograd.grad(loss, list(parameters), create_graph=True)
    flat = torch.cat([part.flatten() for part in first])

    def product(vector: torch.Tensor) -> torch.Tensor:
        found = torch.autograd.grad(flat @ vector, list(parameters), retain_graph=True)
        return torch.cat([part.flatten() for part in found])

    generator = torch.Generator().manual_seed(0)
    start = torch.randn(len(flat), generator=generator).to(flat)
    largest = _power(product, start, iterations, tolerance)
    if largest >= 0:
        return largest
    return largest + _power(lambda vector: product(vector) - largest * vector, start, iterations, tolerance)


def _power(
    product: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor, iterations: int, tolerance: float
) -> float:
    vector, value = start / start.norm(), 0.0
    for _ in range(iterations):
        image = product(vector)
        before, value = value, float(vector @ image)
        norm = image.norm()
        if norm == 0 or abs(value - before) <= tolerance * abs(value):
            break
        vector = image / norm
    return value


def epoch_to_return_to(
    method: Method, opened: OpenNetwork, architectures: Sequence[Any], eigenvalues: Sequence[float]
) -> int | None:
    """Return the epoch whose architecture is taken because the search is to end, counted from 1; ``None`` to go on.

    Args:
        method:
            Which rules apply.
        opened:
            Counts skip connections.
        architectures:
            Derived after each epoch so far.
        eigenvalues:
            After each epoch so far, where they are computed.
    """
    if method.stop_by_eigenvalue is not None:
        found = _before_rise(method.stop_by_eigenvalue, eigenvalues)
        if found is not None:
            return found
    if method.stop_by_skips is not None:
        most = method.stop_by_skips.most
        skips = [opened.skips(architecture) for architecture in architectures]
        # Early cells are chance; one that has never kept the limit is no cell to go back to.
        if skips[-1] > most and min(skips) <= most:
            return max(epoch for epoch, count in enumerate(skips, start=1) if count <= most)
    return None


def _before_rise(options: EigenvalueStop, eigenvalues: Sequence[float]) -> int | None:
    window = options.window
    if len(eigenvalues) < 2 * window:
        return None
    earlier, later = fmean(eigenvalues[-2 * window : -window]), fmean(eigenvalues[-window:])
    return len(eigenvalues) - window if later > 0 and earlier < options.ratio * later else None
