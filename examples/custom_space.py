"""A space of one's own that is no chain of free blocks: one network, scaled by four numbers.

All blocks of a network share a kernel and a depth, and widths grow by a constant factor from stage to stage, as
hand-made networks do. ``examples/scaled.yaml`` names the space as ``custom_space:ScaledSpace``::

    PYTHONPATH=examples zenopt optimize --study examples/scaled.yaml --trials 50

What it builds are chains of zenopt's own blocks, so every command reads them without this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from zenopt import Architecture, BaseSpace
from zenopt.core.errors import StructureError
from zenopt.core.primitives import round_to_8

GROWTH = (1.0, 1.5, 2.0, 2.5)
KERNELS = (3, 5, 7)
STRIDES = (1, 2, 2)


@dataclass(frozen=True)
class ScaledSpace(BaseSpace):
    """Three stages of one block each.

    Args:
        max_width:
            Largest width of the first stage in channels.
        max_depth:
            Largest depth of every block.
        initial:
            Structure a search starts from.
    """

    max_width: int = 64
    max_depth: int = 5
    initial: str = ""

    def __post_init__(self) -> None:
        if not self.initial:
            first = {"width": 16, "depth": 1, "kernel": 3, "growth": 2.0}
            object.__setattr__(self, "initial", str(self.decode(first)))

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Every parameter; the same in every trial."""
        return {
            "width": IntDistribution(8, self.max_width, step=8),
            "depth": IntDistribution(1, self.max_depth),
            "kernel": CategoricalDistribution(KERNELS),
            "growth": CategoricalDistribution(GROWTH),
        }

    def decode(self, params: Mapping[str, Any]) -> Architecture:
        """Return the architecture of parameter values."""
        width, depth, kernel = params["width"], params["depth"], params["kernel"]
        text, channels = f"SuperConvK3BNRELU(3,{width},1,1)", width
        for stage, stride in enumerate(STRIDES):
            out = round_to_8(width * params["growth"] ** stage)
            bottleneck = round_to_8(out / 2)
            text += f"SuperResK{kernel}K{kernel}({channels},{out},{stride},{bottleneck},{depth})"
            channels = out
        return Architecture.parse(f"{text}SuperConvK1BNRELU({channels},{2 * channels},1,1)")

    def encode(self, architecture: Architecture) -> dict[str, Any]:
        """Return the parameters of an architecture; the inverse of :meth:`decode`.

        Raises:
            StructureError: If the architecture is outside the space.
        """
        stem, first = architecture.blocks[:2]
        params: dict[str, Any] = {
            "width": stem.out_channels,
            "depth": first.depth,
            "kernel": getattr(first, "kernel", 0),
        }
        # At narrow widths two growths may give the same widths; the smaller stands for both.
        for growth in GROWTH:
            found = {**params, "growth": growth}
            if self._is_inside(found) and self.decode(found) == architecture:
                return found
        raise StructureError(f"Outside the space: {architecture} is no scaled network.")

    def _is_inside(self, params: Mapping[str, Any]) -> bool:
        return (
            8 <= params["width"] <= self.max_width
            and params["width"] % 8 == 0
            and 1 <= params["depth"] <= self.max_depth
            and params["kernel"] in KERNELS
        )

    def parse(self, text: str) -> Architecture:
        """Read the text of an architecture."""
        return Architecture.parse(text)

    def shrink(self, architecture: Architecture) -> Architecture | None:
        """Return a slightly smaller architecture, or ``None``: searches shrink the initial one into the budget."""
        params = self.encode(architecture)
        if params["depth"] > 1:
            return self.decode({**params, "depth": params["depth"] - 1})
        if params["growth"] > GROWTH[0]:
            return self.decode({**params, "growth": GROWTH[GROWTH.index(params["growth"]) - 1]})
        if params["width"] > 8:
            return self.decode({**params, "width": params["width"] - 8})
        return None
