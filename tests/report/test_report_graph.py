from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import combinations

import pytest

from zenopt.core.errors import ZenoptError
from zenopt.report import dissect, draw
from zenopt.report.graph import Graph, Node, graph_of, lay_out, layers_of
from zenopt.report.graph_picture import draw_graph
from zenopt.spaces.chain.architecture import Architecture
from zenopt.spaces.nasbench201.architecture import CellArchitecture

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
_SVG = "{http://www.w3.org/2000/svg}"


def graph(edges: str) -> Graph:
    pairs = [(edge[0], edge[1]) for edge in edges.split()]
    keys = sorted({key for pair in pairs for key in pair})
    return Graph(tuple(Node(key, key) for key in keys), tuple(pairs))


def test_every_edge_leads_down() -> None:
    found = graph("ab ac ad be ce df eg fg ag ah gh dh")
    layers = layers_of(found)
    assert all(layers[start] < layers[end] for start, end in found.edges)
    assert (layers["a"], layers["h"]) == (0, 4)


def test_what_stands_in_a_layer_does_not_overlap() -> None:
    layout = lay_out(graph("ab ac ad be ce df eg fg ag ah gh dh"))
    rows: dict[int, list[float]] = {}
    for layer, place in layout.places.values():
        rows.setdefault(layer, []).append(place)
    for places in rows.values():
        assert all(0 < place < 1 for place in places)
        assert all(abs(a - b) >= 1 / layout.columns - 1e-9 for a, b in combinations(places, 2))


def test_edges_are_untangled() -> None:
    # In the order of the names every edge of the middle crosses another; sorted by neighbours none does.
    layout = lay_out(graph("ab ac ad bg cf de eh fh gh"))
    place = {key: layout.places[key][1] for key in "bcdefg"}
    middle = [("b", "g"), ("c", "f"), ("d", "e")]
    for (a, b), (c, d) in combinations(middle, 2):
        assert (place[a] - place[c]) * (place[b] - place[d]) > 0


def test_a_cycle_and_unknown_nodes_are_refused() -> None:
    with pytest.raises(ZenoptError, match="cycle"):
        graph("ab bc ca")
    with pytest.raises(ZenoptError, match="does not have: b"):
        Graph((Node("a", "a"),), (("a", "b"),))


def test_a_cell_from_its_text() -> None:
    found = graph_of(CellArchitecture.parse(CELL))
    assert found is not None
    labels = sorted(node.label for node in found.nodes if node.kind == "operation")
    # An edge without operation is no edge.
    assert labels == ["avg pool 3×3", "conv 1×1", "conv 3×3", "conv 3×3", "identity"]
    assert len(found.edges) == 10
    root = ET.fromstring(draw_graph(found, "a cell", standalone=True))
    words = [element.text for element in root.iter(f"{_SVG}text")]
    assert {"a cell", "input", "output", "sum 1", "sum 2", *labels} <= set(words)
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
        ("K3 conv", 1), ("cell", 5), ("block", 1), ("cell", 5), ("block", 1), ("cell", 5), ("pool, linear", 1),
    ]  # fmt: skip
    assert sum(block.params for block in anatomy.blocks) == anatomy.params
    words = [element.text for element in ET.fromstring(draw(anatomy)).iter(f"{_SVG}text")]
    assert {"The cell", "identity", "cell × 5"} <= set(words)
    chain = dissect(Architecture.parse("SuperConvK3BNRELU(3,8,1,1)"), 32, 10)
    assert chain.graph is None and "The cell" not in draw(chain)
