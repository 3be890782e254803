"""Architectures of NAS-Bench-201 (Dong & Yang, ICLR 2020): a cell of six edges, repeated in a skeleton.

The canonical text is the benchmark's own string, ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``: for each of nodes 1 to 3 the
operations on its incoming edges, each with the node it comes from. The network is conv3x3(3 -> 16), BN; 5 cells of 16
channels; a residual block that halves the map; 5 cells of 32; another; 5 cells of 64; BN, ReLU, global pooling, linear.
The same cells in another skeleton have its numbers before their string: ``C8N1|op~0|+...`` begins with 8 channels and
has one cell in every stage.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from zenopt.core.description import Description, Stack, Unit
from zenopt.core.errors import StructureError
from zenopt.core.primitives import (
    Branches,
    Choice,
    Conv,
    Edge,
    Graph,
    Identity,
    Node,
    Norm,
    Pool,
    Relu,
    Zero,
)
from zenopt.core.text import quoted
from zenopt.spaces.base import BaseArchitecture
from zenopt.spaces.layers import EPS, relu_conv_norm
from zenopt.spaces.nasbench201.cell import CELLS_PER_STAGE, CHANNELS, EDGES, OPERATIONS
from zenopt.spaces.nasbench201.features import cell_features

#: Most channels of the first stage, and cells of a stage.
MAX_CHANNELS, MAX_CELLS = 1024, 100
_SKELETON = re.compile(r"C([1-9][0-9]{0,3})N([1-9][0-9]{0,2})(?=\|)", re.ASCII)
_ITEM = re.compile(r"([a-z0-9_]+)~([0-9]+)", re.ASCII)


@dataclass(frozen=True)
class CellArchitecture(BaseArchitecture):
    """A NAS-Bench-201 cell, in the benchmark's skeleton or another one.

    Args:
        operations:
            The operation on each of :data:`EDGES`, from :data:`OPERATIONS`.
        channels:
            Of the first stage; each further one has twice as many.
        cells:
            Of every stage.

    Raises:
        StructureError: If there are not six operations, one is unknown, or a number is out of range.
    """

    operations: tuple[str, ...]
    channels: int = CHANNELS[0]
    cells: int = CELLS_PER_STAGE

    family: ClassVar[str] = "nasbench201"
    builds: ClassVar[tuple[str, ...]] = ("official", "zero-cost")
    closed_forms: ClassVar[Mapping[str, str]] = {"synflow": "zenopt.spaces.nasbench201.synflow:log_flow_of"}
    ranking: ClassVar[str] = "synflow"

    def __post_init__(self) -> None:
        if len(self.operations) != len(EDGES):
            raise StructureError(
                f"A NAS-Bench-201 cell has {len(EDGES)} edges, got {len(self.operations)} operations."
            )
        for (start, end), operation in zip(EDGES, self.operations, strict=True):
            if operation not in OPERATIONS:
                raise StructureError(
                    f"Edge {start}->{end}: unknown operation {quoted(operation)}; allowed: {', '.join(OPERATIONS)}."
                )
        check_skeleton(self.channels, self.cells)

    @classmethod
    def parse(cls, text: str) -> CellArchitecture:
        """Read an architecture string.

        Args:
            text:
                E.g. ``"|nor_conv_3x3~0|+|skip_connect~0|none~1|+|none~0|none~1|avg_pool_3x3~2|"``.

        Raises:
            StructureError: If it is malformed.
        """
        text = text.strip()
        skeleton = _SKELETON.match(text)
        nodes = text[skeleton.end() if skeleton else 0 :].split("+")
        if len(nodes) != 3:
            raise StructureError(
                f"A NAS-Bench-201 string has 3 nodes joined by '+', got {len(nodes)}: {quoted(text)}."
            )
        operations = []
        for index, node in enumerate(nodes, start=1):
            if len(node) < 2 or node[0] != "|" or node[-1] != "|":
                raise StructureError(f"Node {index} must begin and end with '|', got {quoted(node)}.")
            items = node[1:-1].split("|")
            if len(items) != index:
                raise StructureError(
                    f"Node {index} has {index} incoming edges, got {len(items)}: {quoted(node)}."
                )
            for start, item in enumerate(items):
                match = _ITEM.fullmatch(item)
                if match is None or int(match.group(2)) != start:
                    raise StructureError(f"Node {index}: expected 'operation~{start}', got {quoted(item)}.")
                operations.append(match.group(1))
        return cls(tuple(operations), *(map(int, skeleton.groups()) if skeleton else ()))

    def __str__(self) -> str:
        is_own = (self.channels, self.cells) == (CHANNELS[0], CELLS_PER_STAGE)
        return ("" if is_own else f"C{self.channels}N{self.cells}") + self.cell_text

    @property
    def cell_text(self) -> str:
        """The benchmark's string, which knows no skeleton."""
        nodes = []
        for end in (1, 2, 3):
            edges = zip(EDGES, self.operations, strict=True)
            items = [f"{operation}~{edge[0]}" for edge, operation in edges if edge[1] == end]
            nodes.append(f"|{'|'.join(items)}|")
        return "+".join(nodes)

    @cached_property
    def description(self) -> Description:
        """The official network: affine BN, no convolution bias."""
        return self.describe("official")

    def describe(self, build: str = "official") -> Description:
        """Return the network as one of the two releases builds it that published scores refer to.

        Args:
            build:
                ``"official"`` is the benchmark's own (its accuracies are of these networks): BN with weights,
                convolutions without bias. ``"zero-cost"`` is that of the zero-cost-nas release: inside cells BN has
                neither weights nor running statistics, and the convolutions have a bias. Stem, reductions and head are
                alike.

        Raises:
            StructureError: If the build is unknown.
        """
        if build not in self.builds:
            raise StructureError(f"Unknown NAS-Bench-201 build {build!r}; allowed: {', '.join(self.builds)}.")
        return stacked(
            lambda channels: Cell(self.operations, channels, build), self.channels, self.cells, build
        )

    def shape_features(self) -> dict[str, float]:
        """Return what lies on paths from the cell's input to its output."""
        return cell_features(self.operations)


