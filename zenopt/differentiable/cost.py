"""The cost of every operation on its edges, and the expected cost of a mixture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from zenopt.differentiable.network import Mixture
from zenopt.differentiable.settings import Cost
from zenopt.spaces.opened import OpenNetwork


@dataclass(frozen=True)
class CostTable:
    """Costs of one kind.

    Attributes:
        fixed: Of everything but the open operations.
        operations: What each operation of a choice adds to it.
    """

    fixed: float
    operations: dict[str, tuple[float, ...]]

    @classmethod
    def measured(cls, opened: OpenNetwork, measure: Callable[[Any], float]) -> CostTable:
        """Take costs from architectures with a single operation.

        Params and MACs of a cell add up so; latencies do where the profile's model is a sum over layers.

        Args:
            opened:
                The search network.
            measure:
                Returns the cost of an architecture: its latency by a device profile, its MACs, ...
        """
        fixed = measure(opened.only())
        return cls(
            fixed,
            {
                choice: tuple(measure(opened.only(choice, operation)) - fixed for operation in operations)
                for choice, operations in opened.choices.items()
            },
        )

    def expected(self, mixture: Mixture) -> torch.Tensor:
        """Return the expected cost of a mixture; gradients reach its weights."""
        parts = [
            (weights.values * weights.values.new_tensor(self.operations[choice])).sum()
            for choice, weights in mixture.items()
        ]
        return self.fixed + torch.stack(parts).sum()

    @property
    def dearest(self) -> float:
        """The largest cost of a mixture."""
        return self.fixed + sum(map(max, self.operations.values()))


def with_cost(loss: torch.Tensor, table: CostTable, mixture: Mixture, options: Cost) -> torch.Tensor:
    """Return a loss with the term for the expected cost."""
    cost = table.expected(mixture)
    if options.form == "multiply":
        # FBNet's latencies are microseconds; ours are milliseconds.
        scaled = 1000 * cost if options.kind == "latency_ms" else cost
        return loss * options.weight * scaled.log() ** options.power
    return loss + options.weight * cost / table.dearest
