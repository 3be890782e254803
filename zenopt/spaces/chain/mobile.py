"""The mobile space of Zen-NAS: inverted depthwise residuals with a head of fixed width ("IDW_fixfc")."""

from __future__ import annotations

from dataclasses import dataclass

from zenopt.spaces.chain.space import ChainSpace
from zenopt.spaces.registry import register_space

MOBILE_BLOCKS = tuple(
    f"SuperResIDWE{expansion}K{kernel}" for kernel in (3, 5, 7) for expansion in (1, 2, 4, 6)
)


@register_space("mobile")
@dataclass(frozen=True)
class MobileSpace(ChainSpace):
    """Chains of :class:`~zenopt.spaces.chain.blocks.SuperResIDW`; squeeze-excite belongs to training only, as
    published.
    """

    blocks: tuple[str, ...] = MOBILE_BLOCKS
    stage_strides: tuple[int, ...] = (2, 2, 2, 2)
    stem_stride: int = 2
    head_width: int | None = 2048
    initial: str = (
        "SuperConvK3BNRELU(3,8,2,1)SuperResIDWE6K3(8,32,2,8,1)SuperResIDWE6K3(32,48,2,32,1)"
        "SuperResIDWE6K3(48,96,2,48,1)SuperResIDWE6K3(96,128,2,96,1)SuperConvK1BNRELU(128,2048,1,1)"
    )
