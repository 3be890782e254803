"""Networks that many tests use, by name; small enough to be built and trained in milliseconds."""

from __future__ import annotations

#: One residual block that halves the side.
TINY = "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,2,8,1)SuperConvK1BNRELU(16,32,1,1)"
#: The same with two layers in the block.
TINY_DEEP = "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,2,8,2)SuperConvK1BNRELU(16,32,1,1)"
#: The same with a narrow head.
TINY_NARROW = "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,2,8,1)SuperConvK1BNRELU(16,16,1,1)"
#: Stem and block both halve the side.
TINY_QUARTERED = "SuperConvK3BNRELU(3,8,2,1)SuperResK3K3(8,8,2,8,1)SuperConvK1BNRELU(8,16,1,1)"
#: Stem and head alone.
NO_BLOCKS = "SuperConvK3BNRELU(3,8,1,1)SuperConvK1BNRELU(8,16,1,1)"
#: Two stages, as the smallest study of the tests begins.
TWO_STAGES = (
    "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,8,1,8,1)SuperResK3K3(8,16,2,8,1)SuperConvK1BNRELU(16,16,1,1)"
)
#: Two stages that both halve the side.
TWO_HALVINGS = (
    "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,8,2,8,1)SuperResK3K3(8,16,2,8,1)SuperConvK1BNRELU(16,24,1,1)"
)
#: An inverted bottleneck of the mobile space.
TINY_MOBILE = "SuperConvK3BNRELU(3,8,2,1)SuperResIDWE2K3(8,8,2,8,1)SuperConvK1BNRELU(8,16,1,1)"
