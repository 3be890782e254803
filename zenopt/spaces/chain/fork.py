"""Moves of the Adlik fork of Zen-NAS: a cheaper mutation, and random architectures to begin with.

Source: the fork's search settings (random initial populations; one block type uniformly, one ratio for width and
bottleneck, bottleneck at most 512, width at most 2048).
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from zenopt.core.primitives import round_to_8
from zenopt.spaces.chain.architecture import Architecture, Block, ResidualBlock, make_block, split_deep_blocks
from zenopt.spaces.chain.mutation import WIDTH_RATIOS, depth_choices

FORK_MAX_WIDTH = 2048
FORK_MAX_BOTTLENECK = 512
#: Residual blocks of a random architecture, and the largest multiple of 8 of its widths.
RANDOM_BLOCKS = (6, 10)
RANDOM_WIDTH = 15


def mutate_fork(
    space: Any, architecture: Architecture, rng: random.Random, *, blocks: int = 2
) -> Architecture | None:
    """Mutate as the fork does: one ratio scales width and bottleneck together, types are drawn uniformly.

    Args:
        space:
            The space of the parent.
        architecture:
            The parent.
        rng:
            Source of randomness.
        blocks:
            Draws of a block index; a repeated index is skipped.

    Returns:
        The child, or ``None`` where it has no place in the space.
    """
    chain = list(architecture.blocks)
    last = len(chain) - 1
    for index in sorted({rng.randrange(len(chain)) for _ in range(blocks)}):
        block = chain[index]
        ratio = rng.choice(WIDTH_RATIOS)
        if isinstance(block, ResidualBlock):
            chain[index] = make_block(
                rng.choice(space.blocks),
                in_channels=block.in_channels,
                out_channels=min(round_to_8(block.out_channels * ratio), FORK_MAX_WIDTH),
                stride=block.stride,
                bottleneck=min(round_to_8(block.bottleneck * ratio), FORK_MAX_BOTTLENECK),
                depth=rng.choice(depth_choices(block.depth)),
            )
        elif index < last or space.head_width is None:
            chain[index] = replace(
                block, out_channels=min(round_to_8(block.out_channels * ratio), FORK_MAX_WIDTH)
            )
    child = split_deep_blocks(split_deep_blocks(Architecture.chain(chain)))
    return child if space.contains(child) else None


def random_architecture(space: Any, rng: random.Random) -> Architecture | None:
    """Return a random architecture: 6 to 10 residual blocks of depth 1, widths and bottlenecks of 8 to 120 channels.

    Every stage gets its first, strided block; further blocks have stride 1 and follow in the last stage that has room.

    Args:
        space:
            The space to draw from.
        rng:
            Source of randomness.

    Returns:
        The architecture, or ``None`` where the bounds do not hold it.
    """
    stages = len(space.stage_strides)
    extra = max(0, rng.randint(*RANDOM_BLOCKS) - stages)
    counts = [1] * stages
    for stage in reversed(range(stages)):
        added = min(extra, space.slots - 1)
        counts[stage] += added
        extra -= added

    def width() -> int:
        return 8 * rng.randint(1, RANDOM_WIDTH)

    chain: list[Block] = [
        make_block(space.stem, in_channels=3, out_channels=width(), stride=space.stem_stride, depth=1)
    ]
    for stride, count in zip(space.stage_strides, counts, strict=True):
        for slot in range(count):
            chain.append(
                make_block(
                    rng.choice(space.blocks),
                    in_channels=8,
                    out_channels=width(),
                    stride=stride if slot == 0 else 1,
                    bottleneck=width(),
                    depth=1,
                )
            )
    head = width() if space.head_width is None else space.head_width
    chain.append(make_block(space.head, in_channels=8, out_channels=head, stride=1, depth=1))
    found = Architecture.chain(chain)
    return found if space.contains(found) else None
