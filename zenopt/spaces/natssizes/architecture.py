"""Networks of NATS-Bench's size search space (Dong et al., TPAMI 2021): a fixed cell, one per stage, at five widths.

The text is the benchmark's own, ``8:64:32:16:8``: the stem and first cell, the first reduction, the second cell, the
second reduction, the third cell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from zenopt.core.costs import count
from zenopt.core.description import Description, Stack, Unit
from zenopt.core.errors import StructureError
from zenopt.core.primitives import Edge, Graph, Identity, Node, Norm, Relu
from zenopt.spaces.base import BaseArchitecture
from zenopt.spaces.layers import EPS, conv_norm, relu_conv_norm
from zenopt.spaces.nasbench201.architecture import EDGES, Reduction
from zenopt.spaces.shape import shape_profile

#: Widths of the benchmark.
WIDTHS = tuple(range(8, 65, 8))
#: Of CIFAR-10.
RESOLUTION, NUM_CLASSES = 32, 10
#: The operation on each of NAS-Bench-201's edges.
CELL = ("conv", "conv", "conv", "skip", "conv", "conv")

#: What a text looks like.
TEXT = re.compile(r"[1-9][0-9]{0,3}(:[1-9][0-9]{0,3}){4}", re.ASCII)


@dataclass(frozen=True)
class SizesArchitecture(BaseArchitecture):
    """A network of the size search space.

    Args:
        widths:
            The five widths, in channels.

    Raises:
        StructureError: If there are not five, or one is not from 1 to 9999.
    """

    widths: tuple[int, int, int, int, int]

    family: ClassVar[str] = "nats-sizes"

    def __post_init__(self) -> None:
        if TEXT.fullmatch(str(self)) is None:
            raise StructureError(
                f"A NATS-Bench text is five widths from 1 to 9999, e.g. 8:64:32:16:8, got {str(self)[:60]!r}."
            )

    @classmethod
    def parse(cls, text: str) -> SizesArchitecture:
        """Read the text of a network.

        Raises:
            StructureError: If it is malformed.
        """
        if TEXT.fullmatch(text.strip()) is None:
            raise StructureError(
                f"A NATS-Bench text is five widths from 1 to 9999, e.g. 8:64:32:16:8, got {text[:60]!r}."
            )
        return cls(tuple(map(int, text.strip().split(":"))))  # type: ignore[arg-type]

    @cached_property
    def description(self) -> Description:
        first, second, third, fourth, fifth = self.widths
        head = (Norm(fifth, EPS), Relu(fifth))
        units: tuple[Unit, ...] = (
            Stack("stem", conv_norm(3, first, 3), 3, first, self.family),
            SizedCell(first, first),
            Reduction(first, second),
            SizedCell(second, third),
            Reduction(third, fourth),
            SizedCell(fourth, fifth),
            Stack("head", head, fifth, fifth, self.family),
        )
        names = ("stem", *(f"blocks.{index}" for index in range(len(units) - 2)), "head")
        return Description(units, names, divisor=4)

    def __str__(self) -> str:
        return ":".join(map(str, self.widths))

    def shape_features(self) -> dict[str, float]:
        return shape_profile(self, RESOLUTION, 3)

    def published_counts(self) -> dict[str, float]:
        """Return ``params`` and ``flop`` on CIFAR-10; the latter counts the classifier's additions of biases, too."""
        costs = count(self, RESOLUTION, NUM_CLASSES)
        return {"params": costs.params, "flop": costs.macs + NUM_CLASSES}


@dataclass(frozen=True)
class SizedCell(Unit):
    """The cell; edges from its input change the width, and the skip among them is projected where that is needed."""

    in_channels: int
    out_channels: int

    @property
    def label(self) -> str:
        return "cell"

    def expand(self) -> tuple[Node, ...]:
        return (
            Graph(
                1,
                tuple(
                    Edge(start, end, self._operation(name, self.out_channels if start else self.in_channels))
                    for (start, end), name in zip(EDGES, CELL, strict=True)
                ),
                (3,),
            ),
        )

    def _operation(self, name: str, channels: int) -> tuple[Node, ...]:
        if name == "conv":
            return relu_conv_norm(channels, self.out_channels, 3)
        return (
            (Identity(channels),)
            if channels == self.out_channels
            else conv_norm(channels, self.out_channels, 1)
        )

    def __str__(self) -> str:
        return f"NATSCell({self.in_channels},{self.out_channels})"
