from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import pytest

from zenopt.core.cells import operation_words, sketches_of
from zenopt.core.description import Unit
from zenopt.core.errors import ZenoptError
from zenopt.core.primitives import Conv, Edge, Graph, Identity, Node, Norm, Pool, Zero
from zenopt.report import dissect, draw
from zenopt.report.cells import cell_text, cells_of, diagram_of
from zenopt.report.diagram import draw_diagram
from zenopt.report.graph import Box, Diagram, lay_out, layers_of
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.darts.space import DartsSpace
from zenopt.spaces.layers import factorised_reduction
from zenopt.spaces.nasbench101.space import NasBench101Space
from zenopt.spaces.nasbench201.architecture import CellArchitecture
from zenopt.spaces.transnas.micro import TransNasMicroSpace

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
_SVG = "{http://www.w3.org/2000/svg}"


def diagram(edges: str) -> Diagram:
    pairs = [(edge[0], edge[1]) for edge in edges.split()]
    keys = sorted({key for pair in pairs for key in pair})
    return Diagram(tuple(Box(key, key) for key in keys), tuple(pairs))


def test_every_edge_leads_down() -> None:
    found = diagram("ab ac ad be ce df eg fg ag ah gh dh")
    layers = layers_of(found)
    assert all(layers[start] < layers[end] for start, end in found.arrows)
    assert (layers["a"], layers["h"]) == (0, 4)


def test_what_stands_in_a_layer_does_not_overlap() -> None:
    layout = lay_out(diagram("ab ac ad be ce df eg fg ag ah gh dh"))
    rows: dict[int, list[float]] = {}
    for layer, place in layout.places.values():
        rows.setdefault(layer, []).append(place)
    for places in rows.values():
        assert all(0 < place < 1 for place in places)
        assert all(abs(a - b) >= 1 / layout.columns - 1e-9 for a, b in combinations(places, 2))


def test_edges_are_untangled() -> None:
    # In the order of the names every edge of the middle crosses another; sorted by neighbours none does.
    layout = lay_out(diagram("ab ac ad bg cf de eh fh gh"))
    place = {key: layout.places[key][1] for key in "bcdefg"}
    middle = [("b", "g"), ("c", "f"), ("d", "e")]
    for (a, b), (c, d) in combinations(middle, 2):
        assert (place[a] - place[c]) * (place[b] - place[d]) > 0


def test_a_cycle_and_unknown_nodes_are_refused() -> None:
    with pytest.raises(ZenoptError, match="cycle"):
        diagram("ab bc ca")
    with pytest.raises(ZenoptError, match="does not have: b"):
        Diagram((Box("a", "a"),), (("a", "b"),))


def test_a_cell_from_its_text() -> None:
    ((name, found),) = cells_of(CellArchitecture.parse(CELL))
    assert name == "cell"
    labels = sorted(box.label for box in found.boxes if box.kind == "operation")
    # An edge without operation is no edge.
    assert labels == ["avg pool 3×3", "conv 1×1", "conv 3×3", "conv 3×3", "identity"]
    assert len(found.arrows) == 10
    root = ET.fromstring(draw_diagram(found, "a cell", standalone=True))
    words = [element.text for element in root.iter(f"{_SVG}text")]
    assert {"a cell", "input", "output", "node 1", "node 2", *labels} <= set(words)
    classes = [element.attrib["class"] for element in root.iter(f"{_SVG}g")]
    assert sum("zp-k3" in name for name in classes) == 2
    boxes = [
        [float(box.attrib[key]) for key in ("x", "y", "width", "height")]
        for group in root.iter(f"{_SVG}g")
        for box in group.iter(f"{_SVG}rect")
    ]
    for (x, y, width, height), (left, top, own_width, own_height) in combinations(boxes, 2):
        is_beside = x + width <= left or left + own_width <= x
        assert is_beside or y + height <= top or top + own_height <= y


def test_the_picture_of_a_cells_network_has_the_cell() -> None:
    anatomy = dissect(CellArchitecture.parse(CELL), 32, 10)
    assert [(block.name, block.depth) for block in anatomy.blocks] == [
        ("stem", 1), ("cell", 5), ("reduction", 1), ("cell", 5), ("reduction", 1), ("cell", 5), ("pool, linear", 1),
    ]  # fmt: skip
    assert sum(block.params for block in anatomy.blocks) == anatomy.params
    words = [element.text for element in ET.fromstring(draw(anatomy)).iter(f"{_SVG}text")]
    assert {"cell", "identity", "cell × 5"} <= set(words)
    chain = dissect(Architecture.parse("SuperConvK3BNRELU(3,8,1,1)"), 32, 10)
    assert chain.cells == ()


