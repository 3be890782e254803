"""A monotone scale on which accuracies behave: the power of the distance to a ceiling, Box & Cox, "An Analysis of
Transformations", JRSS B 26, 1964.

Accuracies crowd below a ceiling and trail off below: a point at the top is worth much, ten at the bottom nothing. With
the gap g = (ceiling - y) / (ceiling - median), the scale is z = (1 - g^p) / p, or -ln g for p = 0; p = 1 leaves y as
it is, a larger power stretches the bottom. Which power holds is decided by evidence: the likelihood of y is that of z
times dz/dy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zenopt.core.errors import PredictorError

Array = NDArray[np.float64]

#: (power, margin) that are compared; the margin of the ceiling above the best value in units of best minus median.
SHAPES = ((1 / 3, 0.3), (0.0, 0.3), (2 / 3, 0.3), (1.0, 0.3), (1.5, 0.3), (0.0, 0.1))
#: Gaps below this share are held there: a value at or above the ceiling has no place on the scale.
SMALLEST_GAP = 1e-3


@dataclass(frozen=True)
class Warp:
    """A scale, and its standardisation: warped values of what it was made of have mean 0 and deviation 1.

    Attributes:
        power: p; 0 is the logarithm.
        margin: How far the ceiling is above the best value, in units of best minus median.
        ceiling: Where the gap is 0, in units of the values; with p = 0 it is never reached.
        unit: Ceiling minus median.
        mean, scale: Of z.
    """

    power: float
    margin: float
    ceiling: float
    unit: float
    mean: float
    scale: float

    @classmethod
    def of(cls, values: Array, power: float, margin: float) -> Warp:
        """Make the scale of some values, higher is better."""
        if values.size < 1 or not np.isfinite(values).all():
            raise PredictorError("A scale needs values, all of them finite.")
        best, median = float(values.max()), float(np.median(values))
        # Where most values are equal the median is no measure of spread.
        spread = max(best - median, float(values.std()), 1e-9 * (1.0 + abs(best)))
        unit = spread * (1.0 + margin)
        bare = cls(power, margin, best + margin * spread, unit, 0.0, 1.0)
        z = bare.forward(values)
        return cls(power, margin, bare.ceiling, unit, float(z.mean()), float(z.std()) or 1.0)

    def forward(self, values: Array) -> Array:
        """Return values on the scale, standardised."""
        gap = np.maximum((self.ceiling - values) / self.unit, SMALLEST_GAP)
        z = -np.log(gap) if self.power == 0.0 else (1.0 - gap**self.power) / self.power
        return np.asarray((z - self.mean) / self.scale, dtype=np.float64)

    def inverse(self, warped: Array) -> Array:
        """Return what has these places on the scale, which goes on beyond the ceiling as it came to it."""
        z = np.asarray(warped) * self.scale + self.mean
        if self.power == 0.0:
            gap = np.exp(np.clip(-z, -700.0, 700.0))
        else:
            root = 1.0 - self.power * z
            gap = np.sign(root) * np.abs(root) ** (1.0 / self.power)
        return np.asarray(self.ceiling - self.unit * gap, dtype=np.float64)

    def log_slope(self, values: Array) -> Array:
        """Return ln dz/dy, standardisation included: what a likelihood of z gains to be one of y."""
        gap = np.maximum((self.ceiling - values) / self.unit, SMALLEST_GAP)
        slope = (self.power - 1.0) * np.log(gap) - np.log(self.unit) - np.log(self.scale)
        return np.asarray(slope, dtype=np.float64)
