"""Mean-field quantities of random conv - BN - ReLU chains, from which the closed-form Zen-score is put together.

Weights are N(0, 1), inputs N(0, 1), feature maps square. Kernels have padding ``(kernel - 1) // 2``.
"""

from __future__ import annotations

from functools import lru_cache
from math import asin, pi, sqrt

#: Second moment and squared mean of ReLU(z), z ~ N(0, 1).
RELU_SECOND_MOMENT = 0.5
RELU_MEAN_SQUARED = 1 / (2 * pi)

#: ZenNAS reads running variances after two forwards with momentum 0.1, started from 1.
RUNNING_START = 0.81
RUNNING_WEIGHT = 0.19


@lru_cache(maxsize=65_536)
def tap_sums(kernel: int, stride: int, in_size: int) -> tuple[float, float]:
    """Return the sums over the taps of a 2-d kernel of ``f`` and ``f**2``.

    ``f`` is the share of output positions at which the tap lies inside the image; zero padding makes it less than 1.
    """
    padding = (kernel - 1) // 2
    outputs = range((in_size + 2 * padding - kernel) // stride + 1)
    shares = [
        sum(0 <= i * stride + tap - padding < in_size for i in outputs) / len(outputs)
        for tap in range(kernel)
    ]
    # The two dimensions are alike, so the sums over tap pairs are squares.
    return sum(shares) ** 2, sum(share * share for share in shares) ** 2


def relu_distance(distance: float) -> float:
    """Return ``E relu(u)^2 - E relu(u) relu(v)`` for unit Gaussians of correlation ``1 - distance``.

    The arc-cosine kernel (Cho and Saul 2009), arranged so that small distances do not cancel: with the angle
    ``cos t = 1 - distance`` it is ``distance / 2 - (sin t - t cos t) / (2 pi)``.
    """
    if distance < 1e-7:
        return distance / 2
    angle = 2 * asin(sqrt(min(1.0, distance / 2)))
    sine = sqrt(max(0.0, distance * (2 - distance)))
    return distance / 2 - (sine - angle * (1 - distance)) / (2 * pi)


def input_distance(gamma: float) -> float:
    """Return 1 minus the correlation of ``x`` and ``x + gamma z``, for independent unit Gaussians."""
    root = sqrt(1 + gamma * gamma)
    return gamma * gamma / (root * (1 + root))
