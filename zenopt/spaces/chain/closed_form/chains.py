"""Chains of super-blocks as integer arrays, one candidate per row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from zenopt.core.errors import StructureError
from zenopt.spaces.chain.architecture import Architecture, block_variant, make_block

#: Fields of a block. An empty place has type -1 and zeros.
TYPE, STRIDE, DEPTH, WIDTH, BOTTLENECK = range(5)
FIELDS = 5

Genes = NDArray[np.int32]


class Codec:
    """Turns architectures into rows of integers and back.

    Args:
        types:
            Names of the block types that may occur; a block's type is its index in them.

    Example:
        .. code-block:: python

            codec = Codec(["SuperConvK3BNRELU", "SuperResK3K3", "SuperConvK1BNRELU"])
            genes = codec.encode([architecture])
            assert codec.decode(genes[0]) == architecture
    """

    def __init__(self, types: Sequence[str]) -> None:
        self.types = tuple(dict.fromkeys(types))
        self._index = {name: index for index, name in enumerate(self.types)}
        self._is_residual = np.array([block_variant(name).cls.is_residual for name in self.types])

    @property
    def is_residual(self) -> NDArray[np.bool_]:
        """Whether each type is a residual block."""
        return self._is_residual

    def index(self, type_name: str) -> int:
        """Return the number of a type.

        Raises:
            StructureError: If it is not among the codec's.
        """
        if type_name not in self._index:
            raise StructureError(f"Block type {type_name} is not among {', '.join(self.types)}.")
        return self._index[type_name]

    def encode(self, architectures: Iterable[Architecture], places: int | None = None) -> Genes:
        """Return a ``candidates x places x 5`` array of type, stride, depth, width and bottleneck.

        Args:
            architectures:
                Chains of the codec's types. Input channels follow from the widths and are not stored.
            places:
                Most blocks; by default as many as the longest has.

        Raises:
            StructureError: If a chain is longer, or has a type the codec does not know.
        """
        chains = [architecture.blocks for architecture in architectures]
        longest = max((len(blocks) for blocks in chains), default=0)
        if places is not None and longest > places:
            raise StructureError(f"A chain has {longest} blocks; there is room for {places}.")
        genes = np.zeros((len(chains), places or longest, FIELDS), dtype=np.int32)
        genes[:, :, TYPE] = -1
        for row, blocks in zip(genes, chains, strict=True):
            for gene, block in zip(row, blocks, strict=False):
                gene[:] = (
                    self.index(block.type_name),
                    block.stride,
                    block.depth,
                    block.out_channels,
                    getattr(block, "bottleneck", 0),
                )
        return genes

    def decode(self, row: Genes) -> Architecture:
        """Return the architecture of one row."""
        blocks = []
        for gene in row[row[:, TYPE] >= 0].tolist():
            name = self.types[gene[TYPE]]
            values = {"stride": gene[STRIDE], "depth": gene[DEPTH], "out_channels": gene[WIDTH]}
            if self._is_residual[gene[TYPE]]:
                values["bottleneck"] = gene[BOTTLENECK]
            blocks.append(make_block(name, in_channels=8, **values))
        return Architecture.chain(blocks)


def lengths(genes: Genes) -> NDArray[np.int64]:
    """Return the number of blocks of each candidate."""
    counts: NDArray[np.int64] = (genes[:, :, TYPE] >= 0).sum(axis=1)
    return counts


def fingerprints(genes: Genes) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each candidate; equal structures have equal ones, whatever the number of places.

    A search of a million structures meets one chance collision in about 40 million runs.
    """
    flat = genes.reshape(len(genes), -1).astype(np.uint64)
    # Filler places are mapped to zero, so that they do not count.
    flat = np.where(np.repeat(genes[:, :, TYPE] >= 0, FIELDS, axis=1), flat + np.uint64(1), np.uint64(0))
    with np.errstate(over="ignore"):
        mixed = flat * _multipliers(flat.shape[1])
        mixed ^= mixed >> np.uint64(29)
        total: NDArray[np.uint64] = (mixed * np.uint64(0xBF58476D1CE4E5B9)).sum(axis=1, dtype=np.uint64)
        total ^= total >> np.uint64(31)
    return total


_MULTIPLIERS: NDArray[np.uint64] = np.random.default_rng(20_261_120).integers(
    1, 2**63, size=4096, dtype=np.uint64
) * np.uint64(2) + np.uint64(1)


def _multipliers(count: int) -> NDArray[np.uint64]:
    if count > len(_MULTIPLIERS):
        raise StructureError(f"A chain has at most {len(_MULTIPLIERS) // FIELDS} places in an array.")
    return _MULTIPLIERS[:count]
