"""Networks of NAS-Bench-101: a stem, stacks of equal cells, twice the channels and half the map from stack to stack.

The canonical text is ``nb101-3x3x128-conv3~0,max3~1,conv3~2,conv3~0,conv1~0+3+4,out~2+5``: stacks, cells in each,
channels of the stem, and for each vertex of the cell its operation and the vertices that lead to it. Where the input
leads into a vertex it goes through a convolution (1x1, BN, ReLU) of its own; what leads to the output is concatenated,
and the input, where it leads there, is added after such a convolution.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from zenopt.core.description import Description, Stack, Unit, VertexGraph
from zenopt.core.errors import StructureError
from zenopt.core.primitives import Branches, Edge, Graph, Node, Pool, Slice
from zenopt.core.text import quoted
from zenopt.spaces.base import BaseArchitecture
from zenopt.spaces.layers import conv_norm_relu
from zenopt.spaces.nasbench101.cell import SHORT_NAMES, Cell
from zenopt.spaces.nasbench101.features import cell_features

#: Where the benchmark trained its networks.
RESOLUTION, NUM_CLASSES = 32, 10
#: Most of each setting.
MAX_STACKS, MAX_CELLS, MAX_CHANNELS = 5, 20, 512
#: Fewest channels: four vertices that lead to the output of the first stack's cells each get one.
MIN_CHANNELS = 8
#: Longest text that is read.
_MAX_TEXT = 2000

_TEXT = re.compile(
    r"(?:nb101-)?(?:([0-9]{1,3})x([0-9]{1,3})x([0-9]{1,5})-)?([a-z0-9~+,]*out~[0-9+]+)", re.ASCII
)
_VERTEX = re.compile(r"([a-z0-9]+)~([0-9](?:\+[0-9])*)", re.ASCII)
# Literals of lists and texts: neither operators but the hyphens of names, nor calls but the first.
_CHARACTERS = re.compile(r"[\w\s\[\](){}'\",:=.-]*", re.ASCII)
_FIELDS = (("matrix", "ops"), ("module_adjacency", "module_operations"))


@dataclass(frozen=True)
class Settings:
    """How cells are stacked.

    Args:
        stacks:
            Number of stacks.
        cells:
            Cells in each stack.
        channels:
            Channels of the stem and of the first stack.

    Raises:
        StructureError: If a number is out of range.
    """

    stacks: int = 3
    cells: int = 3
    channels: int = 128

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("stacks", self.stacks, 1, MAX_STACKS),
            ("cells", self.cells, 1, MAX_CELLS),
            ("channels", self.channels, MIN_CHANNELS, MAX_CHANNELS),
        ):
            if type(value) is not int or not least <= value <= most:
                raise StructureError(
                    f"NAS-Bench-101 networks have a number of {name} from {least} to {most}, got {value!r}."
                )

    def __str__(self) -> str:
        return f"{self.stacks}x{self.cells}x{self.channels}"


@dataclass(frozen=True)
class Nb101Architecture(BaseArchitecture):
    """A stack of NAS-Bench-101 cells.

    Args:
        cell:
            The cell.
        settings:
            How it is stacked; by default as in the benchmark.
    """

    cell: Cell
    settings: Settings = Settings()

    family: ClassVar[str] = "nasbench101"

    @classmethod
    def parse(cls, text: str, settings: Settings | None = None) -> Nb101Architecture:
        """Read a canonical text, or matrix and operations as the benchmark's programs write them.

        Args:
            text:
                The text; ``ModelSpec(matrix=[[0, 1], [0, 0]], ops=['input', 'output'])`` or a mapping of these fields,
                or of ``module_adjacency`` and ``module_operations``, is one, too.
            settings:
                Of texts that say nothing about it.

        Raises:
            StructureError: If the text is malformed, or no cell of the benchmark.
        """
        if len(text) > _MAX_TEXT:
            raise StructureError(f"A NAS-Bench-101 text has at most {_MAX_TEXT} characters, got {len(text)}.")
        match = _TEXT.fullmatch(text.strip())
        if match is not None:
            own = Settings(*map(int, match.groups()[:3])) if match[1] else settings or Settings()
            return cls(_read_vertices(match[4]), own)
        found = _read_fields(text)
        if found is None:
            raise StructureError(
                "Expected a NAS-Bench-101 cell, nb101-3x3x128-conv3~0,conv3~1,out~0+2, conv3~0,conv3~1,out~0+2 or "
                f"ModelSpec(matrix=[[0, 1, ...], ...], ops=['input', ...]); got {quoted(text.strip())}."
            )
        return cls(found, settings or Settings())

    @cached_property
    def description(self) -> Description:
        width = self.settings.channels
        units: list[Unit] = [Stack("stem", conv_norm_relu(3, width, 3), 3, width, self.family)]
        for stack in range(self.settings.stacks):
            width = self.settings.channels * 2**stack
            for index in range(self.settings.cells):
                before = units[-1].out_channels
                units.append(CellUnit(self.cell, before, width, halves=stack > 0 and index == 0))
        names = ("stem", *(f"blocks.{index}" for index in range(len(units) - 1)))
        return Description(tuple(units), names, divisor=2 ** (self.settings.stacks - 1))

    def __str__(self) -> str:
        return f"nb101-{self.settings}-{_vertices(self.cell)}"

    def shape_features(self) -> dict[str, float]:
        return cell_features(self.cell)

    def spellings(self) -> dict[str, str]:
        """Return the cell as a ``ModelSpec``, and its key in the benchmark."""
        long = {short: name for name, short in SHORT_NAMES.items()}
        names = ["input", *(long[name] for name in self.cell.operations), "output"]
        return {
            "NAS-Bench-101": f"ModelSpec(matrix={self.cell.matrix()}, ops={names})",
            "NAS-Bench-101 hash": self.cell.fingerprint(),
        }

    def published_counts(self) -> dict[str, float]:
        """Return ``trainable_parameters`` of the benchmark's table; nothing for networks that are stacked otherwise."""
        if self.settings != Settings():
            return {}
        from zenopt.core.costs import count

        return {"trainable_parameters": float(count(self, RESOLUTION, NUM_CLASSES).params)}


