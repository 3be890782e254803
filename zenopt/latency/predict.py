"""Predicted latency of an architecture, in microseconds per candidate of a search.

Times are summed over super-blocks and kept per (block, input size) on the profile, so that a mutated candidate costs
only its new blocks. Timed networks have their residual links (Zen-NAS drops them only to score).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from zenopt.core.description import describe
from zenopt.core.errors import DeviceError
from zenopt.core.lowering import check_positive
from zenopt.latency.operations import Operation
from zenopt.latency.parts import Part, network_parts
from zenopt.latency.profile import DeviceProfile, load_profile

MAX_CACHED_BLOCKS = 200_000
#: A prediction this many times outside the fitted latencies is called an extrapolation.
EXTRAPOLATION = 2.0
#: A network is in range if the convolutions outside take at most this share of its time.
OUTSIDE_SHARE = 0.05


@dataclass(frozen=True)
class Prediction:
    """A predicted latency, and whether to believe it.

    Attributes:
        latency_ms: Milliseconds **per image**.
        profile: Name of the profile.
        device: The device in words.
        model: Kind of its model.
        batch: Images per forward.
        in_range: Whether latency, resolution and convolutions are like those the profile was fitted to.
        warnings: What is not, one line each.
    """

    latency_ms: float
    profile: str
    device: str
    model: str
    batch: int
    in_range: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class OperationLatency:
    """Predicted time of one operation.

    Attributes:
        operation: The operation; ``block`` is the index of its super-block, the head has the index after the last.
        latency_ms: Milliseconds per image; 0 if it is fused into another.
        share: Its part of the whole network, 0 to 1.
    """

    operation: Operation
    latency_ms: float
    share: float


def predict_latency_ms(
    architecture: Any,
    profile: DeviceProfile | str,
    resolution: int,
    num_classes: int = 1000,
    use_se: bool = False,
    *,
    any_resolution: bool = False,
) -> float:
    """Predict the latency of an architecture.

    Args:
        architecture:
            An architecture of any family.
        profile:
            A device profile, its name or its path.
        resolution:
            Side of the square input image in pixels.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether the timed network has squeeze-excite gates.
        any_resolution:
            Predict at resolutions the profile does not speak about, too.

    Returns:
        Milliseconds **per image**, at the batch size of the profile.

    Raises:
        DeviceError: If the profile is unusable or covers other resolutions.
        StructureError: If a number is not positive.
    """
    profile = load_profile(profile)
    check_resolution(profile, resolution, any_resolution)
    check_positive(num_classes=num_classes)
    total = profile.predictor.constant_ms
    for part in network_parts(architecture, resolution, num_classes, use_se):
        total += part_latency_ms(profile, part)
    return total


def predict(
    architecture: Any,
    profile: DeviceProfile | str,
    resolution: int,
    num_classes: int = 1000,
    use_se: bool = False,
    *,
    any_resolution: bool = False,
) -> Prediction:
    """Predict the latency of an architecture and say how far the profile can be trusted with it.

    Args and errors are those of :func:`predict_latency_ms`.
    """
    profile = load_profile(profile)
    latency_ms = predict_latency_ms(
        architecture, profile, resolution, num_classes, use_se, any_resolution=any_resolution
    )
    parts = operation_latencies(architecture, profile, resolution, num_classes, use_se)
    return judged(profile, latency_ms, resolution, parts)


def judged(
    profile: DeviceProfile, latency_ms: float, resolution: int, parts: Sequence[OperationLatency]
) -> Prediction:
    """Return a prediction with what speaks against it, from the times of its operations."""
    from zenopt.latency.ranges import outside_quantities

    warnings = []
    lowest, highest = profile.resolutions
    if not lowest <= resolution <= highest:
        warnings.append(f"resolution {resolution} is outside {lowest} to {highest}")
    if "latency_ms" in profile.validity:
        low, high = profile.validity["latency_ms"]
        if not low / EXTRAPOLATION <= latency_ms <= high * EXTRAPOLATION:
            warnings.append(f"{latency_ms:.3g} ms is far outside the fitted {low:.3g} to {high:.3g} ms")
    outside: dict[str, float] = {}
    for part in parts:
        for name in outside_quantities(part.operation, profile):
            outside[name] = outside.get(name, 0.0) + part.share
    warnings += [
        f"{share:.0%} of the time is in convolutions whose {name} is outside the measured range"
        for name, share in sorted(outside.items(), key=lambda item: -item[1])
        if share > OUTSIDE_SHARE
    ]
    return Prediction(
        latency_ms,
        profile.name,
        profile.device,
        str(profile.model["kind"]),
        profile.batch,
        not warnings,
        tuple(warnings),
    )


def operation_latencies(
    architecture: Any,
    profile: DeviceProfile | str,
    resolution: int,
    num_classes: int = 1000,
    use_se: bool = False,
) -> list[OperationLatency]:
    """Return the predicted time of every layer, in the order of :func:`zenopt.core.lowering.lower`.

    Where a profile knows whole blocks (a measured table), their time is divided among their layers in proportion to
    what its additive model says of them. The constant part of a model belongs to no layer, so shares are of the rest.
    """
    profile = load_profile(profile)
    model = profile.predictor
    timed: list[tuple[Operation, float]] = []
    head = describe(architecture).head_index
    for place, part in enumerate(network_parts(architecture, resolution, num_classes, use_se)):
        # A unit that belongs to the head shares its index.
        index = min(place, head)
        timed += _divided(part.operations(), index, part_latency_ms(profile, part), model)
    return with_shares(timed)


def with_shares(timed: Sequence[tuple[Operation, float]]) -> list[OperationLatency]:
    """Return operations and their times with each one's share of the sum."""
    total = sum(ms for _, ms in timed)
    return [OperationLatency(op, ms, ms / total if total > 0 else 0.0) for op, ms in timed]


