"""Gradients of alphas: at the weights as they are, or one step ahead of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

#: The step of finite differences, relative to the vector along which they are taken (DARTS).
STEP = 0.01
#: Computes a loss at the parameters as they are, with the same draws every time.
Loss = Callable[[], torch.Tensor]


def gradients(loss: torch.Tensor, parameters: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the gradients of a loss; zeros where it does not depend on a parameter."""
    found = torch.autograd.grad(loss, list(parameters), allow_unused=True)
    return [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters, found, strict=True)
    ]


def unrolled(
    alphas: Sequence[torch.Tensor],
    optimizer: torch.optim.Optimizer,
    train_loss: Loss,
    held_back_loss: Loss,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the held-back loss one step of the weights ahead, and its gradients by alphas.

    With ``w' = w - lr * d``, where ``d`` is the step of SGD with momentum and weight decay, the gradient is
    ``grad_alpha L_held(w') - lr * H v``. ``H v``, the mixed second derivative of the training loss times
    ``v = grad_w' L_held(w')``, is taken by central differences of step ``0.01 / |v|``. The weights are afterwards what
    they were.

    Args:
        alphas:
            Of which the gradients are wanted.
        optimizer:
            SGD of the weights, with its state and current learning rate.
        train_loss, held_back_loss:
            Losses of a batch.
    """
    groups = [(weight, group) for group in optimizer.param_groups for weight in group["params"]]
    weights = [weight for weight, _ in groups]
    saved = [weight.detach().clone() for weight in weights]
    rate = float(groups[0][1]["lr"])
    try:
        steps = gradients(train_loss(), weights)
        with torch.no_grad():
            for (weight, group), step in zip(groups, steps, strict=True):
                buffer = optimizer.state[weight].get("momentum_buffer")
                if buffer is not None:
                    step = step + group["momentum"] * buffer
                weight.sub_(rate * (step + group["weight_decay"] * weight))
        loss = held_back_loss()
        found = gradients(loss, [*alphas, *weights])
        direct, vector = found[: len(alphas)], found[len(alphas) :]
        norm = torch.sqrt(sum((part.square().sum() for part in vector), torch.zeros((), device=loss.device)))
        if norm == 0:
            return loss.detach(), direct
        size = STEP / float(norm)
        ends = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                for weight, own, part in zip(weights, saved, vector, strict=True):
                    weight.copy_(own + sign * size * part)
            ends.append(gradients(train_loss(), alphas))
    finally:
        with torch.no_grad():
            for weight, own in zip(weights, saved, strict=True):
                weight.copy_(own)
    mixed = [(above - below) / (2 * size) for above, below in zip(*ends, strict=True)]
    return loss.detach(), [one - rate * other for one, other in zip(direct, mixed, strict=True)]
