"""Latency of candidates on the device at hand, while a search runs.

Three prices: a prediction costs microseconds and screens; the block table measures what is new in a candidate (one or
two blocks, a fraction of a second) for those that survive; a whole network is measured for finalists.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from zenopt.errors import DeviceError
from zenopt.latency.cache import MeasurementCache
from zenopt.latency.measure import DoesNotFitError, MeasureOptions, measure_architecture
from zenopt.latency.predict import predict_latency_ms
from zenopt.latency.profile import DeviceProfile
from zenopt.latency.table import fill_block_table


@dataclass
class LiveLatency:
    """Measures candidates, and remembers.

    Args:
        options:
            How networks are run.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether squeeze-excite gates are built.
        profile:
            A profile calibrated on this device, for :meth:`screened_ms` and :meth:`tabled_ms`.
        cache:
            Where measurements are kept, shared by all workers of a search.
    """

    options: MeasureOptions
    num_classes: int = 1000
    use_se: bool = False
    profile: DeviceProfile | None = None
    cache: MeasurementCache | None = None

    def screened_ms(self, architecture: Any) -> float:
        """Predicts, measuring nothing; milliseconds per image."""
        return predict_latency_ms(
            architecture, self._profile(), self.options.resolution, self.num_classes, self.use_se
        )

    def tabled_ms(self, architecture: Any) -> float:
        """Measures the blocks that are new, then adds up; infinite if one does not fit in memory."""
        try:
            fill_block_table(
                self._profile(),
                architecture,
                self.options.resolution,
                self.num_classes,
                self.use_se,
                cache=self.cache,
            )
        except DoesNotFitError:
            return math.inf
        return self.screened_ms(architecture)

    def measured_ms(self, architecture: Any) -> float:
        """Measures the whole network; infinite if it does not fit in memory, so that a search goes on."""
        try:
            return measure_architecture(
                architecture, self.options, num_classes=self.num_classes, use_se=self.use_se, cache=self.cache
            ).latency_ms
        except DoesNotFitError:
            return math.inf

    def _profile(self) -> DeviceProfile:
        if self.profile is None:
            raise DeviceError(
                "Predicting needs a profile of this device: zenopt latency calibrate --output FILE."
            )
        return self.profile
