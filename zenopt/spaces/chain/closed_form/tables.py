"""The shapes a search has met, packed into arrays that candidates index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zenopt.core.lowering import unit_out_size
from zenopt.spaces.chain.architecture import ResidualBlock, make_block
from zenopt.spaces.chain.closed_form.block_terms import (
    LOG_STEP,
    LOG_TOP,
    BlockTerms,
    Shape,
    block_terms,
    group_members,
)
from zenopt.spaces.chain.closed_form.correction import Correction
from zenopt.spaces.chain.closed_form.cost_terms import FEATURES, QUANTITIES, cost_terms, width_terms
from zenopt.spaces.chain.closed_form.edges import POSITIONS, Array

#: Records per shape: one per position of the incoming pattern, and the last for the uncorrected formula.
RECORDS = POSITIONS + 1
FLAT = POSITIONS


class Layout:
    """Where things stand in a record.

    Args:
        types:
            Block types that need room for their groups.

    Attributes:
        symbols: The width each group reads. Shapes with fewer groups leave places empty.
        power, mean, half_count: First of as many numbers as there are groups.
        gain: First of the three coefficients of the shift of the log gain.
        position, slope: Of the outgoing pattern.
        whole, local, overlap: First of eight: keep, average keep, three to add, three to add to the average.
        fields: Length of a record.
    """

    def __init__(self, types: Sequence[str]) -> None:
        most: dict[int, int] = {}
        for name in types:
            # With a stride and two units, every kind of convolution of a type occurs.
            symbols = [int(key[0]) for key in group_members(Shape.of(name, 2, 8, 2, False))]
            for symbol in symbols:
                most[symbol] = max(most.get(symbol, 0), symbols.count(symbol))
        self.symbols = tuple(symbol for symbol in sorted(most) for _ in range(most[symbol]))
        count = len(self.symbols)
        self.power, self.mean, self.half_count = 0, count, 2 * count
        self.gain = 3 * count
        self.position, self.slope = self.gain + 3, self.gain + 4
        self.whole, self.local, self.overlap = (self.gain + 5 + 8 * index for index in range(3))
        self.fields = self.gain + 5 + 24

    def records(self, terms: BlockTerms) -> Array:
        """Return the ``RECORDS x fields`` array of a shape."""
        records = np.zeros((RECORDS, self.fields))
        free = list(enumerate(self.symbols))
        # An empty place stands for ln 1: the running variance before any convolution is not read with count 0.
        records[:, self.power : self.mean] = 1.0
        for group in terms.groups:
            place = next(item for item in free if item[1] == group.symbol)
            free.remove(place)
            records[:, self.power + place[0]] = group.power
            records[:, self.mean + place[0]] = group.mean
            records[:, self.half_count + place[0]] = 0.5 * group.count
        records[:, self.gain : self.gain + 3] = terms.gain.T
        records[:, self.position] = terms.position
        records[:, self.slope] = terms.slope
        for first, carried in (
            (self.whole, terms.whole),
            (self.local, terms.local),
            (self.overlap, terms.overlap),
        ):
            records[:, first] = carried.keep
            records[:, first + 1] = carried.average_keep
            records[:, first + 2 : first + 5] = carried.add.T
            records[:, first + 5 : first + 8] = carried.average_add.T
        return records


class ShapeTables:
    """Tables that grow as new shapes are met.

    Attributes:
        records: ``shapes * RECORDS x fields``.
        spread: ``shapes * nodes x 4`` (see :class:`~zenopt.spaces.chain.closed_form.block_terms.BlockTerms`).
        costs: ``shapes * 2 x features x quantities``; the second of each two is for equal bottleneck and output width.
        widths: ``shapes x 6`` (see :func:`~zenopt.spaces.chain.closed_form.cost_terms.width_terms`).
        next_size: Index of the size that leaves a shape.
        sizes: (size, size as ZenNAS's counts round it); the first is the image's.
    """

    def __init__(
        self, types: Sequence[str], resolution: int, correction: Correction, log_bottom: float, use_se: bool
    ) -> None:
        self._types = tuple(types)
        self._correction = correction
        self._log_bottom = log_bottom
        self._use_se = use_se
        self.layout = Layout(self._types)
        self.nodes = len(np.arange(log_bottom, LOG_TOP + LOG_STEP / 2, LOG_STEP))
        self.sizes = [(resolution, resolution)]
        self._rows = np.full((2, len(self._types), 5, 1, 9), -1, dtype=np.int64)
        self.records = np.zeros((0, self.layout.fields))
        self.spread = np.zeros((0, 4))
        self.costs = np.zeros((0, len(FEATURES), len(QUANTITIES)))
        self.widths = np.zeros((0, 6))
        self.next_size = np.zeros(0, dtype=np.int64)

    def rows(
        self,
        reads_image: bool,
        types: NDArray[np.int32],
        strides: NDArray[np.int32],
        sizes: NDArray[np.int64],
        depths: NDArray[np.int32],
    ) -> NDArray[np.int64]:
        """Return the index of each block's shape; shapes met for the first time are added."""
        if int(depths.max()) >= self._rows.shape[4]:
            self._grow(axis=4, to=int(depths.max()) + 1)
        table = self._rows[int(reads_image)]
        rows = table[types, strides, sizes, depths]
        if rows.min() < 0:
            for place in np.flatnonzero(rows < 0):
                key = (int(types[place]), int(strides[place]), int(sizes[place]), int(depths[place]))
                # Adding a shape may make the table larger.
                if self._rows[int(reads_image)][key] < 0:
                    added = self._add(reads_image, *key)
                    self._rows[int(reads_image)][key] = added
            rows = self._rows[int(reads_image)][types, strides, sizes, depths]
        found: NDArray[np.int64] = rows
        return found

    def _grow(self, axis: int, to: int) -> None:
        shape = list(self._rows.shape)
        shape[axis] = to - shape[axis]
        self._rows = np.concatenate([self._rows, np.full(shape, -1, dtype=np.int64)], axis=axis)

    def _add(self, reads_image: bool, type_index: int, stride: int, size_index: int, depth: int) -> int:
        size, floor_size = self.sizes[size_index]
        shape = Shape.of(self._types[type_index], stride, size, depth, reads_image)
        terms = block_terms(shape, self._correction, self._log_bottom)
        costs = [cost_terms(shape, floor_size, is_equal, self._use_se) for is_equal in (False, True)]
        self.records = np.concatenate([self.records, self.layout.records(terms)])
        self.spread = np.concatenate([self.spread, terms.spread])
        self.costs = np.concatenate([self.costs, costs])
        self.widths = np.concatenate([self.widths, width_terms(shape)[None]])
        after = (terms.out_size, _floor_out_size(shape, floor_size))
        if after not in self.sizes:
            self.sizes.append(after)
            self._grow(axis=3, to=len(self.sizes))
        self.next_size = np.append(self.next_size, self.sizes.index(after))
        return len(self.next_size) - 1


def _floor_out_size(shape: Shape, floor_size: int) -> int:
    values = {"in_channels": 8, "out_channels": 8, "stride": shape.stride, "depth": shape.depth}
    if issubclass(shape.cls, ResidualBlock):
        values["bottleneck"] = 8
    return unit_out_size(make_block(shape.type_name, **values), floor_size, True)
