"""Checks of a chain space's settings: every wrong one is named, with what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

from zenopt.core.errors import SpecError
from zenopt.core.text import quoted
from zenopt.spaces.chain.architecture import (
    MAX_BLOCKS,
    MAX_CHANNELS,
    MAX_STRIDE,
    Block,
    ResidualBlock,
    block_variant,
)

#: Zen-NAS splits residual blocks of this depth and more.
SPLIT_THRESHOLD = 6


def check_chain(space: Any) -> None:
    """Check the settings of a chain space.

    Raises:
        SpecError: If a bound, stride, weight or block type is not usable.
        StructureError: If a block type does not exist.
    """
    _check_types(space)
    _check_numbers(space)
    _check_strides(space)
    _check_weights(space)


def _check_types(space: Any) -> None:
    if not space.blocks:
        raise SpecError("space.blocks must name at least one block type.")
    for name in space.blocks:
        cls = block_variant(name, "space.blocks: ").cls
        if not issubclass(cls, ResidualBlock):
            raise SpecError(f"space.blocks: {name} is not a residual block type.")
        extra = set(cls.arguments) - set(ResidualBlock.arguments)
        if extra:
            raise SpecError(
                f"space.blocks: {name} takes {', '.join(sorted(extra))}, which no parameter spells."
            )
    if len(set(space.blocks)) != len(space.blocks):
        raise SpecError("space.blocks names a block type twice.")
    for field in ("stem", "head"):
        name = getattr(space, field)
        if block_variant(name, f"space.{field}: ").cls.arguments != Block.arguments:
            raise SpecError(f"space.{field}: {name} is not a convolution block type.")


def _check_numbers(space: Any) -> None:
    for name, largest in (
        ("stem_stride", MAX_STRIDE),
        ("slots", MAX_BLOCKS),
        ("max_depth", SPLIT_THRESHOLD - 1),
    ):
        value = getattr(space, name)
        if not _is_integer(value) or not 1 <= value <= largest:
            raise SpecError(f"space.{name} must be an integer from 1 to {largest}, got {value!r}.")
    for name in ("max_width", "max_bottleneck", "max_head", "head_width"):
        value = getattr(space, name)
        if name == "head_width" and value is None:
            continue
        if not _is_integer(value) or not 8 <= value <= MAX_CHANNELS or value % 8:
            raise SpecError(f"space.{name} must be a multiple of 8 from 8 to {MAX_CHANNELS}, got {value!r}.")


def _check_strides(space: Any) -> None:
    strides = space.stage_strides
    # A stage is recognised by its stride, so only the first may do without.
    if (
        not strides
        or not all(_is_integer(stride) and 1 <= stride <= MAX_STRIDE for stride in strides)
        or 1 in strides[1:]
    ):
        raise SpecError(
            f"space.stage_strides must be integers from 1 to {MAX_STRIDE}, from 2 after the first stage; "
            f"got {list(strides)}."
        )


def _check_weights(space: Any) -> None:
    weights = space.type_weights or {}
    if not isinstance(weights, Mapping):
        raise SpecError(f"space.type_weights must be a number by block type, got {quoted(weights)}.")
    unknown = set(weights) - set(space.blocks)
    if unknown:
        raise SpecError(
            f"space.type_weights names types that are not in space.blocks: {', '.join(sorted(unknown))}."
        )
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < inf:
            raise SpecError(f"space.type_weights: {name} must be a number from 0, got {weight!r}.")
    if set(weights) == set(space.blocks) and not any(weights.values()):
        raise SpecError("space.type_weights must leave at least one type a positive weight.")


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
