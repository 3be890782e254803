"""A table of measured blocks with one scale factor: the best predictor of a device at hand.

A network's time is the sum of its blocks' times, each measured by itself, times one factor that says what running them
together saves or costs. Blocks that are not in the table get the additive model's time until somebody measures them;
a search fills the table as it goes (:mod:`zenopt.latency.fill`), because a mutation brings only one new block or two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from zenopt.core.errors import DeviceError
from zenopt.latency.models import LARGEST, AdditiveModel, LatencyModel, read_coefficients, register_model
from zenopt.latency.operations import Operation
from zenopt.latency.parts import Part


class TableModel(LatencyModel):
    """Measured blocks times a scale factor, an additive model for the others.

    Args:
        blocks:
            Milliseconds per image of each block measured by itself, by the name of its part.
        scale:
            Time of a whole network over the sum of its blocks.
        additive:
            Model of what is not in the table.
        visit_scatter:
            Relative standard deviation of single visits to a block.
        additive_scatter:
            Relative standard deviation of blocks around the additive model; infinite: nothing is known of it.
    """

    def __init__(
        self,
        blocks: Mapping[str, float],
        scale: float,
        additive: AdditiveModel,
        visit_scatter: float = 0.0,
        additive_scatter: float = math.inf,
    ) -> None:
        self.blocks = dict(blocks)
        self.scale = scale
        self.additive = additive
        self.visit_scatter = visit_scatter
        self.additive_scatter = additive_scatter

    def operation_times(self, operations: Sequence[Operation]) -> list[float]:
        return self.additive.operation_times(operations)

    def part_ms(self, part: Part) -> float:
        known = self.blocks.get(part.name)
        return self.scale * known if known is not None else super().part_ms(part)

    def believed_ms(self, part: Part, measured_ms: float, visits: int) -> float:
        """Return the time of a part by itself that its visits and the additive model together make likely.

        Args:
            part:
                The part.
            measured_ms:
                What its visits agree on.
            visits:
                How many they were.
        """
        expected = sum(self.additive.operation_times(part.operations())) / self.scale
        return weighed(measured_ms, expected, self.visit_scatter / math.sqrt(visits), self.additive_scatter)


def weighed(measured: float, expected: float, measured_error: float, expected_error: float) -> float:
    """Return the mean of two estimates' logarithms, weighted by the squares of their relative errors."""
    if not (measured > 0 and expected > 0) or measured_error == 0 or math.isinf(expected_error):
        return measured
    trust = expected_error**2 / (expected_error**2 + measured_error**2)
    return math.exp(trust * math.log(measured) + (1 - trust) * math.log(expected))


@register_model("table")
def _load_table(model: Mapping[str, Any], batch: int, bytes_per_number: float) -> LatencyModel:
    blocks = {str(name): float(value) for name, value in dict(model["blocks"]).items()}
    scale = float(model["scale"])
    if not 1 / LARGEST <= scale <= LARGEST or not all(0 <= value <= LARGEST for value in blocks.values()):
        raise DeviceError(f"model.scale must be positive and model.blocks non-negative, at most {LARGEST:g}")
    scatters = float(model.get("visit_scatter", 0.0)), float(model.get("additive_scatter", math.inf))
    if not 0 <= scatters[0] <= LARGEST or not scatters[1] >= 0:
        raise DeviceError("model.visit_scatter and model.additive_scatter must be non-negative numbers")
    additive = AdditiveModel(read_coefficients(model), batch, bytes_per_number)
    return TableModel(blocks, scale, additive, *scatters)
