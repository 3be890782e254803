"""Architectures of NAS-Bench-201 (Dong & Yang, ICLR 2020): a cell of six edges, repeated in a fixed skeleton.

The canonical text is the benchmark's own string, ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``: for each of nodes 1 to 3 the
operations on its incoming edges, each with the node it comes from. The network is conv3x3(3 -> 16), BN; 5 cells of 16
channels; a residual block that halves the map; 5 cells of 32; another; 5 cells of 64; BN, ReLU, global pooling, linear.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from zenopt.core.errors import StructureError
from zenopt.core.lowering import Layer, check_positive
from zenopt.core.text import quoted

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
#: (from, to) of the six edges, in the order of the string.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
CHANNELS = (16, 32, 64)
CELLS_PER_STAGE = 5

_ITEM = re.compile(r"([a-z0-9_]+)~([0-9]+)", re.ASCII)


@dataclass(frozen=True)
class CellArchitecture:
    """A NAS-Bench-201 cell.

    Args:
        operations:
            The operation on each of :data:`EDGES`, from :data:`OPERATIONS`.

    Raises:
        StructureError: If there are not six, or one is unknown.
    """

    operations: tuple[str, ...]

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

    @classmethod
    def parse(cls, text: str) -> CellArchitecture:
        """Reads an architecture string.

        Args:
            text:
                E.g. ``"|nor_conv_3x3~0|+|skip_connect~0|none~1|+|none~0|none~1|avg_pool_3x3~2|"``.

        Raises:
            StructureError: If it is malformed.
        """
        nodes = text.strip().split("+")
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
        return cls(tuple(operations))

    def __str__(self) -> str:
        nodes = []
        for end in (1, 2, 3):
            edges = zip(EDGES, self.operations, strict=True)
            items = [f"{operation}~{edge[0]}" for edge, operation in edges if edge[1] == end]
            nodes.append(f"|{'|'.join(items)}|")
        return "+".join(nodes)

    def lower(
        self, resolution: int, *, num_classes: int = 10, use_se: bool = False, residual: bool = True
    ) -> tuple[Layer, ...]:
        """Expands to layers of the official build (affine BN, no convolution bias).

        ``block`` counts stem, cells and reductions in order. An edge without operation gives no layer: the zeros it
        adds are not computed by any sensible implementation.

        Args:
            resolution:
                Side of the square input image in pixels, a multiple of 4.
            num_classes:
                Outputs of the classifier.
            use_se, residual:
                Must keep their values: cells have no gates, and their links are the architecture itself.

        Raises:
            StructureError: If a number is unsuitable.
        """
        check_cell_options(use_se, residual)
        check_positive(resolution=resolution, num_classes=num_classes)
        if resolution % 4:
            raise StructureError(
                f"NAS-Bench-201 halves its maps twice: resolution {resolution} is no multiple of 4."
            )
        layers = [
            Layer("conv", "body", 0, 3, CHANNELS[0], resolution, resolution, kernel=3),
            Layer("norm", "body", 0, CHANNELS[0], CHANNELS[0], resolution, resolution),
        ]
        size, block = resolution, 0
        for stage, channels in enumerate(CHANNELS):
            if stage:
                block += 1
                layers += _reduction(block, CHANNELS[stage - 1], channels, size)
                size //= 2
            for _ in range(CELLS_PER_STAGE):
                block += 1
                layers += self._cell(block, channels, size)
        head, width = block + 1, CHANNELS[-1]
        layers += [
            Layer("norm", "head", head, width, width, size, size),
            Layer("relu", "head", head, width, width, size, size),
            Layer("pool", "head", head, width, width, size, 1),
            Layer("linear", "head", head, width, num_classes, 1, 1, bias=True),
        ]
        return tuple(layers)

    def _cell(self, block: int, channels: int, size: int) -> Iterator[Layer]:
        for end in (1, 2, 3):
            inputs = 0
            for edge, operation in zip(EDGES, self.operations, strict=True):
                if edge[1] != end or operation == "none":
                    continue
                inputs += 1
                if operation.startswith("nor_conv"):
                    kernel = int(operation[-1])
                    yield from _relu_conv_norm(block, channels, channels, size, size, kernel)
                elif operation == "avg_pool_3x3":
                    yield Layer("avgpool", "body", block, channels, channels, size, size, kernel=3)
            for _ in range(inputs - 1):
                yield Layer("add", "body", block, channels, channels, size, size)


def check_cell_options(use_se: bool, residual: bool) -> None:
    """Raises a :class:`StructureError` for options that super-block networks have and cells do not."""
    if use_se or not residual:
        raise StructureError(
            "NAS-Bench-201 networks have no squeeze-excite gates, and their links are the architecture itself: "
            "use_se must be false and residual true."
        )


def _relu_conv_norm(
    block: int, in_channels: int, channels: int, in_size: int, size: int, kernel: int
) -> Iterator[Layer]:
    yield Layer("relu", "body", block, in_channels, in_channels, in_size, in_size)
    yield Layer(
        "conv", "body", block, in_channels, channels, in_size, size, kernel=kernel, stride=in_size // size
    )
    yield Layer("norm", "body", block, channels, channels, size, size)


def _reduction(block: int, in_channels: int, channels: int, in_size: int) -> Iterator[Layer]:
    size = in_size // 2
    yield from _relu_conv_norm(block, in_channels, channels, in_size, size, 3)
    yield from _relu_conv_norm(block, channels, channels, size, size, 3)
    yield Layer("avgpool", "projection", block, in_channels, in_channels, in_size, size, kernel=2, stride=2)
    yield Layer("conv", "projection", block, in_channels, channels, size, size)
    yield Layer("add", "body", block, channels, channels, size, size)
