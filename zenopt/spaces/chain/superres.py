"""The ResNet-like space of Zen-NAS: K1KXK1 bottlenecks and KXKX blocks ("XXBL" in the released code)."""

from __future__ import annotations

from dataclasses import dataclass

from zenopt.spaces.chain.space import ChainSpace
from zenopt.spaces.registry import register_space

SUPERRES_BLOCKS = (
    "SuperResK1K3K1",
    "SuperResK1K5K1",
    "SuperResK1K7K1",
    "SuperResK3K3",
    "SuperResK5K5",
    "SuperResK7K7",
)


@register_space("superres")
@dataclass(frozen=True)
class SuperResSpace(ChainSpace):
    """Chains of :class:`~zenopt.spaces.chain.blocks.SuperResK1KXK1` and
    :class:`~zenopt.spaces.chain.blocks.SuperResKXKX`.

    The default bounds hold all published ZenNets of this family. Those of the released search code are narrower
    (widths to 2048), yet its published nets go to 2496; we bound nothing that was published.
    """

    blocks: tuple[str, ...] = SUPERRES_BLOCKS
    initial: str = (
        "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,1)SuperResK3K3(16,32,2,16,1)"
        "SuperResK3K3(32,64,2,32,1)SuperResK3K3(64,64,2,32,1)SuperConvK1BNRELU(64,128,1,1)"
    )
    max_width: int = 2560
