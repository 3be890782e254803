"""Latency of candidates on the device at hand, while a search runs and when it ends.

Three prices: a prediction costs microseconds and screens; the block table measures what is new in a candidate (one or
two blocks, a fraction of a second) for those that survive; whole networks are measured for finalists.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from zenopt.core.errors import DeviceError
from zenopt.core.progress import SILENT, Progress
from zenopt.latency.cache import MeasurementCache
from zenopt.latency.fill import TableFiller, difference_from_here, profile_options
from zenopt.latency.measure import measure_architecture
from zenopt.latency.options import MeasureOptions
from zenopt.latency.parts import Network
from zenopt.latency.predict import predict_latency_ms
from zenopt.latency.profile import DeviceProfile
from zenopt.latency.runners import DoesNotFitError
from zenopt.latency.visits import Bench, Visitor, combined_ms, scatter_of, standard_error_of, visit_in_turn

#: Time limit of a candidate that is measured whole during a search.
CANDIDATE_SECONDS = 3.0
FINALIST_VISITS = 16
#: Finalists of a slow device get fewer visits, but at least three each.
FINALIST_SECONDS = 60.0


@dataclass(frozen=True)
class FinalistLatency:
    """Measured latency of a whole network.

    Attributes:
        latency_ms: Milliseconds per image, what its visits agree on; infinite if it does not fit in memory.
        standard_error: Relative standard error of it.
        visits: How many visits.
    """

    latency_ms: float
    standard_error: float
    visits: int


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
        visitor:
            What visits blocks and finalists; a bench of its own if not given.
    """

    options: MeasureOptions
    num_classes: int = 1000
    use_se: bool = False
    profile: DeviceProfile | None = None
    cache: MeasurementCache | None = None
    visitor: Visitor | None = None

    @classmethod
    def of_profile(
        cls,
        profile: DeviceProfile,
        num_classes: int,
        use_se: bool = False,
        cache: MeasurementCache | None = None,
    ) -> LiveLatency:
        """Return one that runs networks as they were run when the profile was calibrated.

        Raises:
            DeviceError: If it was not calibrated, or on other hardware or versions.
        """
        difference = difference_from_here(profile)
        if difference is not None:
            raise DeviceError(difference)
        options = profile_options(profile)
        if "max_seconds" not in profile.environment["options"]:
            options = profile_options(profile, max_seconds=CANDIDATE_SECONDS)
        return cls(options, num_classes, use_se, profile, cache)

    @property
    def statistic(self) -> str:
        """What is taken of the runs of a measurement: ``"median"`` or ``"minimum"``."""
        return "median" if self.profile is None else str(self.profile.environment.get("statistic", "median"))

    def screened_ms(self, architecture: Any) -> float:
        """Predicts, measuring nothing; milliseconds per image."""
        return predict_latency_ms(
            architecture, self._known_profile(), self.options.resolution, self.num_classes, self.use_se
        )

    def tabled_ms(self, architecture: Any) -> float:
        """Measure the blocks that are new, then add up; infinite if one does not fit in memory."""
        try:
            self._filler.fill(architecture, self.options.resolution, self.num_classes, self.use_se)
        except DoesNotFitError:
            return math.inf
        return self.screened_ms(architecture)

    def measured_ms(self, architecture: Any) -> float:
        """Measure the whole network; infinite if it does not fit in memory, so that a search goes on."""
        try:
            return measure_architecture(
                architecture, self.options, num_classes=self.num_classes, use_se=self.use_se, cache=self.cache
            ).per_image_ms(self.statistic)
        except DoesNotFitError:
            return math.inf

    def finalists(
        self,
        architectures: Sequence[Any],
        *,
        visits: int = FINALIST_VISITS,
        progress: Progress = SILENT,
    ) -> list[FinalistLatency]:
        """Measure whole networks in turn, again and again; nothing is read from the cache.

        Args:
            architectures:
                The networks.
            visits:
                Visits of each.
            progress:
                Is told of every visit.
        """
        networks = [
            Network(architecture, self.options.resolution, self.num_classes, self.use_se)
            for architecture in architectures
        ]
        series = visit_in_turn(self._bench, networks, visits, FINALIST_SECONDS, progress)
        scatter = scatter_of(series.values())
        return [
            FinalistLatency(combined_ms(times), standard_error_of(scatter, len(times)), len(times))
            if (times := series[network])
            else FinalistLatency(math.inf, 0.0, 0)
            for network in networks
        ]

    @cached_property
    def _bench(self) -> Visitor:
        return self.visitor or Bench(self.options, self.statistic)

    @cached_property
    def _filler(self) -> TableFiller:
        return TableFiller(self._known_profile(), cache=self.cache, visitor=self._bench)

    def _known_profile(self) -> DeviceProfile:
        if self.profile is None:
            raise DeviceError(
                "Predicting needs a profile of this device: zenopt latency calibrate --output FILE."
            )
        return self.profile