def block_latencies(parts: Sequence[OperationLatency]) -> dict[int, tuple[float, float]]:
    """Sum layers to blocks: ``(latency_ms, share)`` by index of the super-block, in order; the head comes last."""
    sums: dict[int, tuple[float, float]] = {}
    for part in parts:
        ms, share = sums.get(part.operation.block, (0.0, 0.0))
        sums[part.operation.block] = (ms + part.latency_ms, share + part.share)
    return dict(sorted(sums.items()))


def part_latency_ms(profile: DeviceProfile, part: Part) -> float:
    """Return the milliseconds per image of a super-block or a head; cached on the profile."""
    cache = profile.cache
    known = cache.get(part)
    if known is None:
        if len(cache) >= MAX_CACHED_BLOCKS:
            cache.clear()
        known = cache[part] = float(profile.predictor.part_ms(part))
    return known


def check_resolution(profile: DeviceProfile, resolution: int, any_resolution: bool = False) -> None:
    """Refuse resolutions that a profile does not speak about, unless asked.

    Raises:
        DeviceError: If the resolution is outside the profile's and ``any_resolution`` is false.
        StructureError: If it is not a positive integer.
    """
    check_positive(resolution=resolution)
    lowest, highest = profile.resolutions
    if not any_resolution and not lowest <= resolution <= highest:
        spoken = f"resolution {lowest}" if lowest == highest else f"resolutions {lowest} to {highest}"
        raise DeviceError(
            f"Device profile {profile.name} covers {spoken}, got {resolution}; "
            f"ask for it with any_resolution (--any-resolution) if a rough number will do."
        )


def check_batch(profile: DeviceProfile, batch: int | None, any_batch: bool = False) -> None:
    """Refuse another batch size than the profile's, unless asked; ``None`` means the profile's own.

    Raises:
        DeviceError: If the batch differs and ``any_batch`` is false.
    """
    if batch is not None and batch != profile.batch and not any_batch:
        raise DeviceError(
            f"Device profile {profile.name} covers batch {profile.batch}, got {batch}; "
            f"ask for it with any_batch (--any-batch) if the time per image at batch {profile.batch} will do."
        )


def _divided(
    operations: Sequence[Operation], index: int, whole: float, model: Any
) -> list[tuple[Operation, float]]:
    times = model.operation_times(operations)
    total = sum(times)
    scale = whole / total if total > 0 else 0.0
    return [(replace(op, block=index), ms * scale) for op, ms in zip(operations, times, strict=True)]