@dataclass(frozen=True)
class CellUnit(Unit):
    """A cell; ``halves`` says whether a 2x2 max pooling comes before it."""

    cell: Cell
    in_channels: int
    out_channels: int
    halves: bool = False

    @property
    def label(self) -> str:
        return "cell"

    @property
    def vertices(self) -> VertexGraph:
        widths = vertex_channels(self.cell, self.out_channels)[1:-1]
        return VertexGraph(tuple(map(_operation, self.cell.operations, widths)), self.cell.edges)

    def expand(self) -> tuple[Node, ...]:
        cell, wide = self.cell, self.out_channels
        pooling: tuple[Node, ...] = (
            (Pool(self.in_channels, 2, 2, "max", padded=False),) if self.halves else ()
        )
        projection = conv_norm_relu(self.in_channels, wide, 1)
        if not cell.operations:
            return (*pooling, *projection)
        graph = self._graph(vertex_channels(cell, wide))
        if 0 in cell.into(cell.output):
            return (*pooling, Branches(((graph,), projection), "sum", ("vertices", "projection")))
        return (*pooling, graph)

    def _graph(self, channels: tuple[int, ...]) -> Graph:
        """Return the vertices: a place for the value of each, and one for the sum that several edges lead to."""
        cell = self.cell
        values, edges = {0: 0}, []
        place = 0
        for vertex, operation in enumerate(cell.operations, start=1):
            width = channels[vertex]
            nodes = _operation(operation, width)
            terms = [(source, self._term(source, width, channels)) for source in cell.into(vertex)]
            place += 1
            if len(terms) == 1:
                source, before = terms[0]
                edges.append(Edge(values[source], place, (*before, *nodes)))
            else:
                # What only passes a value on is never dropped.
                edges += [Edge(values[source], place, term, drops=source == 0) for source, term in terms]
                edges.append(Edge(place, place + 1, nodes))
                place += 1
            values[vertex] = place
        return Graph(1, tuple(edges), tuple(values[source] for source in cell.into(cell.output) if source))

    def _term(self, source: int, width: int, channels: tuple[int, ...]) -> tuple[Node, ...]:
        if source == 0:
            return conv_norm_relu(self.in_channels, width, 1)
        return () if channels[source] == width else (Slice(channels[source], 0, width),)

    def __str__(self) -> str:
        sizes = f"{self.in_channels},{self.out_channels}"
        return f"NB101Cell{'H' * self.halves}({_vertices(self.cell)};{sizes})"


def vertex_channels(cell: Cell, out_channels: int) -> tuple[int, ...]:
    """Return the channels of every vertex, 0 for the input.

    The output's are shared out among the vertices that lead to it, what is left one by one to the first; every other
    vertex has as many as the widest of those it leads to.
    """
    last = cell.output
    ends = [vertex for vertex in cell.into(last) if vertex]
    found = [0] * last + [out_channels]
    for index, vertex in enumerate(ends):
        found[vertex] = out_channels // len(ends) + (index < out_channels % len(ends))
    for vertex in range(last - 1, 0, -1):
        if vertex not in ends:
            found[vertex] = max(found[end] for start, end in cell.edges if start == vertex)
    return tuple(found)


def _operation(name: str, channels: int) -> tuple[Node, ...]:
    if name == "max3":
        return (Pool(channels, 3, 1, "max"),)
    return conv_norm_relu(channels, channels, int(name[-1]))


def _vertices(cell: Cell) -> str:
    """Return the operation of each vertex with the vertices that lead to it."""
    names = enumerate((*cell.operations, "out"), start=1)
    return ",".join(f"{name}~{'+'.join(map(str, cell.into(index)))}" for index, name in names)


def _read_vertices(text: str) -> Cell:
    operations, edges = [], []
    for index, item in enumerate(text.split(","), start=1):
        match = _VERTEX.fullmatch(item)
        if match is None:
            raise StructureError(f"Vertex {index}: expected a term such as conv3~0+1, got {item[:30]!r}.")
        operations.append(match[1])
        edges += [(int(start), index) for start in match[2].split("+")]
    return Cell(tuple(operations[:-1]), tuple(edges))


def _read_fields(text: str) -> Cell | None:
    """Return the cell of a matrix and a list of operations; ``None`` if the text is nothing of the kind."""
    if _CHARACTERS.fullmatch(text) is None:
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if isinstance(tree, ast.Call) and not tree.args:
            found: dict[Any, Any] = {item.arg: ast.literal_eval(item.value) for item in tree.keywords}
        else:
            found = dict(ast.literal_eval(tree))
        own = next(names for names in _FIELDS if set(names) <= set(found))
        rows = [[int(value) for value in row] for row in found[own[0]]]
        names = [str(name) for name in found[own[1]]]
    except (SyntaxError, TypeError, ValueError, StopIteration, RecursionError, MemoryError):
        return None
    size = len(names)
    if size < 2 or [len(row) for row in rows] != [size] * size:
        raise StructureError(
            f"A NAS-Bench-101 matrix has a row and a column for each of its {size} operations, with input and output."
        )
    edges = [(start, end) for start, row in enumerate(rows) for end, value in enumerate(row) if value]
    return Cell(tuple(SHORT_NAMES.get(name, name) for name in names[1:-1]), tuple(edges))
