"""Mutations of whole generations of chains, as arrays.

The moves are those of :class:`zenopt.spaces.chain.space.ChainSpace`: the same candidates with the same
probabilities, drawn from numpy's generator instead of Python's.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zenopt.core.errors import SpecError
from zenopt.core.primitives import round_to_8
from zenopt.spaces.chain.closed_form.chains import (
    BOTTLENECK,
    DEPTH,
    FIELDS,
    STRIDE,
    TYPE,
    WIDTH,
    Codec,
    Genes,
    lengths,
)
from zenopt.spaces.chain.fork import FORK_MAX_BOTTLENECK, FORK_MAX_WIDTH
from zenopt.spaces.chain.mutation import PUBLISHED_TYPE_WEIGHTS, WIDTH_RATIOS, depth_choices, width_choices

if TYPE_CHECKING:
    from zenopt.spaces.chain.space import ChainSpace

SPLIT_THRESHOLD = 6
MOVES = ("zen", "fork")


class ChainMoves:
    """Mutates chains of a space.

    Args:
        space:
            A :class:`~zenopt.spaces.chain.space.ChainSpace`; its bounds hold for every child.
        codec:
            Must know the space's types.

    Example:
        .. code-block:: python

            moves = ChainMoves(space, evaluator.codec)
            children, is_inside = moves.mutate(parents, np.random.default_rng(0))
    """

    def __init__(self, space: ChainSpace, codec: Codec) -> None:
        self._space = space
        self._is_residual = codec.is_residual
        self._stages = len(space.stage_strides)
        self.places = 2 + self._stages * space.slots
        weights = {**PUBLISHED_TYPE_WEIGHTS, **(space.type_weights or {})}
        cumulative = np.array(list(accumulate(weights.get(name, 1.0) for name in space.blocks)))
        self._type_bounds = cumulative / cumulative[-1]
        self._types = np.array([codec.index(name) for name in space.blocks], dtype=np.int32)
        head = space.max_head if space.head_width is None else space.head_width
        self._widths = _choice_table(space.max_width)
        self._bottlenecks = _choice_table(space.max_bottleneck)
        self._heads = _choice_table(head)
        # A split leaves blocks of half the depth, so that no deeper ones occur.
        self._depths = _depth_table(space.max_depth)

    def mutate(
        self, parents: Genes, rng: np.random.Generator, *, blocks: int = 2, move: str = "zen"
    ) -> tuple[Genes, NDArray[np.bool_]]:
        """Return one child of each parent, and which of them are inside the space.

        Args:
            parents:
                A ``candidates x places x 5`` array of chains of the space.
            rng:
                Source of randomness.
            blocks:
                Draws of a block index; a repeated index is skipped. Zen-NAS uses 1 while the population is small.
            move:
                ``"zen"`` draws type (by the published weights), width, bottleneck and depth each on its own;
                ``"fork"`` draws types uniformly and one ratio for width and bottleneck.

        Raises:
            SpecError: If the move is unknown.
        """
        if move not in MOVES:
            raise SpecError(f"The move must be one of {', '.join(MOVES)}; got {move!r}.")
        children = self._with_places(parents)
        count = lengths(children)
        drawn: list[NDArray[np.int64]] = []
        for _ in range(blocks):
            index = rng.integers(0, count)
            is_new = np.ones(len(children), dtype=bool)
            for earlier in drawn:
                is_new &= index != earlier
            drawn.append(index)
            change = self._change_zen if move == "zen" else self._change_fork
            change(children, np.flatnonzero(is_new), index[is_new], count[is_new], rng)
        return self._split(children)

    def _with_places(self, parents: Genes) -> Genes:
        children = np.zeros((len(parents), self.places, FIELDS), dtype=np.int32)
        children[:, :, TYPE] = -1
        used = min(parents.shape[1], self.places)
        children[:, :used] = parents[:, :used]
        return children

    def _change_zen(
        self,
        genes: Genes,
        rows: NDArray[np.int64],
        index: NDArray[np.int64],
        count: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> None:
        blocks = genes[rows, index]
        uniform = rng.random((4, len(rows)))
        is_head = index == count - 1
        is_residual = self._is_residual[blocks[:, TYPE]]
        blocks[:, WIDTH] = np.where(
            is_head,
            blocks[:, WIDTH]
            if self._space.head_width is not None
            else _pick(self._heads, blocks[:, WIDTH], uniform[0]),
            _pick(self._widths, blocks[:, WIDTH], uniform[0]),
        )
        self._retype(blocks, is_residual, np.searchsorted(self._type_bounds, uniform[1], side="right"))
        deep = _pick_at(self._depths, blocks[:, DEPTH], uniform[2])
        blocks[:, DEPTH] = np.where(is_residual, deep, blocks[:, DEPTH])
        inner = _pick(self._bottlenecks, blocks[:, BOTTLENECK], uniform[3])
        blocks[:, BOTTLENECK] = np.where(is_residual, inner, blocks[:, BOTTLENECK])
        genes[rows, index] = blocks

    def _change_fork(
        self,
        genes: Genes,
        rows: NDArray[np.int64],
        index: NDArray[np.int64],
        count: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> None:
        blocks = genes[rows, index]
        ratio = rng.integers(0, len(WIDTH_RATIOS), len(rows))
        kind = rng.integers(0, len(self._types), len(rows))
        uniform = rng.random(len(rows))
        is_residual = self._is_residual[blocks[:, TYPE]]
        is_fixed = (index == count - 1) & (self._space.head_width is not None)
        scaled = np.minimum(_scaled(blocks[:, WIDTH], ratio), FORK_MAX_WIDTH)
        blocks[:, WIDTH] = np.where(is_fixed, blocks[:, WIDTH], scaled)
        inner = np.minimum(_scaled(blocks[:, BOTTLENECK], ratio), FORK_MAX_BOTTLENECK)
        blocks[:, BOTTLENECK] = np.where(is_residual, inner, blocks[:, BOTTLENECK])
        self._retype(blocks, is_residual, kind)
        deep = _pick_at(self._depths, blocks[:, DEPTH], uniform)
        blocks[:, DEPTH] = np.where(is_residual, deep, blocks[:, DEPTH])
        genes[rows, index] = blocks

    def _retype(self, blocks: Genes, is_residual: NDArray[np.bool_], kind: NDArray[np.int64]) -> None:
        chosen = self._types[np.minimum(kind, len(self._types) - 1)]
        blocks[:, TYPE] = np.where(is_residual, chosen, blocks[:, TYPE])

    # -- splitting --------------------------------------------------------------------------------------------------

    def _split(self, genes: Genes) -> tuple[Genes, NDArray[np.bool_]]:
        """Split deep residual blocks, twice; return the chains and which of them are inside the space."""
        inside = self._is_within_bounds(genes)
        for _ in range(2):
            is_deep = (genes[:, :, DEPTH] >= SPLIT_THRESHOLD) & (genes[:, :, TYPE] >= 0)
            is_deep &= self._is_residual[genes[:, :, TYPE]]
            affected = np.flatnonzero(is_deep.any(axis=1) & inside)
            if len(affected) == 0:
                break
            split, fits = self._split_once(genes[affected], is_deep[affected])
            genes[affected] = split
            inside[affected] &= fits
        inside &= (genes[:, :, DEPTH] <= self._space.max_depth).all(axis=1)
        return genes, inside

    def _split_once(self, genes: Genes, is_deep: NDArray[np.bool_]) -> tuple[Genes, NDArray[np.bool_]]:
        rows, places = np.nonzero(genes[:, :, TYPE] >= 0)
        before: NDArray[np.int64] = np.cumsum(is_deep, axis=1) - is_deep
        target = places + before[rows, places]
        deep = is_deep[rows, places]
        roomy = np.zeros((len(genes), 2 * self.places, FIELDS), dtype=np.int32)
        roomy[:, :, TYPE] = -1
        blocks = genes[rows, places]
        first = blocks.copy()
        first[deep, DEPTH] = 3
        roomy[rows, target] = first
        rest = blocks[deep]
        rest[:, DEPTH] -= 3
        rest[:, STRIDE] = 1
        roomy[rows[deep], target[deep] + 1] = rest
        fits = self._stages_fit(roomy)
        return roomy[:, : self.places], fits

    def _stages_fit(self, genes: Genes) -> NDArray[np.bool_]:
        is_block = (genes[:, :, TYPE] >= 0) & self._is_residual[genes[:, :, TYPE]]
        # The stem has a stride of its own; a stage begins at a residual block with a stride, or at the first.
        starts = is_block & (genes[:, :, STRIDE] > 1)
        stage = np.cumsum(starts, axis=1)
        filled = [(is_block & (stage == number)).sum(axis=1) for number in range(int(stage.max()) + 1)]
        fits: NDArray[np.bool_] = np.max(filled, axis=0) <= self._space.slots
        return fits

    def _is_within_bounds(self, genes: Genes) -> NDArray[np.bool_]:
        """Widths of children may exceed the space's under the fork's move, whose caps are its own."""
        is_block = (genes[:, :, TYPE] >= 0) & self._is_residual[genes[:, :, TYPE]]
        last = lengths(genes) - 1
        head_limit = self._space.max_head if self._space.head_width is None else self._space.head_width
        checks = [
            (~is_block | (genes[:, :, WIDTH] <= self._space.max_width)).all(axis=1),
            (genes[:, :, BOTTLENECK] <= self._space.max_bottleneck).all(axis=1),
            genes[:, 0, WIDTH] <= self._space.max_width,
            genes[np.arange(len(genes)), last, WIDTH] <= head_limit,
        ]
        inside: NDArray[np.bool_] = np.logical_and.reduce(checks)
        return inside


def _pick(
    table: tuple[NDArray[np.int32], NDArray[np.int64]], widths: Genes, uniform: NDArray[np.float64]
) -> Genes:
    """Pick one of the choices of each width, uniformly."""
    choices, counts = table
    row = np.minimum(widths // 8, len(choices) - 1)
    picked: Genes = choices[row, (uniform * counts[row]).astype(np.int64)]
    return picked


def _pick_at(
    table: tuple[NDArray[np.int32], NDArray[np.int64]], rows: Genes, uniform: NDArray[np.float64]
) -> Genes:
    choices, counts = table
    row = np.minimum(rows, len(choices) - 1)
    picked: Genes = choices[row, (uniform * counts[row]).astype(np.int64)]
    return picked


@lru_cache(maxsize=16)
def _choice_table(largest: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The choices of every width, by ``width / 8``, and how many each has."""
    return _table([width_choices(8 * max(1, eighth), largest) for eighth in range(largest // 8 + 1)])


@lru_cache(maxsize=16)
def _depth_table(deepest: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    return _table([depth_choices(max(1, depth)) for depth in range(deepest + 1)])


def _table(choices: list[tuple[int, ...]]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    counts = np.array([len(row) for row in choices])
    table = np.zeros((len(choices), int(counts.max())), dtype=np.int32)
    for row, values in zip(table, choices, strict=True):
        row[: len(values)] = values
    return table, counts


def _scaled(widths: Genes, ratio: NDArray[np.int64]) -> Genes:
    table = _scaled_table(int(widths.max(initial=8)) // 8)
    scaled: Genes = table[np.maximum(widths, 8) // 8, ratio]
    return scaled


@lru_cache(maxsize=64)
def _scaled_table(most: int) -> NDArray[np.int32]:
    rows = [[round_to_8(8 * max(1, eighth) * ratio) for ratio in WIDTH_RATIOS] for eighth in range(most + 1)]
    return np.array(rows, dtype=np.int32)
