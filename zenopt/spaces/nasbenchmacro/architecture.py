"""Architectures of NAS-Bench-Macro (Su et al., "Prioritized Architecture Sampling with Monto-Carlo Tree Search", CVPR
2021): eight layers between a stem and a head, in stages of 2, 3 and 3.

The text is the benchmark's own, a digit per layer: ``0`` identity, ``1`` inverted bottleneck of expansion 3 and kernel
3, ``2`` of expansion 6 and kernel 5. The first layer of a stage halves the map and doubles the width, an identity there
by a 1x1 convolution; any other identity is nothing at all. Where those stand in their stage makes no difference, so the
canonical text has them at its end (``01001001`` becomes ``01010010``): the benchmark's 6,561 texts are 3,969 networks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from zenopt.core.costs import count
from zenopt.core.description import Description, Stack, Unit
from zenopt.core.errors import StructureError
from zenopt.core.primitives import Node
from zenopt.spaces.base import BaseArchitecture
from zenopt.spaces.layers import conv_norm, conv_norm_relu, inverted_residual
from zenopt.spaces.shape import shape_profile

#: Layers of the stages.
STAGES = (2, 3, 3)
#: Operation of each digit.
OPERATIONS = ("identity", "mb3_k3", "mb6_k5")
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280
#: Of the benchmark.
RESOLUTION, NUM_CLASSES = 32, 10

_TEXT = re.compile(r"[012]{8}", re.ASCII)


@dataclass(frozen=True)
class MacroArchitecture(BaseArchitecture):
    """A network of NAS-Bench-Macro.

    Args:
        digits:
            Operation of each layer; identities that are nothing move to the end of their stage.

    Raises:
        StructureError: If these are not eight digits from 0 to 2.
    """

    digits: str

    family: ClassVar[str] = "nasbench-macro"

    def __post_init__(self) -> None:
        if _TEXT.fullmatch(self.digits) is None:
            raise StructureError(
                f"A NAS-Bench-Macro text is {sum(STAGES)} digits from 0 to 2, got {self.digits[:60]!r}."
            )
        stages, start = [], 0
        for length in STAGES:
            first, rest = self.digits[start], self.digits[start + 1 : start + length]
            stages.append(first + rest.replace("0", "").ljust(length - 1, "0"))
            start += length
        object.__setattr__(self, "digits", "".join(stages))

    @cached_property
    def places(self) -> tuple[str, ...]:
        """Number of the layer, and its operation: the operations share nothing."""
        starts = {sum(STAGES[:stage]) for stage in range(len(STAGES))}
        layers = (
            f"layer{place + 1}.{OPERATIONS[int(digit)]}"
            for place, digit in enumerate(self.digits)
            if digit != "0" or place in starts
        )
        return ("stem", *layers, "head")

    @cached_property
    def description(self) -> Description:
        stem = Stack("stem", conv_norm_relu(3, STEM_CHANNELS, 3), 3, STEM_CHANNELS, self.family)
        units: list[Unit] = [stem]
        channels, place = STEM_CHANNELS, 0
        for length in STAGES:
            for index in range(length):
                stride = 2 if index == 0 else 1
                operation = OPERATIONS[int(self.digits[place])]
                if operation != "identity" or stride > 1:
                    units.append(Layer(operation, channels, channels * stride, stride))
                channels *= stride
                place += 1
        head = conv_norm_relu(channels, HEAD_CHANNELS, 1)
        units.append(Stack("head", head, channels, HEAD_CHANNELS, self.family))
        names = ("stem", *(f"blocks.{index}" for index in range(len(units) - 2)), "head")
        return Description(tuple(units), names, has_links=True)

    def __str__(self) -> str:
        return self.digits

    def shape_features(self) -> dict[str, float]:
        return shape_profile(self, RESOLUTION, 4)

    def published_counts(self) -> dict[str, float]:
        costs = count(self, RESOLUTION, NUM_CLASSES)
        return {"params": costs.params, "macs": costs.macs}


@dataclass(frozen=True)
class Layer(Unit):
    """One layer; an identity only where it changes the shape."""

    operation: str
    in_channels: int
    out_channels: int
    stride: int

    @property
    def label(self) -> str:
        return self.operation

    @property
    def inner_channels(self) -> int | None:
        return None if self.operation == "identity" else self.in_channels * int(self.operation[2])

    def expand(self) -> tuple[Node, ...]:
        inner = self.inner_channels
        if inner is None:
            return conv_norm(self.in_channels, self.out_channels, 1, self.stride)
        kernel = int(self.operation[-1])
        return inverted_residual(self.in_channels, inner, self.out_channels, kernel, self.stride)

    def __str__(self) -> str:
        return f"MacroLayer({self.operation},{self.in_channels},{self.out_channels},{self.stride})"
