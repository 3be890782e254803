"""Axes that can be read: ranges that outliers do not stretch, logarithmic ticks as full numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Largest share of the values on each side that may be left outside.
_OUTSIDE = 0.05
#: Distances of the quartiles beyond which a value is an outlier (Tukey's outer fence).
_FENCE = 3.0
_ROOM = 0.05
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, eq=False)
class Scale:
    """The range of an axis, and where values beyond it are drawn.

    Attributes:
        low, high: Ends of the axis.
        at_low, at_high: Where what lies beyond an end is drawn.
    """

    low: float
    high: float

    @property
    def at_low(self) -> float:
        """Just inside the lower end."""
        return self.low + 0.012 * (self.high - self.low)

    @property
    def at_high(self) -> float:
        """Just inside the upper end."""
        return self.high - 0.012 * (self.high - self.low)

    def outside(self, values: np.ndarray) -> np.ndarray:
        """Return which values lie beyond the ends."""
        return np.asarray((values < self.low) | (values > self.high))

    def inside(self, values: np.ndarray) -> np.ndarray:
        """Return the values with those beyond an end put just inside it."""
        moved = np.where(values < self.low, self.at_low, values)
        return np.where(values > self.high, self.at_high, moved)


def robust_scale(values: np.ndarray, keep: np.ndarray | tuple[float, ...] = ()) -> Scale | None:
    """Return an axis for values of which a few may be outliers.

    At most one in twenty values on each side is left outside, and only if it lies three quartile distances beyond the
    quartiles.

    Args:
        values:
            What is drawn; what is not finite is ignored.
        keep:
            Values that the axis must show, whatever the others are.

    Returns:
        The axis; ``None`` where there is nothing to show.
    """
    known = values[np.isfinite(values)]
    kept = np.asarray(keep, dtype=float)
    kept = kept[np.isfinite(kept)]
    if not len(known):
        return None
    first, third = np.quantile(known, (0.25, 0.75))
    reach = _FENCE * (third - first)
    lower = min(first - reach, np.quantile(known, _OUTSIDE, method="higher"))
    upper = max(third + reach, np.quantile(known, 1 - _OUTSIDE, method="lower"))
    shown = known[(known >= lower) & (known <= upper)] if reach > 0 else known
    shown = np.concatenate((shown, kept))
    low, high = float(shown.min()), float(shown.max())
    room = _ROOM * (high - low) or 0.1 * abs(high) or 1.0
    return Scale(low - room, high + room)


def short(value: float) -> str:
    """Return a number as briefly as it can be read: 200k, 1.5M, 0.25."""
    rounded = float(f"{value:.4g}")
    for size, unit in _UNITS:
        if abs(rounded) >= size:
            return f"{rounded / size:g}{unit}"
    return f"{rounded:g}"


def log_ticks(low: float, high: float) -> dict[str, Any]:
    """Return ticks of a logarithmic plotly axis, each written as a full number.

    Args:
        low, high:
            Smallest and largest value, above 0.
    """
    decades = math.log10(high / low) if high > low > 0 else 0.0
    steps: tuple[float, ...] = (1, 2, 5) if decades <= 3 else (1,)
    if decades < 0.8:
        steps = (1, 1.5, 2, 3, 4, 5, 6, 8)
    first, last = math.floor(math.log10(max(low, 1e-12))), math.ceil(math.log10(max(high, low, 1e-12)))
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001] or [low]
    return {
        "type": "log",
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": [short(float(f"{tick:.3g}")) for tick in ticks],
    }
