"""Gradients of alphas against those of automatic differentiation, on a problem of a few numbers."""

from __future__ import annotations

import pytest
import torch

from zenopt.differentiable.bilevel import gradients, unrolled

RATE, MOMENTUM, DECAY = 0.05, 0.9, 0.01


class Problem:
    """Losses that are not quadratic in the weights, and depend on alphas in both."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.weights = torch.randn(4, generator=generator, dtype=torch.float64).requires_grad_()
        self.alphas = torch.randn(3, generator=generator, dtype=torch.float64).requires_grad_()
        self.inputs = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
        self.optimizer = torch.optim.SGD([self.weights], lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)

    def loss(self, part: int, weights: torch.Tensor | None = None) -> torch.Tensor:
        weights = self.weights if weights is None else weights
        mixed = self.alphas.softmax(0)
        outputs = (self.inputs[part] @ weights).tanh() * mixed[0] + (
            self.inputs[part] @ weights.exp()
        ) * mixed[1]
        return outputs.square().mean() + mixed[2] * weights.square().sum()


def by_autograd(problem: Problem) -> torch.Tensor:
    (step,) = torch.autograd.grad(problem.loss(0), problem.weights, create_graph=True)
    buffer = problem.optimizer.state[problem.weights].get("momentum_buffer", 0.0)
    ahead = problem.weights - RATE * (step + MOMENTUM * buffer + DECAY * problem.weights)
    (found,) = torch.autograd.grad(problem.loss(1, ahead), problem.alphas)
    return found


@pytest.mark.parametrize("steps_before", [0, 2])
def test_second_order_is_that_of_autograd(steps_before: int) -> None:
    problem = Problem()
    for _ in range(steps_before):
        problem.optimizer.zero_grad()
        problem.loss(0).backward()
        problem.optimizer.step()
    before = problem.weights.detach().clone()
    wanted = by_autograd(problem)
    _, (found,) = unrolled(
        [problem.alphas], problem.optimizer, lambda: problem.loss(0), lambda: problem.loss(1)
    )
    assert torch.allclose(found, wanted, rtol=1e-3)
    assert torch.equal(problem.weights, before), "the weights are what they were"
    (first,) = gradients(problem.loss(1), [problem.alphas])
    assert not torch.allclose(first, wanted, rtol=0.05), "the second order differs from the first"


def test_weights_are_put_back_when_a_loss_fails() -> None:
    problem = Problem()
    before = problem.weights.detach().clone()

    def fails() -> torch.Tensor:
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError):
        unrolled([problem.alphas], problem.optimizer, lambda: problem.loss(0), fails)
    assert torch.equal(problem.weights, before)


def test_gradients_are_zeros_where_nothing_depends() -> None:
    problem = Problem()
    other = torch.ones(2, requires_grad=True)
    found = gradients(problem.loss(0), [problem.alphas, other])
    assert float(found[0].abs().sum()) > 0 and found[1].tolist() == [0.0, 0.0]
