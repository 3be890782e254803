"""A budget at a resolution on a device: settles an architecture in microseconds, without any tensor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import inf, isfinite, isnan, nan
from typing import Any

from zenopt.core.budget import Budget, is_feasible
from zenopt.core.costs import Costs, count
from zenopt.core.errors import BudgetError
from zenopt.latency.guards import Guards, guard_violations
from zenopt.latency.predict import predict_latency_ms
from zenopt.latency.profile import DeviceProfile

#: Violation of what cannot run at all; storages keep no infinity.
LARGEST_VIOLATION = 1e9


@dataclass(frozen=True)
class Check:
    """What the budget says of one architecture.

    Attributes:
        costs: Its costs.
        latency_ms: Its predicted latency per image, if a device is given.
        violations: Signed relative violation of each limit.
    """

    costs: Costs
    latency_ms: float | None
    violations: dict[str, float] = field(hash=False)

    @property
    def is_feasible(self) -> bool:
        """Whether no limit is exceeded."""
        return is_feasible(self.violations)


@dataclass(frozen=True)
class Limits:
    """A budget with what is needed to check it.

    Args:
        budget:
            The limits searched to; a latency margin has been applied already.
        resolution:
            Side of the square input image in pixels.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether squeeze-excite gates are counted.
        device:
            Profile that predicts the latency; needed for a latency limit.
        guards:
            What keeps the search from exploiting that profile; their violations are constraints like the budget's.
        full_latency_ms:
            The latency limit without margin, for the guard that holds it against a second profile.

    Example:
        .. code-block:: python

            limits = Limits(Budget(params=1e6), resolution=32, num_classes=100)
            limits.check(architecture).is_feasible
    """

    budget: Budget
    resolution: int
    num_classes: int = 1000
    use_se: bool = False
    device: DeviceProfile | None = None
    guards: Guards | None = None
    full_latency_ms: float | None = None

    def check(self, architecture: Any) -> Check:
        """Return costs and violations of an architecture."""
        costs = self.count(architecture)
        latency_ms = self.latency_ms(architecture)
        violations = self.budget.violations(costs, latency_ms)
        if self.guards is not None and self.device is not None:
            violations.update(
                guard_violations(
                    architecture,
                    self.device,
                    self.resolution,
                    self.num_classes,
                    self.use_se,
                    guards=self.guards,
                    limit_ms=self.full_latency_ms,
                )
            )
        return Check(costs, latency_ms, violations)

    def used(self, check: Check, names: Iterable[str]) -> dict[str, float]:
        """Return some costs of an architecture that was checked, counted as the budget counts them.

        Raises:
            BudgetError: If nothing records one of them.
        """
        params, macs = check.costs.counted(self.budget.counting)
        latency = nan if check.latency_ms is None else check.latency_ms
        own = {"params": params, "macs": macs, "latency_ms": latency}
        found: dict[str, float] = {
            name: own[name] if name in own else getattr(check.costs, name) for name in names
        }
        for name, value in found.items():
            if isnan(value):
                raise BudgetError(f"Nothing records {name} of the networks of this space.")
        return found

    @property
    def needs_check(self) -> bool:
        """Whether there are limits that costs alone do not tell: a latency, or guards."""
        return self.budget.latency_ms is not None or self.guards is not None

    def keeps(self, costs: Costs) -> bool:
        """Return whether costs keep the budget; latency, which costs do not tell, is left out."""
        return is_feasible(self.budget.with_limits(latency_ms=None).violations(costs))

    def unlimited(self) -> Limits:
        """Return these limits without any: what is left counts and predicts."""
        return replace(self, budget=Budget(), guards=None)

    def with_latency(self, check: Check, latency_ms: float) -> Check:
        """Return a check with another latency, e.g. a measured one; infinity stands for not running at all."""
        violations = dict(check.violations)
        if self.budget.latency_ms is not None:
            limit = self.budget.latency_ms
            violations["latency_ms"] = min((latency_ms - limit) / limit, LARGEST_VIOLATION)
        return Check(check.costs, latency_ms if isfinite(latency_ms) else None, violations)

    def count(self, architecture: Any) -> Costs:
        """Return the costs of an architecture."""
        return count(architecture, self.resolution, self.num_classes, use_se=self.use_se)

    def latency_ms(self, architecture: Any) -> float | None:
        """Return the predicted latency per image, or ``None`` without a device."""
        if self.device is None:
            return None
        return predict_latency_ms(architecture, self.device, self.resolution, self.num_classes, self.use_se)

    def closest_fit(self, space: Any, architecture: Any) -> Any:
        """Return the architecture, shrunk step by step until it fits the budget.

        Args:
            space:
                A space with a ``shrink`` method.
            architecture:
                Where to begin.

        Raises:
            BudgetError: If none of them fits; names the limit that the closest one misses by most.
        """
        candidate, name, nearest = architecture, "", inf
        while candidate is not None:
            violations = self.check(candidate).violations
            if is_feasible(violations):
                return candidate
            # Cutting widths worsens some costs (min_width, depth_to_width), so the smallest need not be the closest.
            worst, violation = max(violations.items(), key=lambda item: item[1])
            if violation < nearest:
                name, nearest = worst, violation
            candidate = space.shrink(candidate)
        limit = self.budget.limits().get(name)
        which = f"guard {name}" if limit is None else f"budget.{name} = {limit:g}"
        raise BudgetError(
            f"No architecture fits {which}: the initial structure, shrunk as far as it goes, "
            f"misses it by {nearest:,.1%}."
        )
