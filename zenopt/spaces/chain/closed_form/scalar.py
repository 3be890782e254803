"""The closed-form Zen-score of one architecture."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import exp, log, pi

from zenopt.core.errors import StructureError
from zenopt.core.lowering import check_positive, lower_unit, unit_out_size
from zenopt.spaces.chain.architecture import Architecture, Block
from zenopt.spaces.chain.closed_form.block_terms import LOG_STEP, Shape, block_terms, log_bottom, readings
from zenopt.spaces.chain.closed_form.edges import scale_at
from zenopt.spaces.chain.closed_form.fitted import FITTED
from zenopt.spaces.chain.closed_form.meanfield import (
    RELU_MEAN_SQUARED,
    RELU_SECOND_MOMENT,
    RUNNING_START,
    RUNNING_WEIGHT,
    input_distance,
    relu_distance,
    tap_sums,
)

_CACHE = 65_536


def closed_form_zen(
    architecture: Architecture,
    resolution: int,
    *,
    gamma: float = 0.01,
    batch_size: int | None = 64,
    true_variance: bool = False,
) -> float:
    """Compute the expected Zen-score of an architecture, without residual links, without any tensor.

    The score of a randomly initialised network is the sum of the log standard deviations its batch normalisations
    see and of the log L1 distance that a perturbation of the input reaches at the output; mean-field theory gives both.
    Two corrections bring it within a percent of measured scores: zero padding makes activations smaller near the border
    (derived, see :mod:`zenopt.spaces.chain.closed_form.edges`), and in deep nets of finite width activations
    scatter more than Gaussians (fitted, see :mod:`zenopt.spaces.chain.closed_form.correction`).

    Args:
        architecture:
            What to score.
        resolution:
            Side of the square input image in pixels.
        gamma:
            Size of the input perturbation.
        batch_size:
            Batch size of the measurement that is predicted: a small batch sees less of the scatter, so its scores are
            lower. ``None`` gives the uncorrected formula of infinitely wide networks.
        true_variance:
            Use the variance of the batch. The default is the running variance after two forwards with momentum 0.1
            from 1, as Zen-NAS does; it reads about 0.83 lower per batch normalisation.

    Returns:
        The score; higher is better.

    Raises:
        StructureError: If the resolution or the batch size is not a positive integer.

    Example:
        .. code-block:: python

            architecture = Architecture.parse("SuperConvK3BNRELU(3,8,1,1)SuperConvK1BNRELU(8,64,1,1)")
            score = closed_form_zen(architecture, 32, batch_size=16)
    """
    check_positive(resolution=resolution)
    if batch_size is None:
        return _uncorrected(architecture, resolution, gamma, true_variance)
    check_positive(batch_size=batch_size)
    return _corrected(architecture, resolution, gamma, batch_size, true_variance)


def _uncorrected(architecture: Architecture, resolution: int, gamma: float, true_variance: bool) -> float:
    score = 0.0
    size = resolution
    distance = -1.0
    for block in architecture.blocks:
        first = distance < 0
        norms, path, out_size = _block_constants(block, size, first, true_variance)
        score += norms
        distance = _spread(path, input_distance(gamma) if first else distance)
        size = out_size
    return score + log(architecture.out_channels * size * size) + 0.5 * log(distance / pi)


@lru_cache(maxsize=_CACHE)
def _block_constants(
    block: Block, in_size: int, first: bool, true_variance: bool
) -> tuple[float, tuple[float, ...], int]:
    """Return (sum of BN terms, gains of the distance per layer, output side) of a block.

    ``first`` says that the block reads the image, whose values are Gaussian; later layers read ReLUs of Gaussians.
    """
    norms = 0.0
    gains: list[float] = []
    for layer in lower_unit(block, in_size, False, False):
        if layer.kind != "conv" or layer.role != "body":
            continue
        fan_in = layer.in_channels // layer.groups
        valid, valid_squared = tap_sums(layer.kernel, layer.stride, layer.in_size)
        reads_image = first and not gains
        spread = valid if reads_image else RELU_SECOND_MOMENT * valid - RELU_MEAN_SQUARED * valid_squared
        variance = fan_in * spread
        norms += 0.5 * log(variance if true_variance else RUNNING_START + RUNNING_WEIGHT * variance)
        # The first convolution keeps the correlation of its Gaussian inputs; marked by a gain of 0.
        gains.append(0.0 if reads_image else valid / spread)
    return norms, tuple(gains), unit_out_size(block, in_size)


@lru_cache(maxsize=_CACHE)
def _spread(gains: tuple[float, ...], distance: float) -> float:
    """Carry the distance of two perturbed activations through the layers of a block.

    It depends on kernels, strides and sizes only, so that the blocks before a mutated one are cache hits, and so are
    the ones after a change of widths.
    """
    for gain in gains:
        if gain:
            distance = relu_distance(distance) * gain
    return distance


def _corrected(
    architecture: Architecture, resolution: int, gamma: float, batch_size: int, true_variance: bool
) -> float:
    # The same steps as zenopt.spaces.chain.closed_form.arrays, on plain numbers.
    saturation = FITTED.saturation_of(batch_size)
    softening = FITTED.overlap_width
    start, weight = (0.0, 1.0) if true_variance else (RUNNING_START, RUNNING_WEIGHT)
    bottom = log_bottom(gamma)
    log_distance = log(input_distance(gamma))
    total = position = whole = local = overlap = 0.0
    size = resolution
    reads_image = True
    for block in architecture.blocks:
        width_in, inner, out = block.in_channels, getattr(block, "bottleneck", 1), block.out_channels
        nearest = round(position)
        groups, record, spread, out_size = _record(_shape(block, size, reads_image), bottom, nearest)
        gain0, gain1, gain2, after_position, slope, *carried = record
        inverse = (1 / width_in, 1 / inner, 1 / out)
        softened = (1 / (width_in + softening), 1 / (inner + softening), 1 / (out + softening))
        whole_seen, whole = _carry(carried, 0, whole, inverse)
        local_seen, local = _carry(carried, 8, local, inverse)
        seen, overlap = _carry(carried, 16, overlap, softened)
        variance = whole_seen + local_seen
        variance /= 1 + saturation * variance
        mean = exp(-FITTED.mean_decay * variance) * (1 + 0.5 * seen)
        missing = 1 - mean
        log_distance = _pass_on(
            spread, (log_distance - bottom) / LOG_STEP, gain0 + missing * (gain1 + missing * gain2)
        )
        widths = (1, width_in, inner, out)
        for symbol, half_count, power, mean_part in groups:
            total += half_count * log(start + weight * widths[symbol] * (power - mean_part * mean))
        position = after_position + (position - nearest) * slope
        size, reads_image = out_size, False
    variance = whole + local
    variance /= 1 + saturation * variance
    return (
        total
        + log(architecture.out_channels * size * size)
        + 0.5 * (log_distance - log(pi))
        + _scales(size)[round(position)]
        - FITTED.output_decay * variance
    )


def _carry(
    carried: list[float], first: int, start: float, inverse: tuple[float, float, float]
) -> tuple[float, float]:
    """Return (average over the block, value after it) of a carried quantity."""
    keep, average, add0, add1, add2, seen0, seen1, seen2 = carried[first : first + 8]
    left, middle, right = inverse
    return (
        average * start + seen0 * left + seen1 * middle + seen2 * right,
        keep * start + add0 * left + add1 * middle + add2 * right,
    )


def _pass_on(spread: list[list[float]], place: float, shift: float) -> float:
    """Interpolate the log distance after a block."""
    node = min(max(int(place), 0), len(spread) - 2)
    share = place - node
    value, derivative, linear, square = spread[node]
    next_value, next_derivative, next_linear, next_square = spread[node + 1]
    difference = next_value - value
    left = derivative * LOG_STEP
    curve = left + next_derivative * LOG_STEP - 2 * difference
    after = value + share * (left + share * ((difference - left - curve) + share * curve))
    first = linear + share * (next_linear - linear)
    second = square + share * (next_square - square)
    return after + shift * (first + shift * second)


@lru_cache(maxsize=_CACHE)
def _shape(block: Block, size: int, reads_image: bool) -> Shape:
    """Return the shape of a block; it holds the block where the type cannot be described without widths."""
    shape = Shape(type(block), block.type_name, block.stride, size, block.depth, reads_image)
    try:
        readings(shape)
    except StructureError:
        return replace(shape, block=block)
    return shape


@lru_cache(maxsize=_CACHE)
def _record(
    shape: Shape, bottom: float, position: int
) -> tuple[tuple[tuple[int, float, float, float], ...], list[float], list[list[float]], int]:
    """Return the groups, the record, the spread table and the output side of a shape at a pattern."""
    terms = block_terms(shape, FITTED, bottom)
    groups = tuple(
        (group.symbol, 0.5 * group.count, float(group.power[position]), float(group.mean[position]))
        for group in terms.groups
    )
    record = [
        *terms.gain[:, position].tolist(),
        float(terms.position[position]),
        float(terms.slope[position]),
    ]
    for carried in (terms.whole, terms.local, terms.overlap):
        record += [float(carried.keep[position]), float(carried.average_keep[position])]
        record += [*carried.add[:, position].tolist(), *carried.average_add[:, position].tolist()]
    spread = _spread_rows(shape, bottom)
    return groups, record, spread, terms.out_size


@lru_cache(maxsize=4096)
def _spread_rows(shape: Shape, bottom: float) -> list[list[float]]:
    rows: list[list[float]] = block_terms(shape, FITTED, bottom).spread.tolist()
    return rows


@lru_cache(maxsize=512)
def _scales(size: int) -> list[float]:
    scales: list[float] = scale_at(size).tolist()
    return scales
