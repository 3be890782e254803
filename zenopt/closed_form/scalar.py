"""The closed-form Zen-score of one architecture."""

from __future__ import annotations

from functools import lru_cache
from math import log, pi

from zenopt.architecture import Architecture, Block
from zenopt.closed_form.meanfield import (
    RELU_MEAN_SQUARED,
    RELU_SECOND_MOMENT,
    RUNNING_START,
    RUNNING_WEIGHT,
    input_distance,
    relu_distance,
    tap_sums,
)
from zenopt.lowering import block_out_size, check_positive, lower_block

_CACHE = 65_536


def closed_form_zen(
    architecture: Architecture, resolution: int, *, gamma: float = 0.01, true_variance: bool = False
) -> float:
    """Computes the expected Zen-score of an architecture, without residual links, without any tensor.

    The score of a randomly initialised network is the sum of the log standard deviations its batch normalisations
    see and of the log L1 distance that a perturbation of the input reaches at the output; mean-field theory gives both.

    Args:
        architecture:
            What to score.
        resolution:
            Side of the square input image in pixels.
        gamma:
            Size of the input perturbation.
        true_variance:
            Use the variance of the batch. The default is the running variance after two forwards with momentum 0.1
            from 1, as Zen-NAS does; it reads about 0.83 lower per batch normalisation.

    Returns:
        The score; higher is better.

    Raises:
        StructureError: If the resolution is not a positive integer.

    Example:
        .. code-block:: python

            architecture = Architecture.parse("SuperConvK3BNRELU(3,8,1,1)SuperConvK1BNRELU(8,64,1,1)")
            score = closed_form_zen(architecture, 32)
    """
    check_positive(resolution=resolution)
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
    """Returns (sum of BN terms, gains of the distance per layer, output side) of a block.

    ``first`` says that the block reads the image, whose values are Gaussian; later layers read ReLUs of Gaussians.
    """
    norms = 0.0
    gains: list[float] = []
    for layer in lower_block(block, in_size, False, False):
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
    return norms, tuple(gains), block_out_size(block, in_size)


@lru_cache(maxsize=_CACHE)
def _spread(gains: tuple[float, ...], distance: float) -> float:
    """Carries the distance of two perturbed activations through the layers of a block.

    It depends on kernels, strides and sizes only, so that the blocks before a mutated one are cache hits, and so are
    the ones after a change of widths.
    """
    for gain in gains:
        if gain:
            distance = relu_distance(distance) * gain
    return distance