def has_skeleton(text: str) -> bool:
    """Return whether an architecture string names its skeleton."""
    return _SKELETON.match(text.lstrip()) is not None


def check_skeleton(channels: int, cells: int, what: str = "A network of NAS-Bench-201") -> None:
    """Raise a :class:`StructureError` if a number of a skeleton is out of range."""
    for name, value, most in (("channels", channels, MAX_CHANNELS), ("cells", cells, MAX_CELLS)):
        if not 1 <= value <= most:
            raise StructureError(f"{what} has from 1 to {most} {name}, got {value}.")


def stacked(
    make_cell: Callable[[int], Unit],
    channels: int = CHANNELS[0],
    cells: int = CELLS_PER_STAGE,
    build: str = "official",
) -> Description:
    """Return a network of cells, each made of its channels.

    Args:
        make_cell:
            Returns the cell of a number of channels.
        channels:
            Of the first stage; each further one has twice as many.
        cells:
            Of every stage.
        build:
            Which release's reductions.
    """
    stem = (Conv(3, channels, 3), Norm(channels, EPS))
    units: list[Unit] = [Stack("stem", stem, 3, channels)]
    width = channels
    for stage in range(len(CHANNELS)):
        if stage:
            units.append(Reduction(width, 2 * width, build))
            width *= 2
        units += [make_cell(width)] * cells
    units.append(Stack("head", (Norm(width, EPS), Relu(width)), width, width))
    names = ("stem", *(f"blocks.{index}" for index in range(len(units) - 2)), "head")
    return Description(tuple(units), names, divisor=4)


@dataclass(frozen=True)
class Cell(Unit):
    """The cell: place 0 is the input, every other place the sum of its edges, place 3 the output."""

    operations: tuple[str, ...]
    channels: int
    build: str = "official"

    @property
    def in_channels(self) -> int:  # type: ignore[override]
        return self.channels

    @property
    def out_channels(self) -> int:  # type: ignore[override]
        return self.channels

    @property
    def label(self) -> str:
        return "cell"

    def expand(self) -> tuple[Node, ...]:
        edges = tuple(
            Edge(start, end, operation_nodes(name, self.channels, self.build))
            for (start, end), name in zip(EDGES, self.operations, strict=True)
        )
        return (Graph(1, edges, (3,)),)

    def __str__(self) -> str:
        return f"NB201Cell({','.join(self.operations)};{self.channels}{_suffix(self.build)})"


@dataclass(frozen=True)
class Reduction(Unit):
    """The residual block between stages; there is no ReLU after the sum."""

    in_channels: int
    out_channels: int
    build: str = "official"

    @property
    def label(self) -> str:
        return "reduction"

    def expand(self) -> tuple[Node, ...]:
        # synflow of the zero-cost release takes the norms of cells away and leaves these.
        removable = self.build == "official"
        body = (
            *relu_conv_norm(self.in_channels, self.out_channels, 3, stride=2, removable=removable),
            *relu_conv_norm(self.out_channels, self.out_channels, 3, removable=removable),
        )
        shortcut = (Pool(self.in_channels, 2, 2), Conv(self.in_channels, self.out_channels, 1))
        # The shortcut is defined first, as in the releases: parameters are numbered in this order.
        return (Branches((shortcut, body), "sum", ("shortcut", "body"), shortcut=0),)

    def __str__(self) -> str:
        return f"NB201Reduction({self.in_channels},{self.out_channels}{_suffix(self.build)})"


def open_cell(channels: int, operations: tuple[str, ...] = OPERATIONS) -> Graph:
    """Return a cell in which every edge is a choice, named as the space's parameters are (``edge01``, ...)."""
    alternatives = tuple((name, operation_nodes(name, channels, "official")) for name in operations)
    return Graph(
        1,
        tuple(Edge(start, end, (Choice(f"edge{start}{end}", alternatives),)) for start, end in EDGES),
        (3,),
    )


def operation_nodes(name: str, channels: int, build: str) -> tuple[Node, ...]:
    """Return what an operation computes."""
    if name == "none":
        return (Zero(channels),)
    if name == "skip_connect":
        return (Identity(channels),)
    if name == "avg_pool_3x3":
        return (Pool(channels, 3),)
    kernel = int(name[-1])
    if build == "official":
        return relu_conv_norm(channels, channels, kernel)
    return (
        Relu(channels),
        Conv(channels, channels, kernel, bias=True),
        Norm(channels, EPS, affine=False, tracks=False),
    )


def _suffix(build: str) -> str:
    return "" if build == "official" else f",{build}"