def test_a_reduction_has_its_shortcut() -> None:
    reduction = dissect(CellArchitecture.parse(CELL), 32, 10).blocks[2]
    ((shortcut),) = reduction.shortcuts
    assert (shortcut.start, shortcut.end) == (0, 2) and shortcut.projection is not None


def test_cells_of_two_inputs() -> None:
    nodes = (Conv(8, 8, 3, groups=8), Conv(8, 8, 1), Norm(8))
    edges = (
        Edge(0, 2, nodes),
        Edge(1, 2, (Identity(8),)),
        Edge(0, 3, (Zero(8),)),
        Edge(2, 3, (Pool(8, 3, kind="max"),)),
    )

    @dataclass(frozen=True)
    class Twice(Unit):
        in_channels: int = 8
        out_channels: int = 16
        inputs: ClassVar[tuple[int, ...]] = (-2, -1)

        def expand(self) -> tuple[Node, ...]:
            return (Graph(2, edges, (2, 3)),)

        def __str__(self) -> str:
            return "twice"

    found = diagram_of(Twice())
    assert found is not None
    labels = [box.label for box in found.boxes]
    assert labels[:4] == ["2 back", "before", "node 2", "node 3"]
    assert labels[4:] == ["output", "separable 3×3", "identity", "max pool 3×3"]
    assert {start for start, end in found.arrows if end == "place4"} == {"place2", "place3"}
    assert operation_words((Conv(8, 8, 5, dilation=2, groups=8),)) == ("dilated 5×5", 5)
    assert operation_words(factorised_reduction(8, 16)) == ("skip, halved", 1)


def test_operations_of_vertices_are_the_boxes() -> None:
    network = NasBench101Space().parse("conv3~0,max3~1,conv3~2,conv3~0,conv1~0+3+4,out~2+5")
    ((name, found),) = cells_of(network)
    assert name == "cell"
    assert [(box.label, box.kind, box.kernel) for box in found.boxes] == [
        ("input", "state", None),
        ("1: conv 3×3", "operation", 3),
        ("2: max pool 3×3", "operation", None),
        ("3: conv 3×3", "operation", 3),
        ("4: conv 3×3", "operation", 3),
        ("5: conv 1×1", "operation", 1),
        ("output", "state", None),
    ]
    assert found.arrows == tuple((f"place{start}", f"place{end}") for start, end in network.cell.edges)
    assert sum(block.depth for block in dissect(network, 32, 10).blocks if block.name == "cell") == 9


def test_boxes_without_room_have_short_labels() -> None:
    cell = cells_of(DartsSpace().parse(DartsSpace().initial))[0][1]
    words = [element.text for element in ET.fromstring(draw_diagram(cell)).iter(f"{_SVG}text")]
    assert {"sep 3×3", "dil 3×3", "2 back", "node 5"} <= set(words)
    assert not any("…" in (word or "") for word in words)


DARTS_TEXT = """\
normal cell     2 back before   2      3      4      5    output
separable 3x3     o------------->      :      :      :      :
separable 3x3     :      o------>      :      :      :      :
separable 3x3     o-------------------->      :      :      :
separable 3x3     :      o------------->      :      :      :
identity          o--------------------------->      :      :
separable 3x3     :      o-------------------->      :      :
identity          o---------------------------------->      :
dilated 3x3       :      :      o-------------------->      :
side by side      :      :      o------o------o------o------>"""
VERTEX_TEXT = """\
cell           input    1      2      3      4      5    output
conv 3x3         o------>      :      :      :      :      :
max pool 3x3     :      o------>      :      :      :      :
conv 3x3         :      :      o------>      :      :      :
conv 3x3         o--------------------------->      :      :
conv 1x1         o--------------------o------o------>      :
side by side     :      :      o--------------------o------>"""


def test_cells_as_text() -> None:
    normal, reduction = sketches_of(DartsSpace().parse(DartsSpace().initial))
    assert cell_text(*normal) == DARTS_TEXT
    assert reduction[0] == "reduction cell" and "max pool 3x3" in cell_text(*reduction)
    ((name, sketch),) = sketches_of(
        NasBench101Space().parse("conv3~0,max3~1,conv3~2,conv3~0,conv1~0+3+4,out~2+5")
    )
    assert cell_text(name, sketch) == VERTEX_TEXT
    assert "none" not in cell_text(*sketches_of(CellArchitecture.parse(CELL))[0])
    micro = sketches_of(TransNasMicroSpace().parse("1_01_230"))
    # Cells that change the shape skip by a factorised reduction.
    assert [name for name, _ in micro] == ["reduction cell", "cell"]
    assert "skip, halved" in cell_text(*micro[0]) and "identity" in cell_text(*micro[1])
    assert sketches_of(Architecture.parse("SuperConvK3BNRELU(3,8,1,1)")) == ()
