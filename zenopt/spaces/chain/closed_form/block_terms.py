"""A block's contribution to the score, tabulated without its widths.

A block type at a stride, an input size and a depth is a *shape*. Its convolutions read one of the block's three
widths (input, bottleneck, output), or a single channel if they are depthwise, so everything the score needs of a shape
is a handful of coefficients of these widths. They are what both the scalar and the array evaluation read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import floor, log, pi, sqrt

import numpy as np

from zenopt.core.errors import StructureError
from zenopt.core.lowering import Layer, lower_unit
from zenopt.spaces.chain.architecture import Block, ResidualBlock, block_variant, make_block
from zenopt.spaces.chain.closed_form.correction import Correction
from zenopt.spaces.chain.closed_form.edges import (
    POSITIONS,
    Array,
    hills,
    position_of,
    tap_means,
    window_matrix,
)
from zenopt.spaces.chain.closed_form.meanfield import (
    RELU_MEAN_SQUARED,
    RELU_SECOND_MOMENT,
    input_distance,
    tap_sums,
)

#: Symbols a convolution's input width can be.
ONE, IN, BOTTLENECK, OUT = range(4)
_PROBE = {"in_channels": 8 * 101, "bottleneck": 8 * 401, "out_channels": 8 * 211}
_SYMBOLS = {"in_channels": IN, "bottleneck": BOTTLENECK, "out_channels": OUT}
#: A width is recognised as a multiple or a fraction of one of the block's widths up to this ratio; a fan-in up to it is
#: one of its own (the probes are larger).
_LARGEST_RATIO = 64

#: The distance is tabulated over its logarithm, in steps fine enough for 1e-9.
LOG_STEP = 1 / 32
LOG_TOP = 0.75
#: Shifts of the logarithmic gain per layer at which the effect on the distance is tabulated.
_SHIFTS = (-0.1, -0.25)


@dataclass(frozen=True)
class Shape:
    """A block without its widths.

    Attributes:
        cls: Class of the block; a name can be registered anew.
        type_name: Name of the block type.
        stride: Stride.
        in_size: Side of the input map.
        depth: Depth.
        reads_image: Whether it is the first block, whose input is Gaussian.
        block: The block itself, where its type cannot be described without widths.
    """

    cls: type[Block]
    type_name: str
    stride: int
    in_size: int
    depth: int
    reads_image: bool
    block: Block | None = None

    @classmethod
    def of(cls, type_name: str, stride: int, in_size: int, depth: int, reads_image: bool) -> Shape:
        """Make a shape of a registered type."""
        return cls(block_variant(type_name).cls, type_name, stride, in_size, depth, reads_image)


@dataclass(frozen=True)
class Reading:
    """A convolution with its input channels and its fan-in, each as ``ratio`` times the width of a symbol."""

    layer: Layer
    symbol: int
    ratio: float
    fan_symbol: int
    fan_ratio: float

    @property
    def is_depthwise(self) -> bool:
        """Whether an output channel reads one input channel only."""
        return self.layer.groups == self.layer.in_channels > 1


@lru_cache(maxsize=16_384)
def readings(shape: Shape) -> tuple[Reading, ...]:
    """Return the main-path convolutions of a shape.

    Raises:
        StructureError: If a convolution reads no multiple or fraction of one of the block's widths.
    """
    block = shape.block
    probe = dict(_PROBE)
    if block is None:
        if not issubclass(shape.cls, ResidualBlock):
            del probe["bottleneck"]
        block = make_block(shape.type_name, stride=shape.stride, depth=shape.depth, **probe)
    found = []
    for layer in lower_unit(block, shape.in_size, False, False):
        if layer.kind != "conv" or layer.role != "body":
            continue
        channels, fan_in = layer.in_channels, layer.in_channels // layer.groups
        if shape.block is not None:
            found.append(Reading(layer, OUT, channels / block.out_channels, ONE, fan_in))
            continue
        symbol, ratio = _symbol(channels, probe, shape.type_name)
        if fan_in <= _LARGEST_RATIO:
            found.append(Reading(layer, symbol, ratio, ONE, fan_in))
        else:
            found.append(Reading(layer, symbol, ratio, *_symbol(fan_in, probe, shape.type_name)))
    return tuple(found)


def _symbol(channels: int, probe: dict[str, int], type_name: str) -> tuple[int, float]:
    for name, width in probe.items():
        for large, small in ((channels, width), (width, channels)):
            if large % small == 0 and large // small <= _LARGEST_RATIO:
                return _SYMBOLS[name], channels / width
    raise StructureError(
        f"{type_name}: a convolution reads {channels} channels in a probe, no multiple of one of the block's widths; "
        f"the closed form over arrays cannot express it."
    )


@dataclass(frozen=True)
class Group:
    """Convolutions of a shape with the same variance formula.

    The variance of a pre-activation is ``w * (power - mean * m)`` with ``w`` the width of ``symbol`` (1 for depthwise)
    and ``m`` the squared mean of activations relative to that of Gaussians.

    Attributes:
        power, mean: One value per position of the pattern, then the one of a flat map (the uncorrected formula).
    """

    symbol: int
    count: int
    power: Array
    mean: Array


@dataclass(frozen=True)
class BlockTerms:
    """Everything the score needs of a shape.

    Arrays have one value per position of the incoming pattern, plus the last for the uncorrected formula.

    Attributes:
        groups: Variances.
        gain: Coefficients of the mean shift of the log gain in ``(1, 1 - m, (1 - m)**2)``, ``3 x positions``.
        position, slope: Position of the outgoing pattern, and its derivative by the incoming one.
        whole, local, overlap: The recursions of :class:`~zenopt.spaces.chain.closed_form.correction.Correction`.
        spread: ``nodes x 4`` table over the log distance: log distance after the block, its derivative, and its first
            and second response to the shift of the log gain.
        out_size: Side of the output map.
    """

    groups: tuple[Group, ...]
    gain: Array
    position: Array
    slope: Array
    whole: Carried
    local: Carried
    overlap: Carried
    spread: Array
    out_size: int


@dataclass(frozen=True)
class Carried:
    """A linear recursion through a block: ``end = keep * start + sum(add / width)`` and likewise the block's average.

    Attributes:
        keep, average_keep: Positions.
        add, average_add: ``3 x positions``, per reciprocal of (input, bottleneck, output) width.
    """

    keep: Array
    add: Array
    average_keep: Array
    average_add: Array


def log_bottom(gamma: float) -> float:
    """Return the smallest log distance that is tabulated for a perturbation of size ``gamma``."""
    return float(min(-12, floor(log(input_distance(gamma))) - 1))


@lru_cache(maxsize=4096)
def block_terms(shape: Shape, correction: Correction, log_bottom: float) -> BlockTerms:
    """Tabulate a shape.

    Args:
        shape:
            The block without its widths.
        correction:
            Constants of the correction.
        log_bottom:
            Smallest log distance to tabulate.
    """
    convs = readings(shape)
    patterns = _follow_patterns(shape, convs)
    return BlockTerms(
        groups=_groups(shape, convs, patterns),
        gain=_gain(shape, convs, patterns),
        position=_append(patterns.position, 0.0),
        slope=_append(patterns.slope, 0.0),
        whole=_carry_whole(convs, patterns, correction),
        local=_carry_local(convs, correction),
        overlap=_carry_overlap(shape, convs, correction),
        spread=_spread_table(shape, convs, log_bottom),
        out_size=convs[-1].layer.out_size,
    )


@dataclass(frozen=True)
class _Patterns:
    """Per layer and position: summed power and squared means of what the windows see, and variance of the pattern."""

    power: list[Array]
    mean: list[Array]
    variance: list[Array]
    position: Array
    slope: Array


def _follow_patterns(shape: Shape, convs: tuple[Reading, ...]) -> _Patterns:
    pattern = hills(shape.in_size)
    power, mean, variance = [], [], []
    for reading in convs:
        layer = reading.layer
        variance.append((pattern**2).mean(axis=0) ** 2 - 1)
        means = tap_means(np.sqrt(pattern), layer.kernel, layer.stride)
        pattern = window_matrix(layer.kernel, layer.stride, layer.in_size) @ pattern
        # Two alike dimensions: sums over tap pairs are squares.
        power.append(pattern.mean(axis=0) ** 2)
        mean.append((means**2).sum(axis=0) ** 2)
        pattern = pattern / pattern.mean(axis=0)
    position = position_of(pattern)
    return _Patterns(power, mean, variance, position, np.gradient(position))


def _append(values: Array, last: float) -> Array:
    return np.concatenate([values, [last]])


def _reads_image(shape: Shape, index: int) -> bool:
    return shape.reads_image and index == 0


def _flat(layer: Layer, reads_image: bool) -> tuple[float, float]:
    valid, squared = tap_sums(layer.kernel, layer.stride, layer.in_size)
    if reads_image:
        return valid, 0.0
    return RELU_SECOND_MOMENT * valid, RELU_MEAN_SQUARED * squared


def group_members(shape: Shape) -> dict[tuple[float, ...], list[int]]:
    """Return the indices of the convolutions that share a variance formula; keys begin with the symbol they read."""
    members: dict[tuple[float, ...], list[int]] = {}
    for index, reading in enumerate(readings(shape)):
        layer = reading.layer
        key = (
            reading.fan_symbol, layer.kernel, layer.stride, layer.in_size,
            reading.fan_ratio, _reads_image(shape, index),
        )  # fmt: skip
        members.setdefault(key, []).append(index)
    return members


def _groups(shape: Shape, convs: tuple[Reading, ...], patterns: _Patterns) -> tuple[Group, ...]:
    groups = []
    for indices in group_members(shape).values():
        first = indices[0]
        image = _reads_image(shape, first)
        scale = float(convs[first].fan_ratio)
        power = np.mean([patterns.power[index] for index in indices], axis=0)
        mean = np.mean([patterns.mean[index] for index in indices], axis=0)
        flat = _flat(convs[first].layer, image)
        groups.append(
            Group(
                convs[first].fan_symbol,
                len(indices),
                scale * _append(power * (1.0 if image else RELU_SECOND_MOMENT), flat[0]),
                scale * _append(mean * (0.0 if image else RELU_MEAN_SQUARED), flat[1]),
            )
        )
    return tuple(groups)


def _gain(shape: Shape, convs: tuple[Reading, ...], patterns: _Patterns) -> Array:
    """Mean shift of the log gain against a flat map, through its values at m = 1, 3/4 and 1/2."""
    indices = [index for index in range(len(convs)) if not _reads_image(shape, index)]
    coefficients = np.zeros((3, POSITIONS + 1))
    if not indices:
        return coefficients
    values = []
    for m in (1.0, 0.75, 0.5):
        shifts = []
        for index in indices:
            valid, _ = tap_sums(
                convs[index].layer.kernel, convs[index].layer.stride, convs[index].layer.in_size
            )
            flat_power, flat_mean = _flat(convs[index].layer, False)
            power = patterns.power[index]
            spread = RELU_SECOND_MOMENT * power - RELU_MEAN_SQUARED * m * patterns.mean[index]
            shifts.append(np.log(power / spread) - log(valid / (flat_power - flat_mean)))
        values.append(np.mean(shifts, axis=0))
    start, middle, end = values
    coefficients[0, :-1] = start
    coefficients[1, :-1] = 8 * middle - 6 * start - 2 * end
    coefficients[2, :-1] = 8 * (start - 2 * middle + end)
    return coefficients


def _carry_whole(convs: tuple[Reading, ...], patterns: _Patterns, correction: Correction) -> Carried:
    largest = max(3, max(reading.layer.kernel for reading in convs))
    steps = []
    for index, reading in enumerate(convs):
        strength = 1.0 if reading.layer.kernel > 1 else correction.growth_pointwise
        growth = 1 + correction.growth * strength * patterns.variance[index]
        share = _common_share(reading.layer, largest, correction)
        steps.append((growth, _injection(reading, correction) * share * growth, reading.symbol))
    return _carry(steps)


def _carry_local(convs: tuple[Reading, ...], correction: Correction) -> Carried:
    largest = max(3, max(reading.layer.kernel for reading in convs))
    steps = []
    for reading in convs:
        keep = np.full(POSITIONS, correction.local_kept(reading.layer.kernel))
        share = 1 - _common_share(reading.layer, largest, correction)
        steps.append((keep, _injection(reading, correction) * share * keep, reading.symbol))
    return _carry(steps)


def _carry_overlap(shape: Shape, convs: tuple[Reading, ...], correction: Correction) -> Carried:
    steps = []
    for index, reading in enumerate(convs):
        keep = correction.overlap_keep if reading.layer.kernel > 1 else correction.overlap_keep_pointwise
        # Widths of expanded layers are folded in, so that one reciprocal per width serves all.
        added = 0.0 if _reads_image(shape, index) else correction.overlap_injection / sqrt(reading.ratio)
        steps.append((np.full(POSITIONS, keep), np.full(POSITIONS, keep * added), reading.symbol))
    return _carry(steps)


def _injection(reading: Reading, correction: Correction) -> float:
    # Each channel of a depthwise convolution keeps to itself; the next dense one counts it.
    return 0.0 if reading.is_depthwise else correction.injection / reading.ratio


def _common_share(layer: Layer, largest_kernel: int, correction: Correction) -> float:
    return min(1.0, max(1.0, correction.area * largest_kernel**2) / layer.in_size**2)


def _carry(steps: Iterable[tuple[Array, Array, int]]) -> Carried:
    """Compose ``q <- keep * q + add / width`` over layers; averages are of what each layer reads, before its step."""
    keep, add = np.ones(POSITIONS), np.zeros((3, POSITIONS))
    total_keep, total_add, count = np.zeros(POSITIONS), np.zeros((3, POSITIONS)), 0
    for kept, added, symbol in steps:
        total_keep, total_add, count = total_keep + keep, total_add + add, count + 1
        keep, add = keep * kept, add * kept
        add[symbol - IN] += added
    return Carried(*(_pad(values) for values in (keep, add, total_keep / count, total_add / count)))


def _pad(values: Array) -> Array:
    """Add the column of the uncorrected formula, which carries nothing."""
    return np.concatenate([values, np.zeros((*values.shape[:-1], 1))], axis=-1)


def _spread_table(shape: Shape, convs: tuple[Reading, ...], log_bottom: float) -> Array:
    nodes = np.arange(log_bottom, LOG_TOP + LOG_STEP / 2, LOG_STEP)
    distance = np.exp(nodes)
    derivative = np.ones_like(nodes)
    shifted = [distance.copy() for _ in _SHIFTS]
    for index, reading in enumerate(convs):
        if _reads_image(shape, index):
            continue
        layer = reading.layer
        power, mean = _flat(layer, False)
        gain = 2 * power / (power - mean)
        angle = 2 * np.arcsin(np.sqrt(np.minimum(1.0, distance / 2)))
        after = relu_distances(distance) * gain
        derivative *= (0.5 - angle / (2 * pi)) * gain * distance / after
        distance = after
        shifted = [
            relu_distances(values) * gain * np.exp(shift)
            for values, shift in zip(shifted, _SHIFTS, strict=True)
        ]
    value = np.log(distance)
    # Newton's divided differences through the shifts 0, s1, s2.
    first, second = ((np.log(values) - value) / shift for values, shift in zip(shifted, _SHIFTS, strict=True))
    curvature = (second - first) / (_SHIFTS[1] - _SHIFTS[0])
    return np.stack([value, derivative, first - curvature * _SHIFTS[0], curvature], axis=1)


def relu_distances(distances: Array) -> Array:
    """The same as :func:`~zenopt.spaces.chain.closed_form.meanfield.relu_distance`, over an array."""
    half = np.minimum(1.0, distances / 2)
    angle = 2 * np.arcsin(np.sqrt(half))
    sine = np.sqrt(np.maximum(0.0, distances * (2 - distances)))
    exact: Array = distances / 2 - (sine - angle * (1 - distances)) / (2 * pi)
    return np.where(distances < 1e-7, distances / 2, exact)
