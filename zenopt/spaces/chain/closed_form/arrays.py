"""Closed-form score and costs of many chains at once.

Blocks are looked up by shape (see :mod:`zenopt.spaces.chain.closed_form.block_terms`) and evaluated place by place,
all candidates together. The scores are those of :func:`~zenopt.spaces.chain.closed_form.closed_form_zen`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log, pi

import numpy as np
from numpy.typing import NDArray

from zenopt.core.costs import BYTES_PER_NUMBER
from zenopt.core.lowering import check_positive
from zenopt.spaces.chain.closed_form.block_terms import IN, LOG_STEP, ONE, log_bottom
from zenopt.spaces.chain.closed_form.chains import (
    BOTTLENECK,
    DEPTH,
    STRIDE,
    TYPE,
    WIDTH,
    Codec,
    Genes,
    lengths,
)
from zenopt.spaces.chain.closed_form.correction import Correction
from zenopt.spaces.chain.closed_form.cost_terms import FEATURES, QUANTITIES
from zenopt.spaces.chain.closed_form.edges import Array, scale_at
from zenopt.spaces.chain.closed_form.fitted import FITTED
from zenopt.spaces.chain.closed_form.meanfield import RUNNING_START, RUNNING_WEIGHT, input_distance
from zenopt.spaces.chain.closed_form.tables import FLAT, RECORDS, ShapeTables

#: Candidates evaluated together; few enough that intermediate arrays stay in a core's cache.
CHUNK = 2048


@dataclass(frozen=True)
class ArrayCosts:
    """Costs of many candidates: the fields of :class:`zenopt.core.costs.Costs`, as arrays."""

    params: Array
    macs: Array
    layers: Array
    convs: Array
    activation_bytes: Array
    min_width: Array
    depth_to_width: Array
    zennas_params: Array
    zennas_flops: Array


class ChainEvaluator:
    """Scores and costs arrays of chains.

    Args:
        types:
            Block types that may occur.
        resolution:
            Side of the square input image in pixels.
        num_classes:
            Outputs of the classifier.
        gamma:
            Size of the input perturbation.
        batch_size:
            Batch whose scores are predicted; ``None`` is the uncorrected infinite-width formula.
        true_variance:
            Use the variance of the batch instead of Zen-NAS's running variance.
        use_se:
            Whether squeeze-excite gates are counted (the score never has them).
        correction:
            Constants of the correction.

    Example:
        .. code-block:: python

            evaluator = ChainEvaluator(types, 32, num_classes=100)
            genes = evaluator.codec.encode(architectures)
            scores, params = evaluator.score(genes), evaluator.costs(genes).params
    """

    def __init__(
        self,
        types: Sequence[str],
        resolution: int,
        *,
        num_classes: int = 1000,
        gamma: float = 0.01,
        batch_size: int | None = 64,
        true_variance: bool = False,
        use_se: bool = False,
        correction: Correction = FITTED,
    ) -> None:
        check_positive(resolution=resolution, num_classes=num_classes)
        if batch_size is not None:
            check_positive(batch_size=batch_size)
        self.codec = Codec(types)
        self.resolution = resolution
        self.num_classes = num_classes
        self._batch_size = batch_size
        self._correction = correction
        self._running = (0.0, 1.0) if true_variance else (RUNNING_START, RUNNING_WEIGHT)
        self._log_input = log(input_distance(gamma))
        self._log_bottom = log_bottom(gamma)
        self._tables = ShapeTables(self.codec.types, resolution, correction, self._log_bottom, use_se)

    def score(self, genes: Genes) -> Array:
        """Return the closed-form Zen-score of each candidate."""
        scores = np.empty(len(genes))
        for part in _parts(len(genes)):
            scores[part] = self._score(genes[part])
        return scores

    def costs(self, genes: Genes, *, widths: bool = True) -> ArrayCosts:
        """Return the costs of each candidate.

        Args:
            genes:
                Candidates.
            widths:
                Whether ``min_width`` and ``depth_to_width`` are wanted; they are NaN otherwise.
        """
        counts = np.empty((len(genes), len(QUANTITIES)))
        smallest, log_fan_in = np.full((2, len(genes)), np.nan)
        for part in _parts(len(genes)):
            counts[part] = self._counts(genes[part])
            if widths:
                smallest[part], log_fan_in[part] = self._width_sums(genes[part])
        classifier = _last_widths(genes) * self.num_classes
        columns = {name: counts[:, index] for index, name in enumerate(QUANTITIES)}
        return ArrayCosts(
            params=columns["params"] + classifier + self.num_classes,
            macs=columns["macs"] + classifier,
            layers=genes[:, :, DEPTH].sum(axis=1).astype(np.float64),
            convs=columns["convs"],
            activation_bytes=columns["activation_bytes"] + BYTES_PER_NUMBER * self.num_classes,
            min_width=smallest,
            depth_to_width=columns["convs"] / np.exp(log_fan_in / columns["convs"]),
            zennas_params=columns["zennas_params"] + classifier + 1,
            zennas_flops=columns["zennas_flops"] + classifier,
        )

    def _score(self, genes: Genes) -> Array:
        walk = _Walk(genes, self._tables)
        count = len(genes)
        total, log_distance = np.zeros(count), np.full(count, self._log_input)
        position, whole, local, overlap = np.zeros((4, count))
        correction, layout, tables = self._correction, self._tables.layout, self._tables
        saturation = correction.saturation_of(self._batch_size) if self._batch_size else 0.0
        start, weight = self._running
        for place in walk:
            live = slice(0, place.live)
            node, share = self._node(log_distance[live], tables.nodes)
            below = tables.spread[place.row * tables.nodes + node]
            above = tables.spread[place.row * tables.nodes + node + 1]
            after = _hermite(below, above, share)
            if self._batch_size is None:
                record = tables.records[place.row * RECORDS + FLAT].T
                mean: Array | float = 1.0
            else:
                nearest = np.rint(position[live]).astype(np.int64)
                record = tables.records[place.row * RECORDS + nearest].T
                offset = position[live] - nearest
                position[live] = record[layout.position] + offset * record[layout.slope]
                inverse = [1.0 / width for width in place.widths]
                softened = [1.0 / (width + correction.overlap_width) for width in place.widths]
                variance, whole[live] = _carry(record[layout.whole :], whole[live], inverse)
                local_variance, local[live] = _carry(record[layout.local :], local[live], inverse)
                seen, overlap[live] = _carry(record[layout.overlap :], overlap[live], softened)
                variance += local_variance
                variance /= 1 + saturation * variance
                mean = np.exp(-correction.mean_decay * variance) * (1 + 0.5 * seen)
                missing = 1 - mean
                gain = record[layout.gain] + missing * (
                    record[layout.gain + 1] + missing * record[layout.gain + 2]
                )
                linear = below[:, 2] + share * (above[:, 2] - below[:, 2])
                square = below[:, 3] + share * (above[:, 3] - below[:, 3])
                after += gain * (linear + gain * square)
            log_distance[live] = after
            for group, symbol in enumerate(layout.symbols):
                variance = record[layout.power + group] - record[layout.mean + group] * mean
                if symbol != ONE:
                    variance *= place.widths[symbol - IN]
                variance *= weight
                variance += start
                total[live] += record[layout.half_count + group] * np.log(variance)
        sizes = np.array([size for size, _ in tables.sizes], dtype=np.float64)[walk.size]
        total += np.log(walk.width * sizes * sizes) + 0.5 * (log_distance - log(pi))
        if self._batch_size is not None:
            scales = np.stack([scale_at(size) for size, _ in tables.sizes])
            total += scales[walk.size, np.rint(position).astype(np.int64)]
            variance = whole + local
            total -= correction.output_decay * variance / (1 + saturation * variance)
        return walk.unsort(total)

    def _node(self, log_distance: Array, nodes: int) -> tuple[NDArray[np.int64], Array]:
        place = (log_distance - self._log_bottom) * (1 / LOG_STEP)
        node = np.clip(place.astype(np.int64), 0, nodes - 2)
        return node, place - node

    def _counts(self, genes: Genes) -> Array:
        walk = _Walk(genes, self._tables)
        total = np.zeros((len(genes), len(QUANTITIES)))
        for place in walk:
            widths = (1.0, *place.widths)
            features = np.empty((place.live, len(FEATURES)))
            for index, (left, right) in enumerate(FEATURES):
                np.multiply(widths[left], widths[right], out=features[:, index])
            is_equal = place.widths[1] == place.widths[2]
            terms = self._tables.costs[place.row * 2 + is_equal]
            total[: place.live] += np.einsum("nf,nfq->nq", features, terms)
        return walk.unsort(total)

    def _width_sums(self, genes: Genes) -> tuple[Array, Array]:
        """Return the fewest output channels of a convolution, and the summed log fan-in."""
        walk = _Walk(genes, self._tables)
        smallest, log_fan_in = np.full(len(genes), np.inf), np.zeros(len(genes))
        for place in walk:
            terms = self._tables.widths[place.row]
            width_in, bottleneck, out = place.widths
            live = slice(0, place.live)
            inner = terms[:, 0] * bottleneck
            smallest[live] = np.minimum(smallest[live], np.minimum(inner, terms[:, 1] * out))
            log_fan_in[live] += (
                terms[:, 2]
                + terms[:, 3] * np.log(width_in)
                + terms[:, 4] * np.log(bottleneck)
                + terms[:, 5] * np.log(out)
            )
        return walk.unsort(smallest), walk.unsort(log_fan_in)


@dataclass(frozen=True)
class _Place:
    """The blocks at one place of the chains that have one there.

    Attributes:
        row: Index of each block's shape.
        widths: (input, bottleneck, output).
        live: How many chains have a block here; they come first.
    """

    row: NDArray[np.int64]
    widths: tuple[Array, Array, Array]
    live: int


class _Walk:
    """Walks over the places of chains, longest chains first, so that those with a block at a place are a prefix.

    Attributes:
        size: Index of the size each chain has reached.
        width: Channels it has reached.
    """

    def __init__(self, genes: Genes, tables: ShapeTables) -> None:
        count = lengths(genes)
        self._order = np.argsort(-count, kind="stable")
        self._fields = np.ascontiguousarray(genes[self._order].transpose(1, 2, 0))
        self._live = np.searchsorted(-count[self._order], -np.arange(genes.shape[1]), side="left")
        self._tables = tables
        self.size = np.zeros(len(genes), dtype=np.int64)
        self.width = np.full(len(genes), 3.0)

    def __iter__(self) -> Iterator[_Place]:
        for index, live in enumerate(self._live.tolist()):
            if live == 0:
                return
            fields = self._fields[index, :, :live]
            row = self._tables.rows(index == 0, fields[TYPE], fields[STRIDE], self.size[:live], fields[DEPTH])
            out = fields[WIDTH].astype(np.float64)
            # Blocks without a bottleneck never read the width of one; 1 keeps logarithms and reciprocals finite.
            bottleneck = np.maximum(fields[BOTTLENECK], 1).astype(np.float64)
            yield _Place(row, (self.width[:live].copy(), bottleneck, out), live)
            self.size[:live] = self._tables.next_size[row]
            self.width[:live] = out

    def unsort(self, values: Array) -> Array:
        """Return values in the order the chains came in."""
        ordered = np.empty_like(values)
        ordered[self._order] = values
        return ordered


def _carry(record: Array, start: Array, inverse: Sequence[Array]) -> tuple[Array, Array]:
    """Return (average over the block, value after it) of a carried quantity."""
    after = record[0] * start
    average = record[1] * start
    for index, values in enumerate(inverse):
        after += record[2 + index] * values
        average += record[5 + index] * values
    return average, after


def _hermite(below: Array, above: Array, share: Array) -> Array:
    """Cubic interpolation of the log distance between two nodes from its values and derivatives."""
    difference = above[:, 0] - below[:, 0]
    left, right = below[:, 1] * LOG_STEP, above[:, 1] * LOG_STEP
    curve = left + right - 2 * difference
    values: Array = below[:, 0] + share * (left + share * ((difference - left - curve) + share * curve))
    return values


def _last_widths(genes: Genes) -> Array:
    widths: Array = genes[np.arange(len(genes)), lengths(genes) - 1, WIDTH].astype(np.float64)
    return widths


def _parts(count: int) -> Iterator[slice]:
    for first in range(0, count, CHUNK):
        yield slice(first, min(first + CHUNK, count))
