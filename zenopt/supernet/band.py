"""Bands: lowest and highest costs of the paths that a supernet is trained on, besides the study's budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from zenopt.core.budget import LIMITS
from zenopt.core.errors import BudgetError
from zenopt.core.text import quoted
from zenopt.latency.limits import Check, Limits

#: Cost -> its lowest and highest value.
Band = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class BandLimits:
    """Limits of a study together with a band; checked as limits alone are.

    Args:
        limits:
            A budget, which may have no limits, at a resolution.
        band:
            Costs, counted as the budget counts them, with their lowest and highest values.

    Raises:
        BudgetError: If a cost is unknown or cannot be told, or a band is none.
    """

    limits: Limits
    band: Band

    def __post_init__(self) -> None:
        for name, (low, high) in self.band.items():
            if name not in LIMITS:
                raise BudgetError(f"band {quoted(name)} is no cost; allowed: {', '.join(LIMITS)}.")
            if not (0 <= low < high and isfinite(high)):
                raise BudgetError(f"band {name}={low:g}:{high:g} must be two numbers, 0 <= LOW < HIGH.")
            if name == "latency_ms" and self.limits.device is None:
                raise BudgetError("band latency_ms needs a device of the study: --set latency.device=NAME.")

    def check(self, architecture: Any) -> Check:
        """Return costs and violations of an architecture: the budget's, and those of the band's two ends."""
        check = self.limits.check(architecture)
        violations = dict(check.violations)
        for name, used in self.costs(check).items():
            low, high = self.band[name]
            violations[f"{name} at least"] = (low - used) / high
            violations[f"{name} at most"] = (used - high) / high
        return Check(check.costs, check.latency_ms, violations)

    def costs(self, check: Check) -> dict[str, float]:
        """Return the banded costs of an architecture that was checked.

        Raises:
            BudgetError: If nothing records one of them.
        """
        return self.limits.used(check, self.band)


def read_band(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Read a band of texts such as ``macs=190e6:330e6``.

    Raises:
        BudgetError: If a text is another, or two are of one cost.
    """
    found: dict[str, tuple[float, float]] = {}
    for text in texts:
        name, _, ends = text.partition("=")
        low, _, high = ends.partition(":")
        try:
            pair = float(low), float(high)
        except ValueError:
            raise BudgetError(f"band {quoted(text)} is no COST=LOW:HIGH, e.g. macs=190e6:330e6.") from None
        if name in found:
            raise BudgetError(f"band {name} is given twice.")
        found[name] = pair
    return found
