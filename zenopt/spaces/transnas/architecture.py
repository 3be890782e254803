"""Networks of TransNAS-Bench-101 (Duan et al., CVPR 2021), with the head of its classification tasks.

A network is a stem of two strided convolutions and a chain of modules of two cells each; a module's digit says whether
its first cell doubles the width, halves the map, or both. Published names are ``64-41414-basic``: the width behind the
stem, the digits, and the kind of cell, ``basic`` or the operations ``a_bc_def`` on the six edges of a cell of four
nodes. The canonical text leaves out what is the same in all of a benchmark: ``41414`` among the chains,
``3_33_333`` among the cells; only networks of another width are written whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from zenopt.core.description import Description, Stack, Unit
from zenopt.core.errors import StructureError
from zenopt.core.primitives import Edge, Graph, Identity, Node, Residual, Zero
from zenopt.spaces.base import BaseArchitecture
from zenopt.spaces.layers import conv_norm, factorised_reduction, relu_conv_norm
from zenopt.spaces.nasbench201.architecture import EDGES
from zenopt.spaces.nasbench201.features import cell_features, end_features
from zenopt.spaces.shape import shape_profile

#: Width behind the stem of the benchmark's networks.
WIDTH = 64
#: Narrowest and widest of the option.
WIDTHS = (2, 1024)
CELLS_PER_MODULE = 2
#: Of class_scene, the task that both tables have.
RESOLUTION, NUM_CLASSES = 256, 47
MODULES = range(4, 7)
DOUBLINGS, HALVINGS = range(1, 4), range(1, 5)
#: Modules of the networks of cells.
CELL_MODULES = "41414"
#: Operation of each digit, in NAS-Bench-201's words.
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")

_CODE = re.compile(r"([0-3])_?([0-3])([0-3])_?([0-3])([0-3])([0-3])", re.ASCII)
_NAME = re.compile(r"([0-9]{1,5})-([1-4]{1,9})-(basic|[0-3_]{6,8})", re.ASCII)


def doubles(digit: str) -> bool:
    """Return whether a module doubles the width."""
    return digit in "24"


def halves(digit: str) -> bool:
    """Return whether a module halves the map."""
    return digit in "34"


def check_width(width: int) -> None:
    """Raise a StructureError unless networks can have this width."""
    if not WIDTHS[0] <= width <= WIDTHS[1] or width % 2:
        raise StructureError(
            f"A TransNAS width must be an even number from {WIDTHS[0]} to {WIDTHS[1]}, got {width}."
        )


def described(
    family: str, width: int, modules: str, make_cell: Callable[[int, int, int], Unit]
) -> Description:
    """Return a network of cells, each made of channels that enter and leave it and its stride."""
    stem = (*conv_norm(3, width // 2, 3, 2), *relu_conv_norm(width // 2, width, 3, 2))
    units: list[Unit] = [Stack("stem", stem, 3, width, family)]
    for digit in modules:
        for index in range(CELLS_PER_MODULE):
            channels = units[-1].out_channels
            out_channels = 2 * channels if index == 0 and doubles(digit) else channels
            units.append(make_cell(channels, out_channels, 2 if index == 0 and halves(digit) else 1))
    names = ("stem", *(f"blocks.{index}" for index in range(len(units) - 1)))
    return Description(tuple(units), names, has_links=family == "transnas-macro")


@dataclass(frozen=True)
class ChainArchitecture(BaseArchitecture):
    """A chain of modules of residual cells.

    Args:
        modules:
            A digit per module: 1 changes nothing, 2 doubles the width, 3 halves the map, 4 does both.
        width:
            Channels behind the stem.

    Raises:
        StructureError: If these are not 4 to 6 digits, 1 to 3 of them doubling and 1 to 4 halving, or the width is odd.
    """

    modules: str
    width: int = WIDTH

    family: ClassVar[str] = "transnas-macro"

    def __post_init__(self) -> None:
        check_width(self.width)
        if re.fullmatch(r"[1-4]{4,6}", self.modules, re.ASCII) is None or not (
            sum(map(doubles, self.modules)) in DOUBLINGS and sum(map(halves, self.modules)) in HALVINGS
        ):
            raise StructureError(
                "A TransNAS macro text is 4 to 6 digits from 1 to 4, with one to three of 2 and 4 and one to four of "
                f"3 and 4; got {self.modules[:60]!r}."
            )

    @classmethod
    def parse(cls, text: str) -> ChainArchitecture:
        """Read digits such as ``41414``, or a whole name such as ``64-41414-basic``.

        Raises:
            StructureError: If the text is neither.
        """
        match = _NAME.fullmatch(text.strip())
        if match is not None and match[3] == "basic":
            return cls(match[2], int(match[1]))
        return cls(text.strip())

    @cached_property
    def description(self) -> Description:
        return described(self.family, self.width, self.modules, BasicCell)

    def __str__(self) -> str:
        return self.modules if self.width == WIDTH else f"{self.width}-{self.modules}-basic"

    def shape_features(self) -> dict[str, float]:
        return shape_profile(self, RESOLUTION, 7)


@dataclass(frozen=True)
class MicroArchitecture(BaseArchitecture):
    """A cell of six edges in the chain of modules ``41414``.

    Args:
        operations:
            A digit per edge, sorted by the node it leads to: 0 nothing, 1 skip, 2 1x1 convolution, 3 3x3 convolution.
        width:
            Channels behind the stem.

    Raises:
        StructureError: If these are not six digits from 0 to 3, or the width is odd.
    """

    operations: str
    width: int = WIDTH

    family: ClassVar[str] = "transnas-micro"

    def __post_init__(self) -> None:
        check_width(self.width)
        if re.fullmatch(r"[0-3]{6}", self.operations, re.ASCII) is None:
            raise StructureError(f"A TransNAS cell has six digits from 0 to 3, got {self.operations[:60]!r}.")

    @classmethod
    def parse(cls, text: str) -> MicroArchitecture:
        """Read ``a_bc_def``, six digits, or a whole name such as ``64-41414-3_33_333``.

        Raises:
            StructureError: If the text is none of these.
        """
        name = _NAME.fullmatch(text.strip())
        code = _CODE.fullmatch(text.strip() if name is None else name[3])
        if code is None or (name is not None and name[2] != CELL_MODULES):
            raise StructureError(
                f"A TransNAS micro text is a_bc_def with digits from 0 to 3, got {text.strip()[:60]!r}."
            )
        return cls("".join(code.groups()), WIDTH if name is None else int(name[1]))

    @cached_property
    def description(self) -> Description:
        def make_cell(in_channels: int, out_channels: int, stride: int) -> MicroCell:
            return MicroCell(self.operations, in_channels, out_channels, stride)

        return described(self.family, self.width, CELL_MODULES, make_cell)

    def __str__(self) -> str:
        code = f"{self.operations[0]}_{self.operations[1:3]}_{self.operations[3:]}"
        return code if self.width == WIDTH else f"{self.width}-{CELL_MODULES}-{code}"

    def shape_features(self) -> dict[str, float]:
        names = tuple(OPERATIONS[int(digit)] for digit in self.operations)
        return {**cell_features(names), **end_features(names)}


@dataclass(frozen=True)
class BasicCell(Unit):
    """Two convolutions beside a shortcut, which is projected where the shape changes; no ReLU after the sum."""

    in_channels: int
    out_channels: int
    stride: int

    def expand(self) -> tuple[Node, ...]:
        body = (
            *relu_conv_norm(self.in_channels, self.out_channels, 3, self.stride),
            *relu_conv_norm(self.out_channels, self.out_channels, 3),
        )
        changes = self.stride > 1 or self.in_channels != self.out_channels
        projection = conv_norm(self.in_channels, self.out_channels, 1, self.stride) if changes else ()
        return (Residual(body, projection),)

    def __str__(self) -> str:
        return f"TransNASBasic({self.in_channels},{self.out_channels},{self.stride})"


@dataclass(frozen=True)
class MicroCell(Unit):
    """A cell of four nodes; edges from its input change the shape, the others keep it."""

    operations: str
    in_channels: int
    out_channels: int
    stride: int

    @property
    def label(self) -> str:
        return "reduction cell" if self.stride > 1 else "cell"

    def expand(self) -> tuple[Node, ...]:
        return (Graph(1, tuple(self.edges()), (3,)),)

    def edges(self) -> Iterator[Edge]:
        """Yield the edges, sorted by the node they lead to."""
        for (start, end), digit in zip(EDGES, self.operations, strict=True):
            yield Edge(start, end, self.nodes(OPERATIONS[int(digit)], start))

    def nodes(self, operation: str, start: int) -> tuple[Node, ...]:
        """Return what an operation computes on an edge from a node."""
        channels, stride = (self.in_channels, self.stride) if start == 0 else (self.out_channels, 1)
        return operation_nodes(operation, channels, self.out_channels, stride)

    def __str__(self) -> str:
        return f"TransNASCell({self.operations};{self.in_channels},{self.out_channels},{self.stride})"


def operation_nodes(name: str, channels: int, out_channels: int, stride: int) -> tuple[Node, ...]:
    """Return what an operation computes."""
    if name == "none":
        return (Zero(channels, stride, out_channels),)
    if name == "skip_connect":
        if stride == 1 and channels == out_channels:
            return (Identity(channels),)
        return factorised_reduction(channels, out_channels)
    return relu_conv_norm(channels, out_channels, int(name[-1]), stride)
