"""Networks of the MnasNet space as Accel-NASBench searches it (Ahmad et al., 2024): seven blocks of fixed widths.

A block is one to four inverted bottlenecks that share expansion, kernel and gate; the first of them has the stride. Its
text is ``e6k3l2s``: expansion, kernel, layers, and ``s`` where there are squeeze-excite gates; blocks are joined by
``-``. EfficientNet-B0 is ``e1k3l1s-e6k3l2s-e6k5l2s-e6k3l3s-e6k5l3s-e6k5l4s-e6k3l1s`` (with other activations).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

from zenopt.core.description import Description, Stack, Unit
from zenopt.core.errors import StructureError
from zenopt.core.lowering import lower
from zenopt.core.primitives import Node, SqueezeExcite
from zenopt.spaces.base import BaseArchitecture
from zenopt.spaces.layers import conv_norm_relu, inverted_residual
from zenopt.spaces.shape import shape_profile

EXPANSIONS = (1, 4, 6)
KERNELS = (3, 5)
#: Largest number of layers in each block.
MAX_LAYERS = (3, 3, 3, 3, 3, 4, 3)
OUT_CHANNELS = (16, 24, 40, 80, 112, 192, 320)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280
DROPOUT = 0.2
#: Of the table's counts.
RESOLUTION, NUM_CLASSES = 224, 1000

_BLOCK = re.compile(r"e([0-9]+)k([0-9]+)l([0-9]+)(s?)", re.ASCII)


class BlockChoice(NamedTuple):
    """What a block may choose."""

    expansion: int
    kernel: int
    layers: int
    has_gates: bool

    def __str__(self) -> str:
        return f"e{self.expansion}k{self.kernel}l{self.layers}{'s' * self.has_gates}"


@dataclass(frozen=True)
class MnasNetArchitecture(BaseArchitecture):
    """A network of the MnasNet space.

    Args:
        blocks:
            The choice of each block.

    Raises:
        StructureError: If there are not seven, or a choice is not among those of the benchmark.
    """

    blocks: tuple[BlockChoice, ...]

    family: ClassVar[str] = "mnasnet"
    ranking: ClassVar[str] = "log params"

    def __post_init__(self) -> None:
        if len(self.blocks) != len(STRIDES):
            raise StructureError(f"A MnasNet text has {len(STRIDES)} blocks, got {len(self.blocks)}.")
        for number, (block, most) in enumerate(zip(self.blocks, MAX_LAYERS, strict=True), start=1):
            if (
                block.expansion not in EXPANSIONS
                or block.kernel not in KERNELS
                or not 1 <= block.layers <= most
            ):
                raise StructureError(
                    f"Block {number} of a MnasNet text: expected an expansion of {', '.join(map(str, EXPANSIONS))}, "
                    f"a kernel of {' or '.join(map(str, KERNELS))} and 1 to {most} layers, got {block}."
                )

    @classmethod
    def parse(cls, text: str) -> MnasNetArchitecture:
        """Read the text of a network.

        Raises:
            StructureError: If it is malformed.
        """
        blocks = []
        for number, part in enumerate(text.strip().split("-"), start=1):
            match = _BLOCK.fullmatch(part)
            if match is None or len(part) > 20:
                raise StructureError(
                    f"Block {number} of a MnasNet text: expected e.g. e6k3l2 or e6k3l2s, got {part[:60]!r}."
                )
            blocks.append(BlockChoice(int(match[1]), int(match[2]), int(match[3]), match[4] == "s"))
        return cls(tuple(blocks))

    @cached_property
    def description(self) -> Description:
        stem = conv_norm_relu(3, STEM_CHANNELS, 3, 2)
        units: list[Unit] = [Stack("stem", stem, 3, STEM_CHANNELS, self.family)]
        for choice, out_channels, stride in zip(self.blocks, OUT_CHANNELS, STRIDES, strict=True):
            units.append(Block(choice, units[-1].out_channels, out_channels, stride))
        head = conv_norm_relu(OUT_CHANNELS[-1], HEAD_CHANNELS, 1)
        units.append(Stack("head", head, OUT_CHANNELS[-1], HEAD_CHANNELS, self.family))
        names = ("stem", *(f"blocks.{index}" for index in range(len(STRIDES))), "head")
        return Description(tuple(units), names, dropout=DROPOUT, has_links=True)

    @cached_property
    def places(self) -> tuple[str, ...]:
        """Number of the block; without expansion it lacks a convolution, and so has weights of its own."""
        blocks = (
            f"block{number}{'.plain' if block.expansion == 1 else ''}"
            for number, block in enumerate(self.blocks, start=1)
        )
        return ("stem", *blocks, "head")

    def __str__(self) -> str:
        return "-".join(map(str, self.blocks))

    def shape_features(self) -> dict[str, float]:
        return shape_profile(self, RESOLUTION, 6)

    def published_counts(self) -> dict[str, float]:
        """Return ``mparams`` and ``mmacs``, millions.

        The latter are MACs, 4 per output of a BN, and inputs and outputs of every global pooling.
        """
        layers = lower(self, RESOLUTION, num_classes=NUM_CLASSES)
        operations = sum(layer.macs for layer in layers)
        operations += sum(4 * layer.out_elements for layer in layers if layer.kind == "norm")
        operations += sum(
            layer.in_channels * layer.in_size**2 + layer.out_elements
            for layer in layers
            if layer.kind == "pool"
        )
        return {"mparams": sum(layer.params for layer in layers) / 1e6, "mmacs": operations / 1e6}


@dataclass(frozen=True)
class Block(Unit):
    """The layers of one block; gates are as wide inside as a quarter of the layer's input."""

    choice: BlockChoice
    in_channels: int
    out_channels: int
    stride: int

    @property
    def label(self) -> str:
        return str(self.choice)

    @property
    def repeats(self) -> int:
        return self.choice.layers

    def expand(self) -> tuple[Node, ...]:
        nodes: list[Node] = []
        width, stride = self.in_channels, self.stride
        for _ in range(self.choice.layers):
            # All widths are multiples of 8, so the benchmark's rounding to 8 changes nothing.
            inner = width * self.choice.expansion
            gate = SqueezeExcite(
                inner, max(1, width // 4), norm=False, bias=True, gate="hardsigmoid", optional=False
            )
            nodes += inverted_residual(
                width,
                inner,
                self.out_channels,
                self.choice.kernel,
                stride,
                gate if self.choice.has_gates else None,
            )
            width, stride = self.out_channels, 1
        return tuple(nodes)

    def __str__(self) -> str:
        return f"MnasBlock({self.choice},{self.in_channels},{self.out_channels},{self.stride})"
