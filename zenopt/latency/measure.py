"""Measured latency: warmed up, synchronised, repeated until the median is stable.

Zen-NAS times one unsynchronised forward, which on a GPU measures how fast kernels are queued. Here the device is
synchronised around every run, and what was measured where is stored with the number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import Any

from pydantic import TypeAdapter
from torch import nn

from zenopt.core.files import LATENCY_CACHE, validated
from zenopt.latency.cache import MeasurementCache
from zenopt.latency.environment import environment
from zenopt.latency.options import CLOCKS, MeasureOptions
from zenopt.latency.parts import Network, Subject
from zenopt.latency.runners import explained, prepared
from zenopt.latency.timer import Timing, time_until_stable


@dataclass(frozen=True)
class Measurement:
    """A measured latency.

    Attributes:
        latency_ms: Median milliseconds **per image**.
        batch_ms: Median milliseconds of one forward of the whole batch.
        minimum_ms: Fastest forward of the whole batch.
        spread: Interquartile range over median.
        standard_error: Standard error of the median over the median.
        iterations, seconds, is_stable: See :class:`~zenopt.latency.timer.Timing`.
        options: How it was run.
        environment: Device name, versions, threads.
        is_cached: Whether it was read from the cache.
    """

    latency_ms: float
    batch_ms: float
    minimum_ms: float
    spread: float
    standard_error: float
    iterations: int
    seconds: float
    is_stable: bool
    options: Mapping[str, Any]
    environment: Mapping[str, Any]
    is_cached: bool = False

    def per_image_ms(self, statistic: str = "median") -> float:
        """Return the ``"median"`` or ``"minimum"`` in milliseconds per image."""
        if statistic == "minimum":
            return self.minimum_ms * self.latency_ms / self.batch_ms
        return self.latency_ms

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return asdict(self)


def measure_architecture(
    architecture: Any,
    options: MeasureOptions,
    *,
    num_classes: int = 1000,
    use_se: bool = False,
    cache: MeasurementCache | None = None,
    refresh: bool = False,
) -> Measurement:
    """Measure the latency of an architecture, with its residual links.

    Args:
        architecture:
            What to build and time.
        options:
            How to run it.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether squeeze-excite gates are built.
        cache:
            Where results are looked up and kept; nowhere if ``None``.
        refresh:
            Measure even if the cache knows.

    Raises:
        DeviceError: If the device, number format or runtime is not there.
        DoesNotFitError: If the network does not fit in memory.
    """
    return measure_subject(
        Network(architecture, options.resolution, num_classes, use_se), options, cache=cache, refresh=refresh
    )


def measure_subject(
    subject: Subject, options: MeasureOptions, *, cache: MeasurementCache | None = None, refresh: bool = False
) -> Measurement:
    """Measure a network, a block by itself, or a head; see :func:`measure_architecture`."""
    key = {**subject.identity, **measurement_key(options)}
    known = cache.get(key) if cache is not None and not refresh else None
    if known is not None and cache is not None:
        return replace(validated(_MEASUREMENT, known, cache.path, LATENCY_CACHE), is_cached=True)
    with explained(options):
        module = subject.build()
    measurement = measure_module(module, options, input_shape=subject.input_shape)
    if cache is not None:
        cache.put(key, measurement.to_json())
    return measurement


def measure_module(
    module: nn.Module, options: MeasureOptions, *, input_shape: tuple[int, ...] | None = None
) -> Measurement:
    """Measure any module that takes one tensor; nothing is cached, because a module has no name.

    The module's parameters are converted to the device and number format in place.

    Args:
        module:
            What to time; it is put in inference mode.
        options:
            How to run it.
        input_shape:
            Shape of one input without the batch; an RGB image of ``options.resolution`` if not given.
    """
    with prepared(module, options, input_shape) as run:
        timing = time_until_stable(
            run,
            max_seconds=options.max_seconds,
            min_seconds=options.min_seconds,
            min_iterations=options.min_iterations,
            clock=CLOCKS[options.clock],
        )
        return _measurement(timing, options)


def measurement_key(options: MeasureOptions) -> dict[str, Any]:
    """Return everything about a run that a stored result must agree with; patience is not part of it."""
    content = asdict(options)
    for name in ("max_seconds", "min_seconds", "min_iterations", "threads"):
        del content[name]
    return {"schema": 2, **content, **environment(options)}


_MEASUREMENT = TypeAdapter(Measurement)


def _measurement(timing: Timing, options: MeasureOptions) -> Measurement:
    return Measurement(
        latency_ms=timing.median_ms / options.batch,
        batch_ms=timing.median_ms,
        minimum_ms=timing.minimum_ms,
        spread=timing.spread,
        standard_error=timing.standard_error,
        iterations=timing.iterations,
        seconds=timing.seconds,
        is_stable=timing.is_stable,
        options=asdict(options),
        environment={
            **environment(options),
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        },
    )
