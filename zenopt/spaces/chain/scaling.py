"""Compound scaling of a found network: wider, deeper, at a larger resolution.

Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019, section 3.3: for a
compound coefficient phi, depth is multiplied by alpha**phi, width by beta**phi and resolution by gamma**phi with
alpha = 1.2, beta = 1.1, gamma = 1.15, found by a grid search for EfficientNet-B0 under alpha * beta**2 * gamma**2 ~ 2,
so that multiply-adds grow about as 2**phi.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from zenopt.core.errors import StructureError
from zenopt.core.primitives import round_to_8
from zenopt.spaces.chain.architecture import Architecture, Block

#: The paper's constants of depth, width and resolution.
ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15
#: Coefficients that :func:`compound_to` looks through.
_LOWEST, _HIGHEST = -8.0, 12.0


@dataclass(frozen=True)
class Factors:
    """What a network is multiplied by.

    Attributes:
        width: Of all widths and bottlenecks, which stay multiples of 8.
        depth: Of the depths of residual blocks, rounded up.
        resolution: Of the side of the input image.
    """

    width: float = 1.0
    depth: float = 1.0
    resolution: float = 1.0

    @classmethod
    def compound(cls, phi: float) -> Factors:
        """Return EfficientNet's factors of a compound coefficient."""
        return cls(width=BETA**phi, depth=ALPHA**phi, resolution=GAMMA**phi)


def scale(architecture: Architecture, factors: Factors) -> Architecture:
    """Return a chain with scaled widths, bottlenecks and depths.

    Widths are rounded to the nearest multiple of 8, bottlenecks too; depths are rounded up, as EfficientNet does. Only
    residual blocks get deeper: the stem and the head are single convolutions.

    Raises:
        StructureError: If a factor is not positive, or a block becomes too wide or too deep to exist.
    """
    for name in ("width", "depth", "resolution"):
        value = getattr(factors, name)
        if not 0 < value < math.inf:
            raise StructureError(f"The factor of {name} must be a positive number, got {value}.")
    return Architecture.chain(_scaled(block, factors) for block in architecture.blocks)


def scaled_resolution(resolution: int, factors: Factors) -> int:
    """Return the scaled side of the input image, pixels, at least 1."""
    return max(1, round(resolution * factors.resolution))


def compound_to(used: Callable[[Factors], float], target: float) -> Factors:
    """Return the largest compound scaling whose cost stays within a target.

    Args:
        used:
            Cost of the network under given factors; it must not fall while they grow.
        target:
            Most that may be used.

    Raises:
        StructureError: If even the smallest scaling uses more.
    """

    def fits(phi: float) -> bool:
        try:
            return used(Factors.compound(phi)) <= target
        except StructureError:
            # A block too wide to exist.
            return False

    low, high = _LOWEST, _HIGHEST
    if not fits(low):
        raise StructureError(f"No scaling of this network uses at most {target:,.12g}.")
    # Widths and depths are whole numbers, so costs rise in steps: 40 halvings find the last one below the target.
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return Factors.compound(low)


def _scaled(block: Block, factors: Factors) -> Block:
    changes = {"out_channels": _width(block.out_channels, factors.width)}
    if block.is_residual:
        changes["depth"] = math.ceil(block.depth * factors.depth - 1e-9)
        bottleneck = getattr(block, "bottleneck", None)
        if bottleneck is not None:
            changes["bottleneck"] = _width(bottleneck, factors.width)
    return replace(block, **changes)


def _width(channels: int, factor: float) -> int:
    if factor == 1.0:
        # What was no multiple of 8 stays as it is.
        return channels
    return round_to_8(channels * factor)
