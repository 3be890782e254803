"""The candidate values of a Zen-NAS mutation."""

from __future__ import annotations

from functools import lru_cache

from zenopt.core.primitives import round_to_8

#: Zen-NAS multiplies a width by one of these.
WIDTH_RATIOS = (2.5, 2, 1.5, 1.25, 1, 1 / 1.25, 1 / 1.5, 1 / 2, 1 / 2.5)
DEPTH_STEPS = (-2, -1, 0, 1, 2)

#: How often the released search code draws each type. It appends to its candidate lists inside the loop over types and
#: reuses them, so candidates come with multiplicities; these are the measured ones.
PUBLISHED_TYPE_WEIGHTS = {
    **{f"SuperResK1K{k}K1": w for k, w in ((3, 3), (5, 3), (7, 2))},
    **{f"SuperResK{k}K{k}": w for k, w in ((3, 3), (5, 3), (7, 2))},
    **{
        f"SuperResIDWE{e}K{k}": w
        for (k, e), w in zip(
            ((k, e) for k in (3, 5, 7) for e in (1, 2, 4, 6)),
            (12, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2),
            strict=True,
        )
    },
}


@lru_cache(maxsize=4096)
def width_choices(width: int, largest: int) -> tuple[int, ...]:
    """Return the distinct widths a mutation of ``width`` can give, multiples of 8 from 8 to ``largest``."""
    return tuple(sorted({min(round_to_8(max(8.0, width * ratio)), largest) for ratio in WIDTH_RATIOS}))


@lru_cache(maxsize=256)
def depth_choices(depth: int) -> tuple[int, ...]:
    """Return the depths a mutation of ``depth`` can give: two less to two more, at least 1."""
    return tuple(depth + step for step in DEPTH_STEPS if depth + step >= 1)
