"""Budgets: limits on costs, and how far an architecture is from them."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import Any

from zenopt.core.costs import COST_KINDS, Costs
from zenopt.core.errors import BudgetError

COUNTINGS = ("true", "zennas")
#: What may be limited: every cost, and the latency (in the place it always had: constraints are stored in this order).
LIMITS = (*list(COST_KINDS)[:3], "latency_ms", *list(COST_KINDS)[3:])


class Budget:
    """Limits on costs; what is not named is not limited. Immutable and hashable.

    Args:
        counting:
            Whose params and MACs are limited: ``"true"`` counts or ``"zennas"``'s own.
        limits:
            A positive number for any of :data:`LIMITS`; ``None`` is no limit. The costs are described in
            :data:`zenopt.core.costs.COST_KINDS`; ``latency_ms`` is the most milliseconds per image on the device the
            study names. Give the latency that is to be kept: a safety margin is applied by whoever makes the budget, so
            that violations are relative to the limit searched to.

    Raises:
        BudgetError: If a limit is unknown or not positive, or ``counting`` is unknown.

    Example:
        .. code-block:: python

            Budget(params=1e6, macs=100e6)
    """

    __slots__ = ("_limits", "counting")

    counting: str
    _limits: dict[str, float]

    def __init__(self, *, counting: str = "true", **limits: float | None) -> None:
        if counting not in COUNTINGS:
            raise BudgetError(f"budget.counting must be one of {', '.join(COUNTINGS)}; got {counting!r}.")
        unknown = [name for name in limits if name not in LIMITS]
        if unknown:
            raise BudgetError(f"budget.{unknown[0]} is no cost; allowed: {', '.join(LIMITS)}.")
        for name, limit in limits.items():
            if limit is not None and not limit > 0:
                raise BudgetError(f"budget.{name} must be a positive number, got {limit!r}.")
        # In the order of the costs, whatever the order of the arguments.
        found = {name: value for name in LIMITS if (value := limits.get(name)) is not None}
        object.__setattr__(self, "_limits", found)
        object.__setattr__(self, "counting", counting)

    def __getattr__(self, name: str) -> float | None:
        """Return the limit of a name; ``None`` is no limit."""
        if name not in LIMITS:
            raise AttributeError(f"'Budget' object has no attribute {name!r}")
        return self._limits.get(name)

    def limits(self) -> dict[str, float]:
        """Return the limits that are set, by name."""
        return dict(self._limits)

    def with_limits(self, **limits: float | None) -> Budget:
        """Return the budget with some limits set, or lifted by ``None``."""
        return Budget(counting=self.counting, **{**self._limits, **limits})

    def violations(self, costs: Costs, latency_ms: float | None = None) -> dict[str, float]:
        """Return the signed relative violation of each limit, ``(used - limit) / limit``; feasible when <= 0.

        Args:
            costs:
                Costs of the architecture.
            latency_ms:
                Its latency; needed if there is a latency limit.

        Raises:
            BudgetError: If the latency or a recorded cost is needed and missing.
        """
        if latency_ms is None and "latency_ms" in self._limits:
            raise BudgetError("budget.latency_ms is set but no latency of the architecture is known.")
        params, macs = costs.counted(self.counting)
        own = {"params": params, "macs": macs, "latency_ms": latency_ms or 0.0}
        violations = {}
        for name, limit in self._limits.items():
            used: float = own[name] if name in own else getattr(costs, name)
            if isnan(used):
                raise BudgetError(
                    f"budget.{name} is set but nothing records that cost of the architectures of this space."
                )
            excess = limit - used if is_lower_limit(name) else used - limit
            violations[name] = excess / limit
        return violations

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("A budget cannot be changed; see with_limits().")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Budget) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        limits = ", ".join(f"{name}={limit:g}" for name, limit in self._limits.items())
        counting = "" if self.counting == "true" else f"{', ' if limits else ''}counting={self.counting!r}"
        return f"Budget({limits}{counting})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.counting, dict(self._limits))

    def _key(self) -> tuple[Any, ...]:
        return (self.counting, *self._limits.items())


def _restored(counting: str, limits: dict[str, float]) -> Budget:
    return Budget(counting=counting, **limits)


def is_lower_limit(name: str) -> bool:
    """Return whether a limit is a least value rather than a largest one."""
    return name in COST_KINDS and COST_KINDS[name].is_lower


def is_feasible(violations: Mapping[str, float]) -> bool:
    """Return whether no violation is positive."""
    return all(violation <= 0 for violation in violations.values())
