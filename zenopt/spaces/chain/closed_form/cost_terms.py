"""A block's costs as quadratic forms of its widths, for the evaluation over arrays.

The coefficients are read off :mod:`zenopt.core.costs` by counting a few probe blocks, so that there is one set of
formulas. They are exact for widths that are multiples of 8, and checked on further probes.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import log

import numpy as np

from zenopt.core.costs import BYTES_PER_NUMBER, unit_costs
from zenopt.core.errors import StructureError
from zenopt.spaces.chain.architecture import Block, ResidualBlock, make_block
from zenopt.spaces.chain.closed_form.block_terms import BOTTLENECK, IN, ONE, OUT, Shape, readings
from zenopt.spaces.chain.closed_form.edges import Array

#: What is counted, in this order.
QUANTITIES = ("params", "macs", "zennas_params", "zennas_flops", "convs", "activation_bytes")
#: Pairs of symbols whose products are the features: 1, widths, products of widths.
FEATURES = (
    (ONE, ONE), (ONE, IN), (ONE, BOTTLENECK), (ONE, OUT),
    (IN, IN), (IN, BOTTLENECK), (IN, OUT), (BOTTLENECK, BOTTLENECK), (BOTTLENECK, OUT), (OUT, OUT),
)  # fmt: skip
#: Coefficients are multiples of this: ZenNAS divides sizes by strides twice.
_RESOLVED = 256
_PROBES = 12


@lru_cache(maxsize=16_384)
def cost_terms(shape: Shape, floor_size: int, is_equal: bool, use_se: bool) -> Array:
    """Return a ``features x quantities`` array of coefficients.

    Args:
        shape:
            The block without its widths.
        floor_size:
            Input size as ZenNAS's counts round it.
        is_equal:
            Whether bottleneck and output width are the same; then some shortcuts need no projection.
        use_se:
            Whether squeeze-excite gates are counted.

    Raises:
        StructureError: If the costs are no quadratic form of the widths.
    """
    # Neither the depth nor the place in the chain matters to a unit's costs.
    unit = replace(shape, depth=1, reads_image=False)
    probe = _probe(shape, shape.depth, (24, 40, 40 if is_equal else 56))
    counted = _counted(probe, shape.in_size, floor_size, use_se)
    # Most types cost the same formula whether or not the two widths agree.
    for as_equal in (False, True) if is_equal else (False,):
        one, two = (_fit(unit, depth, floor_size, as_equal, use_se) for depth in (1, 2))
        terms: Array = one + (shape.depth - 1) * (two - one)
        if np.allclose(_features(probe) @ terms, counted, rtol=1e-9):
            return terms
    raise StructureError(f"{shape.type_name}: costs are no quadratic form of the block's widths.")


@lru_cache(maxsize=4096)
def _fit(shape: Shape, depth: int, floor_size: int, is_equal: bool, use_se: bool) -> Array:
    random = np.random.default_rng(0)
    rows, counts = [], []
    for _ in range(_PROBES):
        width_in, bottleneck, out = (8 * int(value) for value in random.integers(1, 14, size=3))
        if is_equal:
            bottleneck = out
        elif bottleneck == out:
            out += 8
        block = _probe(shape, depth, (width_in, bottleneck, out))
        rows.append(_features(block))
        counts.append(_counted(block, shape.in_size, floor_size, use_se))
    features = np.array(rows)
    # Features that cannot be told apart are left out; the others are scaled alike, for the sake of the rounding.
    used = [
        index
        for index, pair in enumerate(FEATURES)
        if not (is_equal and BOTTLENECK in pair) and features[:, index].any()
    ]
    scale = np.abs(features[:, used]).max(axis=0)
    solution = np.linalg.lstsq(features[:, used] / scale, np.array(counts), rcond=None)[0] / scale[:, None]
    terms = np.zeros((len(FEATURES), len(QUANTITIES)))
    terms[used] = np.round(solution * _RESOLVED) / _RESOLVED
    return terms


def _probe(shape: Shape, depth: int, widths: tuple[int, int, int]) -> Block:
    width_in, bottleneck, out = widths
    values = {"in_channels": width_in, "out_channels": out, "stride": shape.stride, "depth": depth}
    if issubclass(shape.cls, ResidualBlock):
        values["bottleneck"] = bottleneck
    return make_block(shape.type_name, **values)


def _features(block: Block) -> Array:
    widths = (1, block.in_channels, getattr(block, "bottleneck", 0), block.out_channels)
    return np.array([widths[left] * widths[right] for left, right in FEATURES], dtype=np.float64)


def _counted(block: Block, size: int, floor_size: int, use_se: bool) -> Array:
    costs = unit_costs(block, size, floor_size, use_se, True)
    return np.array(
        [
            costs.params, costs.macs, costs.zennas_params, costs.zennas_flops,
            costs.convs, BYTES_PER_NUMBER * costs.activations,
        ],
        dtype=np.float64,
    )  # fmt: skip


@lru_cache(maxsize=16_384)
def width_terms(shape: Shape) -> Array:
    """Return six numbers: smallest multiples of (bottleneck, output) width among the convolutions' outputs, and the
    constant and the multiplicities of ln (input, bottleneck, output) in the summed log fan-ins.
    """
    smallest = {BOTTLENECK: np.inf, OUT: np.inf}
    fan_in = np.zeros(4)
    for reading, following in zip(readings(shape), (*readings(shape)[1:], None), strict=True):
        # What a convolution writes, the next one reads; the last one writes the block's output.
        symbol, ratio = (OUT, 1.0) if following is None else (following.symbol, following.ratio)
        smallest[symbol] = min(smallest[symbol], ratio)
        fan_in[ONE] += log(reading.layer.kernel**2)
        fan_in[ONE] += log(reading.fan_ratio)
        fan_in[reading.fan_symbol] += reading.fan_symbol != ONE
    return np.array([smallest[BOTTLENECK], smallest[OUT], *fan_in])
