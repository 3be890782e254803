"""From visits of networks and their blocks to a block table with a scale factor and an additive model."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zenopt.latency.fit import coefficients_json, fit_relative, term_matrix
from zenopt.latency.parts import Network, Part
from zenopt.latency.table import weighed
from zenopt.latency.visits import combined_ms, scatter_of, standard_error_of

#: Terms of the additive model of a device at hand: see docs/latency.md for how they compare.
TERMS = (
    "network", "pointwise_gmacs", "spatial_gmacs", "thin_gmacs", "conv_gb", "weight_gb", "depthwise_gmacs",
    "depthwise_gelements", "elementwise_gb", "conv_count", "elementwise_count",
)  # fmt: skip
#: A single block weighs less than a network in the additive fit: there are many, and networks are what matters.
BLOCK_WEIGHT = 0.3
#: No additive model is believed to know blocks better than this.
MIN_ADDITIVE_SCATTER = 0.03


@dataclass
class Samples:
    """What was visited: milliseconds per image of every visit."""

    networks: dict[Network, list[float]] = field(default_factory=dict)
    parts: dict[Part, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class TableFit:
    """A fitted block table.

    Attributes:
        scale: Time of a whole network over the sum of its blocks.
        coefficients: Of the additive model, by term.
        blocks: Milliseconds per image of each block by itself, by name.
        visit_scatter: Relative standard deviation of single visits to a block.
        additive_scatter: Relative standard deviation of blocks around the additive model.
    """

    scale: float
    coefficients: Mapping[str, float]
    blocks: Mapping[str, float]
    visit_scatter: float
    additive_scatter: float

    def to_json(self) -> dict[str, Any]:
        """Return the ``model`` of a device profile."""
        return {
            "kind": "table",
            "scale": _short(self.scale),
            "coefficients": dict(self.coefficients),
            "visit_scatter": _short(self.visit_scatter),
            "additive_scatter": _short(self.additive_scatter),
            "blocks": {name: _short(ms) for name, ms in self.blocks.items()},
        }


def fit_table(samples: Samples, batch: int, bytes_per_number: float) -> TableFit:
    """Fit scale factor, additive model and block times to visits.

    The scale factor is the geometric mean over networks of the whole time over the sum of the blocks' times. The
    additive model is fitted to networks and scaled blocks together. Then each block is drawn towards the additive
    model, the more the worse its visits determine it.
    """
    network_ms = {network: combined_ms(times) for network, times in samples.networks.items()}
    part_ms = {part: combined_ms(times) for part, times in samples.parts.items()}
    scale = _scale(network_ms, part_ms)
    coefficients = _additive(network_ms, part_ms, scale, batch, bytes_per_number)
    values = np.array([coefficients.get(name, 0.0) for name in TERMS])
    matrix = _part_matrix(list(part_ms), batch, bytes_per_number)
    expected = dict(zip(part_ms, matrix @ values / scale, strict=True))
    visit_scatter = scatter_of(samples.parts.values())
    errors = {part: standard_error_of(visit_scatter, len(times)) for part, times in samples.parts.items()}
    additive_scatter = _excess_scatter(
        [math.log(part_ms[part] / expected[part]) for part in part_ms if expected[part] > 0 < part_ms[part]],
        list(errors.values()),
    )
    believed = {
        part: weighed(ms, float(expected[part]), errors[part], additive_scatter)
        for part, ms in part_ms.items()
    }
    return TableFit(
        _scale(network_ms, believed),
        coefficients,
        {part.name: ms for part, ms in believed.items()},
        visit_scatter,
        additive_scatter,
    )


def _scale(network_ms: Mapping[Network, float], part_ms: Mapping[Part, float]) -> float:
    logs = [
        math.log(ms / sum(part_ms[part] for part in network.parts())) for network, ms in network_ms.items()
    ]
    return math.exp(statistics.fmean(logs))


def _additive(
    network_ms: Mapping[Network, float],
    part_ms: Mapping[Part, float],
    scale: float,
    batch: int,
    bytes_per_number: float,
) -> Mapping[str, float]:
    networks = term_matrix([n.operations() for n in network_ms], TERMS, batch, bytes_per_number)
    matrix = np.vstack([networks, _part_matrix(list(part_ms), batch, bytes_per_number)])
    times = np.array([*network_ms.values(), *(scale * ms for ms in part_ms.values())])
    weights = np.concatenate([np.ones(len(network_ms)), np.full(len(part_ms), BLOCK_WEIGHT)])
    return coefficients_json(TERMS, fit_relative(matrix, times, weights))


def _part_matrix(parts: Sequence[Part], batch: int, bytes_per_number: float) -> np.ndarray:
    matrix = term_matrix([part.operations() for part in parts], TERMS, batch, bytes_per_number)
    # What a whole forward costs besides its layers is not in a block's time.
    matrix[:, TERMS.index("network")] = 0.0
    return matrix


def _excess_scatter(residuals: Sequence[float], errors: Sequence[float]) -> float:
    """Return the scatter of residuals that the errors of measuring do not explain."""
    if len(residuals) < 2:
        return math.inf
    excess = statistics.fmean(value**2 for value in residuals) - statistics.fmean(e**2 for e in errors)
    # Never nothing: residuals of the blocks that were fitted are smaller than those of others.
    return math.sqrt(max(excess, MIN_ADDITIVE_SCATTER**2))


def _short(value: float) -> float:
    return float(f"{value:.4g}")
