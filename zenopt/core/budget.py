"""Budgets: upper limits on costs, and how far an architecture is from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import isnan

from zenopt.core.costs import Costs
from zenopt.core.errors import BudgetError

COUNTINGS = ("true", "zennas")


@dataclass(frozen=True)
class Budget:
    """Limits on costs; ``None`` means no limit.

    Args:
        params:
            Most parameters.
        macs:
            Most multiply-adds per image.
        layers:
            Largest sum of block depths (ZenNAS's layer count).
        latency_ms:
            Most milliseconds per image, on the device the study names. Give the limit that is to be kept: a safety
            margin is applied by whoever makes the budget, so that violations are relative to the limit searched to.
        convs:
            Most main-path convolutions.
        min_width:
            Fewest channels any main-path convolution may have (a lower limit).
        depth_to_width:
            Largest ratio of convolutions to geometric-mean fan-in.
        counting:
            Whose params and MACs are limited: ``"true"`` counts or ``"zennas"``'s own.

    Raises:
        BudgetError: If a limit is not positive or ``counting`` is unknown.
    """

    params: float | None = None
    macs: float | None = None
    layers: float | None = None
    latency_ms: float | None = None
    convs: float | None = None
    min_width: float | None = None
    depth_to_width: float | None = None
    counting: str = "true"

    def __post_init__(self) -> None:
        if self.counting not in COUNTINGS:
            raise BudgetError(
                f"budget.counting must be one of {', '.join(COUNTINGS)}; got {self.counting!r}."
            )
        for name, limit in self.limits().items():
            if not limit > 0:
                raise BudgetError(f"budget.{name} must be a positive number, got {limit!r}.")

    def limits(self) -> dict[str, float]:
        """Returns the limits that are set, by name."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name != "counting" and getattr(self, field.name) is not None
        }

    def violations(self, costs: Costs, latency_ms: float | None = None) -> dict[str, float]:
        """Returns the signed relative violation of each limit, ``(used - limit) / limit``; feasible when <= 0.

        Args:
            costs:
                Costs of the architecture.
            latency_ms:
                Its latency; needed if there is a latency limit.

        Raises:
            BudgetError: If the latency or a recorded cost is needed and missing.
        """
        params, macs = costs.counted(self.counting)
        used: dict[str, float] = {
            "params": params,
            "macs": macs,
            "layers": costs.layers,
            "convs": costs.convs,
            "depth_to_width": costs.depth_to_width,
        }
        violations = {}
        for name, limit in self.limits().items():
            if name == "min_width":
                violations[name] = (limit - costs.min_width) / limit
                continue
            if name == "latency_ms":
                if latency_ms is None:
                    raise BudgetError("budget.latency_ms is set but no latency of the architecture is known.")
                used[name] = latency_ms
            violations[name] = (used[name] - limit) / limit
        unknown = [name for name, violation in violations.items() if isnan(violation)]
        if unknown:
            raise BudgetError(
                f"budget.{unknown[0]} is set but nothing records that cost of the architectures of this space."
            )
        return violations


def is_feasible(violations: Mapping[str, float]) -> bool:
    """Returns whether no violation is positive."""
    return all(violation <= 0 for violation in violations.values())
