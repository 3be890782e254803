"""What a model has seen: ranges of convolutions, and which convolutions of a network lie outside.

A search drifts towards whatever its model prices too low, and that is mostly what the model never saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from zenopt.latency.kernelmodel import KernelModel
from zenopt.latency.operations import Operation
from zenopt.latency.profile import DeviceProfile

#: Quantities of a convolution whose ranges a fitted profile keeps.
QUANTITIES = ("channels", "channel_ratio", "kernel", "depthwise_kernel", "in_size")


def measured_ranges(networks: Iterable[Sequence[Operation]]) -> dict[str, list[float]]:
    """Return ``[lowest, highest]`` of each quantity over all convolutions of the networks."""
    found: dict[str, list[float]] = {}
    for operations in networks:
        for op in operations:
            for name, value in _quantities(op).items():
                low, high = found.get(name, [value, value])
                found[name] = [min(low, value), max(high, value)]
    return {name: [float(f"{low:.4g}"), float(f"{high:.4g}")] for name, (low, high) in found.items()}


def outside_quantities(op: Operation, profile: DeviceProfile) -> list[str]:
    """Return which quantities of an operation its profile has not seen; empty for what is no convolution."""
    model = profile.predictor
    if isinstance(model, KernelModel):
        if op.kind != "conv" or op.out_size == 1:
            return []
        (kernel,) = model.kernels([op])
        return model.library.outside(kernel) if kernel is not None else []
    return [
        name
        for name, value in _quantities(op).items()
        if name in profile.validity and not _within(value, profile.validity[name])
    ]


def _within(value: float, limits: tuple[float, float]) -> bool:
    # A hair of slack: ranges are stored with four digits.
    return limits[0] * 0.999 <= value <= limits[1] * 1.001


def _quantities(op: Operation) -> Mapping[str, float]:
    # Convolutions on single pixels belong to squeeze-excite gates; launches dominate them, whatever their width.
    if op.kind != "conv" or op.out_size == 1:
        return {}
    if op.is_depthwise:
        return {"channels": op.out_channels, "depthwise_kernel": op.kernel, "in_size": op.in_size}
    values = {"channels": float(op.out_channels), "kernel": op.kernel, "in_size": op.in_size}
    if op.in_channels > 3:
        values["channel_ratio"] = op.out_channels / op.in_channels
    return values
