"""Networks of once-for-all's MobileNetV3 space (Cai et al., "Once-for-All: Train One Network and Specialize it for
Efficient Deployment", ICLR 2020): five stages of up to four inverted bottlenecks behind a fixed one.

The text is kernel and expansion of every block that is there, ``k3e6.k5e4-k3e3.k3e3.k7e6-...``: blocks joined by dots,
stages by hyphens; then ``-w1.2`` where all widths are multiplied.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

from zenopt.core.description import Description, Stack, Unit
from zenopt.core.errors import StructureError
from zenopt.core.primitives import Activation, Conv, Node, SqueezeExcite
from zenopt.core.text import quoted
from zenopt.spaces.base import BaseArchitecture
from zenopt.spaces.layers import conv_norm_act, inverted_residual
from zenopt.spaces.shape import shape_profile

KERNELS, EXPANSIONS, DEPTHS = (3, 5, 7), (3, 4, 6), (2, 3, 4)
#: Behind the stem, whose block is fixed, and of the stages.
STEM_CHANNELS = 16
STAGE_CHANNELS = (24, 40, 80, 112, 160)
STRIDES = (2, 2, 2, 1, 2)
FUNCTIONS = ("relu", "relu", "hardswish", "hardswish", "hardswish")
GATED = (False, True, False, True, True)
#: Of the two convolutions of the head, before and after pooling.
HEAD_CHANNELS = (960, 1280)
DROPOUT = 0.1
#: Multipliers of all widths that make sense; 1 and 1.2 were published.
MIN_WIDTH, MAX_WIDTH = 0.25, 4.0
#: Of the published networks, whose resolution is 128 to 224.
RESOLUTION, NUM_CLASSES = 224, 1000

_BLOCK = re.compile(r"k([1-9][0-9]?)e([1-9][0-9]?)", re.ASCII)
_WIDTH = re.compile(r"w([0-9](?:\.[0-9]{1,3})?)", re.ASCII)


class BlockChoice(NamedTuple):
    """What a block may choose."""

    kernel: int
    expansion: int

    def __str__(self) -> str:
        return f"k{self.kernel}e{self.expansion}"


@dataclass(frozen=True)
class OfaArchitecture(BaseArchitecture):
    """A network of the space.

    Args:
        stages:
            The blocks of each stage.
        width:
            Multiplier of all widths, which are rounded to multiples of 8.

    Raises:
        StructureError: If there are not five stages, or one is not of the space.
    """

    stages: tuple[tuple[BlockChoice, ...], ...]
    width: float = 1.0

    family: ClassVar[str] = "ofa-mobilenetv3"

    def __post_init__(self) -> None:
        if len(self.stages) != len(STRIDES):
            raise StructureError(f"A once-for-all text has {len(STRIDES)} stages, got {len(self.stages)}.")
        if not MIN_WIDTH <= self.width <= MAX_WIDTH:
            raise StructureError(
                f"The width of a once-for-all text is from {MIN_WIDTH} to {MAX_WIDTH}, got {self.width}."
            )
        for number, blocks in enumerate(self.stages, start=1):
            if len(blocks) not in DEPTHS:
                raise StructureError(
                    f"Stage {number} of a once-for-all text: expected {DEPTHS[0]} to {DEPTHS[-1]} blocks, got "
                    f"{len(blocks)}."
                )
            for block in blocks:
                if block.kernel not in KERNELS or block.expansion not in EXPANSIONS:
                    raise StructureError(
                        f"Stage {number} of a once-for-all text: expected kernels of {_listed(KERNELS)} and expansions "
                        f"of {_listed(EXPANSIONS)}, got {block}."
                    )

    @classmethod
    def parse(cls, text: str) -> OfaArchitecture:
        """Read the text of a network.

        Raises:
            StructureError: If it is malformed.
        """
        parts = text.strip()[:1000].split("-")
        width = _WIDTH.fullmatch(parts[-1])
        stages = []
        for number, part in enumerate(parts[:-1] if width else parts, start=1):
            found = [_BLOCK.fullmatch(block) for block in part.split(".")]
            if not all(found):
                raise StructureError(
                    f"Stage {number} of a once-for-all text: expected e.g. k3e6.k5e4, got {quoted(part[:60])}."
                )
            stages.append(tuple(BlockChoice(int(match[1]), int(match[2])) for match in found if match))
        return cls(tuple(stages), float(width[1]) if width else 1.0)

    @cached_property
    def places(self) -> tuple[str, ...]:
        """Stage and number of the block."""
        blocks = (
            f"stage{stage}.block{number}"
            for stage, own in enumerate(self.stages, start=1)
            for number in range(1, len(own) + 1)
        )
        return ("stem", *blocks, "head")

    @cached_property
    def description(self) -> Description:
        width = self._scaled(STEM_CHANNELS)
        stem = (
            *conv_norm_act(3, width, 3, 2, function="hardswish"),
            *inverted_residual(width, width, width, 3, 1),
        )
        units: list[Unit] = [Stack("stem", stem, 3, width, self.family)]
        for blocks, channels, stride, function, is_gated in zip(
            self.stages, STAGE_CHANNELS, STRIDES, FUNCTIONS, GATED, strict=True
        ):
            for index, (kernel, expansion) in enumerate(blocks):
                entering = units[-1].out_channels
                inner = divisible_by_8(entering * expansion)
                units.append(
                    OfaBlock(
                        kernel,
                        entering,
                        inner,
                        self._scaled(channels),
                        1 if index else stride,
                        function,
                        is_gated,
                    )
                )
        last, (before, after) = units[-1].out_channels, map(self._scaled, HEAD_CHANNELS)
        head = conv_norm_act(last, before, 1, function="hardswish")
        units.append(Stack("head", head, last, before, self.family))
        names = ("stem", *(f"blocks.{index}" for index in range(len(units) - 2)), "head")
        neck = (Conv(before, after, 1), Activation(after, "hardswish"))
        return Description(tuple(units), names, neck, after, dropout=DROPOUT, has_links=True)

    def _scaled(self, channels: int) -> int:
        return divisible_by_8(channels * self.width)

    def __str__(self) -> str:
        stages = "-".join(".".join(map(str, blocks)) for blocks in self.stages)
        return stages if self.width == 1 else f"{stages}-w{self.width:g}"

    def shape_features(self) -> dict[str, float]:
        return shape_profile(self, RESOLUTION, 6)


@dataclass(frozen=True)
class OfaBlock(Unit):
    """One inverted bottleneck; a gate is as wide inside as a quarter of the expanded width.

    Args:
        kernel:
            Of the depthwise convolution.
        in_channels, inner, out_channels:
            Channels that enter, those inside, and those that leave.
        stride:
            Of the block.
        function:
            Activation.
        is_gated:
            Whether it has a gate.
    """

    kernel: int
    in_channels: int
    inner: int
    out_channels: int
    stride: int
    function: str
    is_gated: bool

    @property
    def label(self) -> str:
        return f"k{self.kernel}"

    @property
    def inner_channels(self) -> int:
        return self.inner

    def expand(self) -> tuple[Node, ...]:
        narrow = divisible_by_8(self.inner // 4)
        gate = SqueezeExcite(self.inner, narrow, norm=False, bias=True, gate="hardsigmoid", optional=False)
        return inverted_residual(
            self.in_channels,
            self.inner,
            self.out_channels,
            self.kernel,
            self.stride,
            gate if self.is_gated else None,
            self.function,
        )

    def __str__(self) -> str:
        widths = f"{self.in_channels},{self.inner},{self.out_channels},{self.stride}"
        return f"OfaBlock(k{self.kernel},{widths},{self.function}{',se' if self.is_gated else ''})"


def divisible_by_8(value: float) -> int:
    """Return the nearest multiple of 8, halves up; the next one where that would lose more than a tenth."""
    found = max(8, int(value + 4) // 8 * 8)
    return found + 8 if found < 0.9 * value else found


def _listed(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values))
