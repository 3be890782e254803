"""What zero padding does to the activations' scale: the pattern that chains of windows leave on a feature map.

A convolution with zero padding sums fewer inputs near the border, so activations vary less among samples there, and
layer by layer the map of their variances turns into a hill. The pattern is the same for every width and weight; it is
separable, so one dimension tells all: ``u`` holds the relative variance along one side, with mean 1.

Within a search a pattern is summarised by one number, its **position** on a grid of hills of growing variance, so that
a block's effect can be tabulated. The hills are what repeated 3-wide windows make of a flat map.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Positions run from 0 (flat) to ``POSITIONS - 1``; the variance of ``u`` grows with the square of the position.
POSITIONS = 24
LARGEST_VARIANCE = 0.3
#: The variance of ``u`` at each position.
VARIANCES: Array = LARGEST_VARIANCE * (np.arange(POSITIONS) / (POSITIONS - 1)) ** 2


@lru_cache(maxsize=4096)
def window_matrix(kernel: int, stride: int, in_size: int) -> Array:
    """Return the ``outputs x inputs`` matrix that sums the pixels inside each window."""
    padding = (kernel - 1) // 2
    outputs = (in_size + 2 * padding - kernel) // stride + 1
    first = np.arange(outputs)[:, None] * stride - padding
    pixels = np.arange(in_size)[None, :]
    return ((pixels >= first) & (pixels < first + kernel)).astype(np.float64)


def tap_means(values: Array, kernel: int, stride: int) -> Array:
    """Averages, for each tap of the kernel, the values it meets over all output positions, zeros outside.

    Args:
        values:
            An ``inputs x patterns`` array.

    Returns:
        A ``taps x patterns`` array.
    """
    in_size = values.shape[0]
    padding = (kernel - 1) // 2
    outputs = (in_size + 2 * padding - kernel) // stride + 1
    padded = np.pad(values, ((padding, kernel), (0, 0)))
    return np.stack(
        [padded[tap : tap + outputs * stride : stride].sum(axis=0) / outputs for tap in range(kernel)]
    )


@lru_cache(maxsize=512)
def hills(size: int) -> Array:
    """Return the pattern of each position, a ``size x POSITIONS`` array whose columns have mean 1.

    Positions beyond the most that windows of 3 can pile up on this size repeat the last hill.
    """
    values, vectors = np.linalg.eigh(window_matrix(3, 1, size))
    values = values / values.max()
    weights = vectors.T @ np.ones(size)
    counts = np.unique(np.round(np.concatenate([np.arange(8), np.geomspace(8, 40 * size * size + 40, 160)])))
    patterns = vectors @ (weights[:, None] * values[:, None] ** counts)
    patterns /= patterns.mean(axis=0)
    variances = np.maximum.accumulate((patterns**2).mean(axis=0) - 1)
    # Deviations of neighbouring hills from the mean are nearly proportional, so it is these that mix linearly.
    place = np.interp(np.sqrt(VARIANCES), np.sqrt(np.maximum(variances, 0)), np.arange(len(counts)))
    lower = np.minimum(place.astype(int), len(counts) - 2)
    share = place - lower
    return patterns[:, lower] * (1 - share) + patterns[:, lower + 1] * share


def position_of(pattern: Array) -> Array:
    """Return the position of each column of an ``size x patterns`` array of mean-1 patterns."""
    variances = np.maximum(0.0, (pattern**2).mean(axis=0) - 1)
    return np.minimum(np.sqrt(variances / LARGEST_VARIANCE), 1.0) * (POSITIONS - 1)


@lru_cache(maxsize=512)
def scale_at(size: int) -> Array:
    """Return ln of the mean activation scale over the map, relative to a flat map, for each position."""
    logs: Array = 2 * np.log(np.sqrt(hills(size)).mean(axis=0))
    return logs
