"""Networks of DARTS cells, with the settings they are stacked with.

The canonical text is ``darts-20x36-NORMAL-REDUCE``: number of cells, channels of the first ones, and the genotype (see
:mod:`~zenopt.spaces.darts.genotype`). ``darts-14x48i-...`` has the stem for ImageNet, which halves the image three
times; the other keeps its size. Cells at a third and at two thirds of the depth are reduction cells, of twice the
channels and half the map. This is the network that evaluates a genotype: BN with weights, none after poolings.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from zenopt.core.description import Auxiliary, Description, Stack, Unit
from zenopt.core.errors import StructureError
from zenopt.core.primitives import Conv, Edge, Graph, Identity, Node, Norm, Pool, Relu, Zero
from zenopt.spaces.base import BaseArchitecture
from zenopt.spaces.darts.genotype import NODES, Cell, Genotype, node_terms
from zenopt.spaces.layers import EPS, conv_norm, conv_norm_relu, factorised_reduction, relu_conv_norm

#: Most cells and channels.
MAX_CELLS, MAX_CHANNELS = 100, 1024
STEMS = ("cifar", "imagenet")
#: Channels of the CIFAR stem, as a multiple of the first cells'.
STEM_FACTOR = 3
#: Widths of the auxiliary classifier.
AUXILIARY_CHANNELS = (128, 768)

_TEXT = re.compile(r"darts-([0-9]{1,4})x([0-9]{1,5})(i?)-(.*)", re.ASCII)


@dataclass(frozen=True)
class Settings:
    """How cells are stacked.

    Args:
        cells:
            Number of cells.
        channels:
            Width of the first cells' operations; four times as many leave a cell.
        stem:
            ``"cifar"`` or ``"imagenet"``.

    Raises:
        StructureError: If a number is out of range or the stem unknown.
    """

    cells: int = 20
    channels: int = 36
    stem: str = "cifar"

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("cells", self.cells, 2, MAX_CELLS),
            ("channels", self.channels, 2, MAX_CHANNELS),
        ):
            if type(value) is not int or not least <= value <= most:
                raise StructureError(
                    f"DARTS networks have a number of {name} from {least} to {most}, got {value!r}."
                )
        if self.stem not in STEMS:
            raise StructureError(f"Unknown DARTS stem {self.stem!r}; allowed: {', '.join(STEMS)}.")

    def __str__(self) -> str:
        return f"{self.cells}x{self.channels}{'i' * (self.stem == 'imagenet')}"


@dataclass(frozen=True)
class DartsArchitecture(BaseArchitecture):
    """A stack of DARTS cells.

    Args:
        genotype:
            The two cells.
        settings:
            How they are stacked; by default as DARTS evaluates on CIFAR-10.
    """

    genotype: Genotype
    settings: Settings = Settings()

    family: ClassVar[str] = "darts"

    @classmethod
    def parse(cls, text: str, settings: Settings | None = None) -> DartsArchitecture:
        """Read a canonical text, or any spelling of a genotype.

        Args:
            text:
                The text.
            settings:
                Of genotypes, which say nothing about it.

        Raises:
            StructureError: If the text is neither.
        """
        match = _TEXT.fullmatch(text.strip())
        if match is None:
            return cls(Genotype.parse(text), settings or Settings())
        own = Settings(int(match[1]), int(match[2]), "imagenet" if match[3] else "cifar")
        return cls(Genotype.parse(match[4]), own)

    @cached_property
    def description(self) -> Description:
        def cell(*sizes: Any) -> CellUnit:
            *_, reduces, _ = sizes
            return CellUnit(self.genotype.reduce if reduces else self.genotype.normal, *sizes)

        units, names = stacked(self.settings, cell)
        second = names.index(f"blocks.{2 * self.settings.cells // 3}")
        return Description(units, names, auxiliary=self._auxiliary(units, second))

    def _auxiliary(self, units: tuple[Unit, ...], unit: int) -> Auxiliary:
        channels, (narrow, wide) = units[unit].out_channels, AUXILIARY_CHANNELS
        is_cifar = self.settings.stem == "cifar"
        nodes: tuple[Node, ...] = (
            Relu(channels),
            Pool(channels, 5, 3 if is_cifar else 2, padded=False),
            *conv_norm_relu(channels, narrow, 1),
            Conv(narrow, wide, 2),
            *((Norm(wide, EPS),) if is_cifar else ()),
            Relu(wide),
        )
        # Two pixels must be left of the pooled map for the convolution without padding.
        return Auxiliary(unit, nodes, wide, least_size=8 if is_cifar else 7)

    def __str__(self) -> str:
        return f"darts-{self.settings}-{self.genotype}"

    def spellings(self) -> dict[str, str]:
        """Return the genotype as DARTS, aw_nas and NASLib write it."""
        return self.genotype.spellings()

    def shape_features(self) -> dict[str, float]:
        from zenopt.spaces.darts.features import cell_features

        return {
            **cell_features(self.genotype.normal, "normal"),
            **cell_features(self.genotype.reduce, "reduction"),
        }

    def published_counts(self) -> dict[str, float]:
        """Return ``flop`` and ``params`` of OnceNAS-Bench, or ``flops`` and ``params`` of NASLib's 725 networks.

        All are millions. Which table it is, the settings say; there are none for others.
        """
        from zenopt.spaces.darts.published import naslib_counts, once_counts

        counter = {"20x36": once_counts, "8x32": naslib_counts}.get(str(self.settings))
        return {} if counter is None else counter(self)


def stacked(settings: Settings, cell: Callable[..., Unit]) -> tuple[tuple[Unit, ...], tuple[str, ...]]:
    """Return the units of a network, and their names.

    Args:
        settings:
            How cells are stacked.
        cell:
            Returns a cell; called with the fields of :class:`CellUnit` from ``before`` on.
    """
    width = settings.channels
    units: list[Unit]
    if settings.stem == "cifar":
        stem_width = STEM_FACTOR * width
        units = [Stack("stem", conv_norm(3, stem_width, 3), 3, stem_width, DartsArchitecture.family)]
    else:
        first = (*conv_norm_relu(3, width // 2, 3, 2), *conv_norm(width // 2, width, 3, 2))
        second = relu_conv_norm(width, width, 3, 2)
        units = [
            Stack("stem", first, 3, width, DartsArchitecture.family),
            Stack("stem2", second, width, width, DartsArchitecture.family),
        ]
    stems = len(units)
    thirds = (settings.cells // 3, 2 * settings.cells // 3)
    # The imagenet stem's second part halves the map, as a reduction cell does.
    was_reduced = settings.stem == "imagenet"
    for index in range(settings.cells):
        reduces = index in thirds
        width *= 1 + reduces
        before = units[max(0, len(units) - 2)].out_channels
        units.append(cell(before, units[-1].out_channels, width, reduces, was_reduced))
        was_reduced = reduces
    names = ("stem", "stem2")[:stems] + tuple(f"blocks.{index}" for index in range(settings.cells))
    return tuple(units), names


@dataclass(frozen=True)
class CellUnit(Unit):
    """A cell: places 0 and 1 are the outputs of the two units before, 2 and 3 the same at its width, 4 to 7 its nodes.

    Attributes:
        before: Channels of the unit before the last.
        channels: Channels of its operations.
        reduces: Whether it halves the map.
        was_reduced: Whether the unit before the last has a map of twice the size of the last.
    """

    cell: Cell
    before: int
    in_channels: int
    channels: int
    reduces: bool
    was_reduced: bool

    inputs: ClassVar[tuple[int, ...]] = (-2, -1)

    @property
    def input_channels(self) -> tuple[int, ...]:
        return self.before, self.in_channels

    @property
    def out_channels(self) -> int:  # type: ignore[override]
        return self.channels * len(NODES)

    @property
    def label(self) -> str:
        return "reduction cell" if self.reduces else "normal cell"

    @property
    def inner_channels(self) -> int | None:
        return self.channels

    def expand(self) -> tuple[Node, ...]:
        edges = list(preprocessing(self))
        for node in NODES:
            for operation, state in node_terms(self.cell, node):
                stride = 2 if self.reduces and state < NODES[0] else 1
                edges.append(Edge(state + 2, node + 2, operation_nodes(operation, self.channels, stride)))
        return (Graph(2, tuple(edges), tuple(node + 2 for node in NODES)),)

    def __str__(self) -> str:
        terms = ",".join(f"{operation}~{state}" for operation, state in self.cell)
        kind = f"{'R' * self.reduces}{'F' * self.was_reduced}"
        return f"DARTSCell{kind}({terms};{self.before},{self.in_channels},{self.channels})"


def preprocessing(cell: CellUnit) -> tuple[Edge, Edge]:
    """Return what brings the outputs of the two units before to a cell's width."""
    older = (
        factorised_reduction(cell.before, cell.channels)
        if cell.was_reduced
        else relu_conv_norm(cell.before, cell.channels, 1)
    )
    newer = relu_conv_norm(cell.in_channels, cell.channels, 1)
    return Edge(0, 2, older, drops=False), Edge(1, 3, newer, drops=False)


def operation_nodes(name: str, channels: int, stride: int) -> tuple[Node, ...]:
    """Return what an operation computes."""
    if name == "none":
        return (Zero(channels, stride),)
    if name == "skip":
        return (Identity(channels),) if stride == 1 else factorised_reduction(channels, channels)
    if name in ("max3", "avg3"):
        return (Pool(channels, 3, stride, "max" if name == "max3" else "average"),)
    kernel = int(name[-1])
    if name.startswith("dil"):
        return _depthwise(channels, kernel, stride, dilation=2)
    return (*_depthwise(channels, kernel, stride), *_depthwise(channels, kernel))


def _depthwise(channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> tuple[Node, ...]:
    return (
        Relu(channels),
        Conv(channels, channels, kernel, stride, groups=channels, dilation=dilation),
        Conv(channels, channels, 1),
        Norm(channels, EPS),
    )
