"""Synaptic flow of a NAS-Bench-201 cell, computed instead of drawn: microseconds, no tensor.

Synflow (:mod:`zenopt.proxies.synflow`) runs a network of absolute weights without BN on an image of ones. All numbers
are then positive, every ReLU passes them on, and the network is linear: a convolution with N weights per output, of
mean size m, multiplies a constant map by N * m. PyTorch draws weights uniformly within 1 / sqrt(N), so m is
1 / (2 sqrt(N)) and the factor sqrt(N) / 2. What flows through a weight layer is its share of the sum of outputs, so the
score follows from the factors alone. Left out: the border, where padding cuts the sum, and the scatter of the weights.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from zenopt.core.errors import ProxyError
from zenopt.spaces.nasbench201.cell import CELLS_PER_STAGE, CHANNELS, EDGES


def log_flow_of(
    architecture: Any, *, resolution: int, num_classes: int, batch_size: int | None, gamma: float
) -> float:
    """Return the logarithm of the expected synflow of a cell; see :func:`log_flow`."""
    return log_flow(architecture.operations, num_classes, architecture.channels, architecture.cells)


@lru_cache(maxsize=65_536)
def log_flow(
    operations: tuple[str, ...], num_classes: int, channels: int = CHANNELS[0], cells: int = CELLS_PER_STAGE
) -> float:
    """Return the logarithm of a cell's expected synflow (official build), borders left out.

    Raises:
        ProxyError: If nothing flows from input to output.
    """
    widths = [channels * 2**stage for stage in range(len(CHANNELS))]
    log_total = math.log(num_classes) + math.log(_factor(3, 3)) + math.log(_factor(widths[-1], 1))
    # The stem and the classifier carry everything.
    shares = 2.0
    for stage, width in enumerate(widths):
        if stage:
            body = _factor(widths[stage - 1], 3) * _factor(width, 3)
            shortcut = _factor(widths[stage - 1], 1)
            log_total += math.log(body + shortcut)
            shares += (2 * body + shortcut) / (body + shortcut)
        gain, weighted = _cell_gain(operations, width)
        if gain == 0.0:
            raise ProxyError("no flow reaches the outputs")
        log_total += cells * math.log(gain)
        shares += cells * weighted / gain
    return log_total + math.log(shares)


def _factor(in_channels: int, kernel: int) -> float:
    return math.sqrt(in_channels * kernel**2) / 2


def _cell_gain(operations: tuple[str, ...], channels: int) -> tuple[float, float]:
    """Return what a cell multiplies its input by, and the sum over its convolutions of what flows through each."""
    factors = []
    for name in operations:
        if name.startswith("nor_conv"):
            factors.append(_factor(channels, int(name[-1])))
        else:
            factors.append(0.0 if name == "none" else 1.0)
    forward = [1.0, 0.0, 0.0, 0.0]
    for (start, end), factor in zip(EDGES, factors, strict=True):
        forward[end] += forward[start] * factor
    backward = [0.0, 0.0, 0.0, 1.0]
    for (start, end), factor in reversed(list(zip(EDGES, factors, strict=True))):
        backward[start] += backward[end] * factor
    weighted = sum(
        forward[start] * factor * backward[end]
        for (start, end), factor, name in zip(EDGES, factors, operations, strict=True)
        if name.startswith("nor_conv")
    )
    return forward[3], weighted
