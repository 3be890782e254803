"""Predicted latency of an architecture, in microseconds per candidate of a search.

Times are summed over super-blocks and kept per (block, input size) on the profile, so that a mutated candidate costs
only its new blocks. Timed networks have their residual links (Zen-NAS drops them only to score).
"""

from __future__ import annotations

from typing import Any

from zenopt.architecture import Block
from zenopt.errors import DeviceError
from zenopt.latency.operations import block_operations, head_operations
from zenopt.latency.profile import DeviceProfile, load_profile
from zenopt.lowering import block_out_size, check_positive

MAX_CACHED_BLOCKS = 200_000


def predict_latency_ms(
    architecture: Any,
    profile: DeviceProfile | str,
    resolution: int,
    num_classes: int = 1000,
    use_se: bool = False,
    *,
    any_resolution: bool = False,
) -> float:
    """Predicts the latency of an architecture.

    Args:
        architecture:
            A chain of super-blocks.
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
        DeviceError: If the profile is unusable or speaks about other resolutions.
        StructureError: If a number is not positive.
    """
    profile = load_profile(profile)
    check_resolution(profile, resolution, any_resolution)
    check_positive(num_classes=num_classes)
    total = profile.predictor.constant_ms
    size = resolution
    for block in architecture.blocks:
        total += block_latency_ms(profile, block, size, use_se)
        size = block_out_size(block, size)
    return total + head_latency_ms(profile, architecture.out_channels, size, num_classes)


def block_latency_ms(profile: DeviceProfile, block: Block, in_size: int, use_se: bool = False) -> float:
    """Returns the milliseconds per image that a super-block takes at an input size; cached on the profile."""
    key = (block, in_size, use_se)
    cache = profile.cache
    if key not in cache:
        _make_room(cache)
        cache[key] = sum(profile.predictor.operation_times(block_operations(block, in_size, use_se)))
    return float(cache[key])


def head_latency_ms(profile: DeviceProfile, width: int, size: int, num_classes: int) -> float:
    """Returns the milliseconds per image of global pooling and the classifier; cached on the profile."""
    key = (width, size, num_classes)
    cache = profile.cache
    if key not in cache:
        _make_room(cache)
        cache[key] = sum(profile.predictor.operation_times(head_operations(width, size, num_classes)))
    return float(cache[key])


def check_resolution(profile: DeviceProfile, resolution: int, any_resolution: bool = False) -> None:
    """Refuses resolutions that a profile does not speak about, unless asked.

    Raises:
        DeviceError: If the resolution is outside the profile's and ``any_resolution`` is false.
        StructureError: If it is not a positive integer.
    """
    check_positive(resolution=resolution)
    lowest, highest = profile.resolutions
    if not any_resolution and not lowest <= resolution <= highest:
        spoken = f"resolution {lowest}" if lowest == highest else f"resolutions {lowest} to {highest}"
        raise DeviceError(
            f"Device profile {profile.name} speaks about {spoken}, got {resolution}; "
            f"ask for it with any_resolution (--any-resolution) if a rough number will do."
        )


def _make_room(cache: dict[Any, Any]) -> None:
    if len(cache) >= MAX_CACHED_BLOCKS:
        cache.clear()
