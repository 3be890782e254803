"""Convolution kernels of a device: an analytic time, corrected by boosted trees; pure Python to evaluate.

The analytic part is a launch plus a roofline with tile quantisation, partly filled tiles at few channels, and too few
tiles to fill the device. It extrapolates sensibly; trees on the logarithm of the residual then learn what the library's
choice of algorithms does within the measured range. Both are fitted by ``benchmarks/latency_profiles.py``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, exp, log
from pathlib import Path
from typing import Any, NamedTuple

from zenopt.core.errors import DeviceError, UnknownNameError

LIBRARIES_FOLDER = Path(__file__).resolve().parent / "libraries"

TILE_CHANNELS = 64
TILE_POSITIONS = 128
ALIGNMENT = 8
BYTES = 2


class Kernel(NamedTuple):
    """One convolution of a whole batch."""

    batch: int
    in_channels: int
    in_size: float
    out_channels: int
    kernel: float
    stride: int
    depthwise: bool
    fused_add: bool
    groups: int = 1

    @property
    def out_size(self) -> float:
        """Side of the output map in pixels."""
        return ceil(self.in_size / self.stride)

    @property
    def fan_in(self) -> float:
        """Multiply-adds per output number."""
        groups = self.in_channels if self.depthwise else self.groups
        return self.in_channels / groups * self.kernel**2


def analytic_ms(kernel: Kernel, parameters: Mapping[str, float]) -> float:
    """Return the analytic time of a kernel for its whole batch.

    Args:
        kernel:
            The convolution.
        parameters:
            ``launch`` (ms), ``rate`` (ms per 10^9 multiply-adds), ``memory`` (ms per GB), and for dense kernels
            ``thin_in``, ``thin_out`` (channels at which the rate is halved) and ``tiles`` (tiles that fill the device).
    """
    positions = kernel.batch * kernel.out_size**2
    out_bytes = positions * kernel.out_channels * BYTES * (2 if kernel.fused_add else 1)
    in_bytes = kernel.batch * kernel.in_size**2 * kernel.in_channels * BYTES
    memory = (in_bytes + out_bytes + kernel.fan_in * kernel.out_channels * BYTES) / 1e9 * parameters["memory"]
    if kernel.depthwise:
        compute = positions * kernel.fan_in * kernel.out_channels / 1e9 * parameters["rate"]
    else:
        row_tiles = ceil(positions / TILE_POSITIONS)
        column_tiles = ceil(kernel.out_channels / TILE_CHANNELS)
        inner = ceil(kernel.in_channels / kernel.groups / ALIGNMENT) * ALIGNMENT * kernel.kernel**2
        compute = row_tiles * TILE_POSITIONS * column_tiles * TILE_CHANNELS * inner / 1e9 * parameters["rate"]
        compute *= 1 + parameters["thin_in"] / kernel.in_channels
        compute *= 1 + parameters["thin_out"] / kernel.out_channels
        compute *= max(1.0, parameters["tiles"] / (row_tiles * column_tiles))
    # A soft maximum: neither limit is reached exactly where they meet.
    return float(parameters["launch"] + (compute**4 + memory**4) ** 0.25)


def kernel_features(kernel: Kernel, base_ms: float) -> tuple[float, ...]:
    """Return what the trees see of a kernel."""
    positions = kernel.batch * kernel.out_size**2
    macs = positions * kernel.fan_in * kernel.out_channels
    moved = BYTES * (
        kernel.batch * kernel.in_size**2 * kernel.in_channels
        + positions * kernel.out_channels * (2 if kernel.fused_add else 1)
    )
    weights = BYTES * kernel.fan_in * kernel.out_channels
    return (
        log(positions),
        log(kernel.in_channels),
        log(kernel.out_channels),
        log(kernel.fan_in),
        float(kernel.kernel),
        float(kernel.stride),
        float(kernel.fused_add),
        log(macs),
        log(moved),
        float(kernel.out_channels % TILE_CHANNELS),
        float(kernel.in_channels % TILE_CHANNELS),
        log(macs / (moved + weights)),
        log(kernel.out_size),
        log(base_ms),
    )


@dataclass(frozen=True)
class Trees:
    """Boosted regression trees in flat lists, each tree depth first: the left child of a node is the next node.

    Attributes:
        start: Added to the sum of the trees.
        roots: Index of each tree's root.
        feature: Index of the feature a node splits on; -1 for a leaf.
        threshold: Features up to it go left. For a leaf: its value.
        right: Index of the right child.
    """

    start: float
    roots: tuple[int, ...]
    feature: tuple[int, ...]
    threshold: tuple[float, ...]
    right: tuple[int, ...]

    def __post_init__(self) -> None:
        nodes = len(self.feature)
        if not nodes == len(self.threshold) == len(self.right) or not all(
            0 <= root < nodes for root in self.roots
        ):
            raise DeviceError("trees have lists of different lengths")
        for node, (feature, right) in enumerate(zip(self.feature, self.right, strict=True)):
            # Children come after their parent, so no evaluation can loop for ever.
            if feature >= 0 and not node + 1 < right < nodes:
                raise DeviceError(f"tree node {node} has the impossible right child {right}")

    def __call__(self, features: Sequence[float]) -> float:
        feature, threshold, right = self.feature, self.threshold, self.right
        total = self.start
        for node in self.roots:
            split = feature[node]
            while split >= 0:
                node = node + 1 if features[split] <= threshold[node] else right[node]
                split = feature[node]
            total += threshold[node]
        return total


@dataclass(frozen=True)
class KernelLibrary:
    """A fitted set of convolution kernels.

    Attributes:
        name: Name of its file.
        parameters: Of the analytic part, for ``dense`` and ``depthwise`` kernels.
        trees: Of the residual, likewise.
        measured: ``[lowest, highest]`` of each quantity among the measured kernels, likewise.
        data, errors: As in a device profile.
    """

    name: str
    parameters: Mapping[str, Mapping[str, float]]
    trees: Mapping[str, Trees]
    measured: Mapping[str, Mapping[str, tuple[float, float]]]
    data: Mapping[str, Any]
    errors: Mapping[str, Any]

    def __post_init__(self) -> None:
        # A cache per library, so that it lives and dies with it.
        object.__setattr__(self, "_time", lru_cache(maxsize=200_000)(self._evaluate))

    def time_ms(self, kernel: Kernel) -> float:
        """Return the predicted time of a kernel for its whole batch."""
        return float(self._time(kernel))  # type: ignore[attr-defined]

    def _evaluate(self, kernel: Kernel) -> float:
        kind = "depthwise" if kernel.depthwise else "dense"
        base = analytic_ms(kernel, self.parameters[kind])
        return base * exp(self.trees[kind](kernel_features(kernel, base)))

    def outside(self, kernel: Kernel) -> list[str]:
        """Return which quantities of a kernel lie outside what was measured, empty if none."""
        measured = self.measured["depthwise" if kernel.depthwise else "dense"]
        values = {
            "in_channels": kernel.in_channels,
            "out_channels": kernel.out_channels,
            "channel_ratio": kernel.out_channels / kernel.in_channels,
            "kernel": kernel.kernel,
            "stride": kernel.stride,
            "in_size": kernel.in_size,
        }
        if kernel.in_channels <= 3:
            # Images have 3 channels: every stem has a large ratio, and stems are in the library.
            values.pop("channel_ratio")
        names = [
            name for name, value in values.items() if not measured[name][0] <= value <= measured[name][1]
        ]
        return [*names, "groups"] if kernel.groups > 1 else names


@lru_cache(maxsize=8)
def load_library(name: str) -> KernelLibrary:
    """Read a kernel library that comes with zenopt.

    Raises:
        UnknownNameError: If there is none of this name.
        DeviceError: If its file is damaged.
    """
    known = sorted(path.stem for path in LIBRARIES_FOLDER.glob("*.json"))
    if name not in known:
        raise UnknownNameError(f"Unknown kernel library {name!r}; known: {', '.join(known)}")
    content = json.loads((LIBRARIES_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    trees = {
        kind: Trees(
            part["start"],
            tuple(part["roots"]),
            tuple(part["feature"]),
            tuple(part["threshold"]),
            tuple(part["right"]),
        )
        for kind, part in content["trees"].items()
    }
    measured = {
        kind: {key: (value[0], value[1]) for key, value in part.items()}
        for kind, part in content["measured"].items()
    }
    return KernelLibrary(name, content["parameters"], trees, measured, content["data"], content["errors"])
