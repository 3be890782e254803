"""An LSTM that decides one parameter after another, its gradient, and Adam: a few matrix products in numpy.

Weights are one vector and never changed in place: what came out of earlier ones stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: A parameter and the index of the action taken.
Decision = tuple[str, int]

#: Initial weights are uniform within this range (ENAS).
INITIAL = 0.1
BETAS, EPS = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Step:
    """One decision, and what its gradient needs: input, state before and after, gates, squashed head, probabilities."""

    name: str
    action: int
    joined: Array
    cell_before: Array
    cell: Array
    gates: Array
    output: Array
    squashed: Array
    probabilities: Array

    @property
    def log_probability(self) -> float:
        return float(np.log(self.probabilities[self.action]))

    @property
    def entropy(self) -> float:
        return float(-(self.probabilities * np.log(self.probabilities)).sum())


class Policy:
    """A controller's network: one LSTM cell, and for every parameter a head and embeddings of its actions.

    The input of a step is the embedding of the action taken last; its output, through the parameter's head, gives the
    logits ``bound * tanh(x / temperature)``, so that no action ever dies out.

    Args:
        sizes:
            Parameter -> number of actions.
        hidden:
            Width of the LSTM and of the embeddings.
        bound, temperature:
            Of the logits.
    """

    def __init__(self, sizes: Mapping[str, int], *, hidden: int, bound: float, temperature: float) -> None:
        self._hidden, self._bound, self._temperature = hidden, bound, temperature
        shapes: dict[str, tuple[int, ...]] = {
            "gates": (4 * hidden, 2 * hidden), "biases": (4 * hidden,), "start": (hidden,)
        }  # fmt: skip
        for name, count in sizes.items():
            shapes[f"head {name}"] = shapes[f"action {name}"] = (count, hidden)
        self._places: dict[str, tuple[slice, tuple[int, ...]]] = {}
        self._size = 0
        for part, shape in shapes.items():
            count = int(np.prod(shape))
            self._places[part] = (slice(self._size, self._size + count), shape)
            self._size += count

    def initial(self, seed: int) -> Array:
        """Return weights to begin with."""
        return np.random.default_rng(seed).uniform(-INITIAL, INITIAL, self._size)

    def _part(self, weights: Array, part: str) -> Array:
        place, shape = self._places[part]
        return weights[place].reshape(shape)

    def begin(self, weights: Array) -> Walk:
        """Return a walk that has decided nothing yet."""
        return Walk(self, weights)

    def follow(self, weights: Array, decisions: Iterable[Decision]) -> list[Step]:
        """Return the steps of decisions that were taken."""
        walk = Walk(self, weights)
        for name, action in decisions:
            walk.decide(name, lambda _, taken=action: taken)  # type: ignore[misc]
        return walk.steps

    def gradient(self, weights: Array, steps: list[Step], log_probability: float, entropy: float) -> Array:
        """Return the gradient of a weighted sum of the log-probability and the entropy of all steps together."""
        found = np.zeros_like(weights)
        recurrent, width = self._part(weights, "gates"), self._hidden
        d_output, d_cell = np.zeros(width), np.zeros(width)
        for index in range(len(steps) - 1, -1, -1):
            step = steps[index]
            own = step.probabilities
            d_logits = -entropy * own * (np.log(own) + step.entropy) - log_probability * own
            d_logits[step.action] += log_probability
            d_head = d_logits * self._bound / self._temperature * (1 - step.squashed**2)
            self._part(found, f"head {step.name}")[...] += np.outer(d_head, step.output)
            d_output = d_output + d_head @ self._part(weights, f"head {step.name}")
            into, forget, out, new = step.gates.reshape(4, width)
            squashed = np.tanh(step.cell)
            d_cell = d_cell + d_output * out * (1 - squashed**2)
            d_gates = np.concatenate([
                d_cell * new * into * (1 - into),
                d_cell * step.cell_before * forget * (1 - forget),
                d_output * squashed * out * (1 - out),
                d_cell * into * (1 - new**2),
            ])  # fmt: skip
            self._part(found, "gates")[...] += np.outer(d_gates, step.joined)
            self._part(found, "biases")[...] += d_gates
            d_joined = d_gates @ recurrent
            if index:
                before = steps[index - 1]
                self._part(found, f"action {before.name}")[before.action] += d_joined[:width]
            else:
                self._part(found, "start")[...] += d_joined[:width]
            d_output, d_cell = d_joined[width:], d_cell * forget
        return found


class Walk:
    """Decisions taken one after another with the same weights."""

    def __init__(self, policy: Policy, weights: Array) -> None:
        self._policy, self._weights = policy, weights
        self._input = policy._part(weights, "start")
        self._output = self._cell = np.zeros(policy._hidden)
        self.steps: list[Step] = []

    def decide(self, name: str, choose: Callable[[Array], int]) -> int:
        """Take the decision about a parameter; ``choose`` is given the probabilities of its actions."""
        policy, weights, width = self._policy, self._weights, self._policy._hidden
        joined = np.concatenate([self._input, self._output])
        gates = policy._part(weights, "gates") @ joined + policy._part(weights, "biases")
        gates[: 3 * width] = 1 / (1 + np.exp(-gates[: 3 * width]))
        gates[3 * width :] = np.tanh(gates[3 * width :])
        into, forget, out, new = gates.reshape(4, width)
        before, self._cell = self._cell, forget * self._cell + into * new
        self._output = out * np.tanh(self._cell)
        squashed = np.tanh(policy._part(weights, f"head {name}") @ self._output / policy._temperature)
        weighted = np.exp(policy._bound * squashed)
        probabilities = weighted / weighted.sum()
        action = choose(probabilities)
        self.steps.append(
            Step(name, action, joined, before, self._cell, gates, self._output, squashed, probabilities)
        )
        self._input = policy._part(weights, f"action {name}")[action]
        return action


@dataclass(frozen=True)
class Adam:
    """Moments of Adam; a step returns new ones.

    Attributes:
        first, second: Moments.
        steps: Steps taken.
    """

    first: Array
    second: Array
    steps: int = 0

    @classmethod
    def of(cls, weights: Array) -> Adam:
        """Return the moments to begin with."""
        return cls(np.zeros_like(weights), np.zeros_like(weights))

    def ascend(self, weights: Array, gradient: Array, rate: float) -> tuple[Array, Adam]:
        """Return the weights after a step up the gradient, and the moments after it."""
        steps = self.steps + 1
        first = BETAS[0] * self.first + (1 - BETAS[0]) * gradient
        second = BETAS[1] * self.second + (1 - BETAS[1]) * gradient**2
        scaled = first / (1 - BETAS[0] ** steps)
        root = np.sqrt(second / (1 - BETAS[1] ** steps))
        return weights + rate * scaled / (root + EPS), Adam(first, second, steps)
