"""NAS-Bench-101: texts, the benchmark's keys and counts, the network, the space."""

from __future__ import annotations

import random
from itertools import combinations, permutations, product

import pytest
import torch

from zenopt.core.costs import count
from zenopt.core.errors import StructureError
from zenopt.export.names import resolve
from zenopt.nn import build_network
from zenopt.spaces.nasbench101.architecture import Nb101Architecture, Settings, vertex_channels
from zenopt.spaces.nasbench101.cell import MAX_EDGES, OPERATIONS, Cell, pruned
from zenopt.spaces.nasbench101.space import EDGES, NasBench101Space, repaired
from zenopt.testing import FamilyTests

SPACE = NasBench101Space()
#: The first entry of the benchmark (hash, operations and 8,555,530 parameters as its users print it, e.g. NNI's docs).
FIRST = "conv3~0,max3~1,conv3~2,conv3~0,conv1~0+3+4,out~2+5"
FIRST_KEY = "00005c142e6f48ac74fdcf73e3439874"
FIRST_SPEC = (
    "ModelSpec(matrix=[[0, 1, 0, 0, 1, 1, 0], [0, 0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 1], [0, 0, 0, 0, 0, 1, 0], "
    "[0, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0]], ops=['input', 'conv3x3-bn-relu', "
    "'maxpool3x3', 'conv3x3-bn-relu', 'conv3x3-bn-relu', 'conv1x1-bn-relu', 'output'])"
)
#: The Inception-like cell of the release's README, and the order in which the benchmark holds it.
INCEPTION = "conv1~0,conv3~0,conv3~0,conv3~3,max3~0,out~1+2+4+5"
INCEPTION_HELD = "conv3~0,conv1~0,max3~0,conv3~0,conv3~4,out~1+2+3+5"


class TestNasBench101(FamilyTests):
    name, options = "nasbench101", {"stacks": 2, "cells": 1, "channels": 8}
    resolution, num_classes = 16, 4
    samples = 8


# -- texts and keys -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        FIRST,
        f"nb101-{FIRST}",
        f"nb101-3x3x128-{FIRST}",
        FIRST_SPEC,
        f"api.{FIRST_SPEC}",
        FIRST_SPEC.replace("ModelSpec(matrix=", "{'module_adjacency': ")
        .replace("ops=", "'module_operations': ")
        .replace(")", "}"),
    ],
)
def test_every_spelling_is_read(text: str) -> None:
    network = SPACE.parse(text)
    assert str(network) == f"nb101-3x3x128-{FIRST}" and SPACE.contains(network)


def test_the_benchmarks_spelling_comes_back() -> None:
    texts = SPACE.parse(FIRST).spellings()
    assert texts == {"NAS-Bench-101": FIRST_SPEC, "NAS-Bench-101 hash": FIRST_KEY}
    assert resolve(texts["NAS-Bench-101"]).text == f"nb101-3x3x128-{FIRST}"
    row = {
        "module_adjacency": str(SPACE.parse(FIRST).cell.matrix()),
        "module_operations": FIRST_SPEC.split("ops=")[1][:-1],
    }
    assert SPACE.parse(SPACE.text_of_row(row) or "") == SPACE.parse(FIRST)


def test_isomorphic_cells_are_one_and_in_the_benchmarks_order() -> None:
    assert str(SPACE.parse(INCEPTION)).endswith(INCEPTION_HELD)
    cell, rng = SPACE.parse(FIRST).cell, random.Random(0)
    for _ in range(20):
        order = [0, *rng.sample(range(1, 6), 5), 6]
        edges = [(order[start], order[end]) for start, end in cell.edges]
        if all(start < end for start, end in edges):
            operations = [cell.operations[order.index(place) - 1] for place in range(1, 6)]
            assert Cell(tuple(operations), tuple(edges)) == cell


def test_what_is_on_no_path_is_no_part_of_a_cell() -> None:
    # Vertex 2 leads nowhere, nothing leads to vertex 3.
    assert Cell(("conv3", "conv1", "max3"), ((0, 1), (1, 2), (3, 4), (1, 4))) == Cell(
        ("conv3",), ((0, 1), (1, 2))
    )
    assert pruned(("conv3",), ((0, 1),)) == ((), ())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("conv3~0,conv3~1,out~5", "lead from a vertex to a later one, 0 to 3; got 5 to 3"),
        ("conv5~0,out~1", "Unknown NAS-Bench-101 operation 'conv5'; allowed: conv3x3-bn-relu"),
        ("conv3~0,conv3,out~1", r"Vertex 2: expected a term such as conv3~0\+1, got 'conv3'"),
        ("conv3~0,conv3~0,out~2,out~1", "Unknown NAS-Bench-101 operation 'out'"),
        ("conv3~0,conv3~1,out~", "Expected a NAS-Bench-101 cell"),
        (",".join(["conv3~0"] * 6) + ",out~1+2+3+4+5+6", "at most 7 vertices, got 8"),
        ("conv3~0,conv3~0+1,conv3~0+1+2,conv3~0+1+2+3,out~4", "at most 9 edges, got 11"),
        (f"nb101-9x3x128-{FIRST}", "number of stacks from 1 to 5, got 9"),
        (f"nb101-3x3x4-{FIRST}", "number of channels from 8 to 512, got 4"),
        (
            FIRST_SPEC.replace("[0, 0, 0, 0, 0, 0, 1], ", ""),
            "a row and a column for each of its 7 operations",
        ),
        (
            FIRST_SPEC.replace("[0, 1, 0, 0, 1, 1, 0]", "[0, 0, 0, 0, 0, 0, 0]"),
            "Nothing leads from the input",
        ),
        (
            FIRST_SPEC.replace("[0, 0, 1, 0", "[0, 1, 1, 0"),
            "lead from a vertex to a later one, 0 to 6; got 1 to 1",
        ),
        (FIRST_SPEC.replace("maxpool3x3", "maxpool5x5"), "Unknown NAS-Bench-101 operation 'maxpool5x5'"),
        (FIRST_SPEC.replace("'maxpool3x3'", "exit()"), "Expected a NAS-Bench-101 cell"),
        ("ModelSpec(" * 150, "Expected a NAS-Bench-101 cell"),
        ("[" * 1000, "Expected a NAS-Bench-101 cell"),
        ("x" * 3000, "at most 2000 characters, got 3000"),
    ],
)
def test_other_texts_are_errors(text: str, complaint: str) -> None:
    with pytest.raises(StructureError, match=complaint):
        SPACE.parse(text)


# -- counts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "params"),
    [
        (FIRST, 8_555_530),
        # README of the release, and what the table says of it.
        (INCEPTION, 2_694_282),
        # The most of the table (its users normalise by it): five full 3x3 convolutions, and four edges from the input.
        ("conv3~0,conv3~0+1,conv3~0+2,conv3~0+3,conv3~4,out~5", 49_979_274),
    ],
)
def test_counts_are_those_of_the_benchmark(text: str, params: int) -> None:
    network = SPACE.parse(text)
    assert count(network, 32, 10).params == params
    assert network.published_counts() == {"trainable_parameters": params}
    assert NasBench101Space(channels=16).parse(text).published_counts() == {}


def test_channels_are_shared_out_as_by_the_release() -> None:
    """128 over three vertices: what is left goes to the first two; others are as wide as the widest they lead to."""
    cell = SPACE.parse("conv3~0,conv3~1,conv1~1,max3~1,out~2+3+4").cell
    assert vertex_channels(cell, 128) == (0, 43, 43, 43, 42, 128)
    narrow = NasBench101Space(channels=8, cells=1, stacks=1).parse(
        str(SPACE.parse(FIRST)).replace("3x3x128", "1x1x9")
    )
    assert vertex_channels(narrow.cell, 9) == (0, 5, 5, 4, 4, 4, 9)


def test_a_cell_is_computed_by_hand() -> None:
    """A vertex sums its inputs, the first channels of wider ones, and a projection; the output is a sum, too."""
    # Vertices 1 and 3 lead to the output and have 5 and 4 of its 9 channels; 1 is cut for the sum of 3.
    network = build_network(
        Nb101Architecture.parse("nb101-1x1x9-max3~0,max3~1,max3~0+1+2,out~0+1+3"), num_classes=2
    ).eval()
    cell, x = network.blocks[0], torch.randn(2, 9, 8, 8)
    graph, projection = cell.vertices[0], cell.projection
    pool = torch.nn.MaxPool2d(3, 1, 1)
    with torch.no_grad():
        first = pool(graph.edges[0][:3](x))
        second = pool(first[:, :4])
        third = pool(graph.edges[2](x) + first[:, :4] + second)
        assert first.shape[1] == 5 and third.shape[1] == 4
        expected = torch.cat([first, third], dim=1) + projection(x)
        assert torch.allclose(cell(x), expected, atol=1e-6)


def test_the_input_alone_is_projected() -> None:
    network = build_network(SPACE.parse("nb101-2x1x8-out~0"), num_classes=3).eval()
    assert network(torch.randn(2, 3, 16, 16)).shape == (2, 3)
    assert SPACE.parse("out~0").cell == Cell((), ((0, 1),))


# -- the space ------------------------------------------------------------------------------------------------------


def test_every_choice_spells_a_cell() -> None:
    operations = ("conv3",) * 5
    assert repaired(operations, ()) == ((), ((0, 1),))
    assert repaired(operations, ((0, 1), (2, 6))) == ((), ((0, 1),))
    kept = repaired(operations, EDGES)
    assert len(kept[1]) == MAX_EDGES and Cell(*kept)
    rng = random.Random(0)
    for _ in range(200):
        values = [rng.choice(allowed) for allowed in SPACE.slots.values()]
        network = SPACE.from_values(values)
        assert SPACE.from_values(SPACE.values_of(network)) == network


def test_neighbours_are_an_operation_an_edge_or_a_vertex_away() -> None:
    start = SPACE.parse("conv3~0,out~1")
    found = {str(other).split("-")[-1] for other in SPACE.neighbours(start)}
    grown = {
        f"{first}~0,{second}~1,out~2"
        for first, second in product(OPERATIONS, repeat=2)
        if "conv3" in (first, second)
    }
    assert found == {"conv1~0,out~1", "max3~0,out~1", "conv3~0,out~0+1", *grown}
    rng = random.Random(1)
    children = {SPACE.mutate(start, rng) for _ in range(200)}
    assert {str(child).split("-")[-1] for child in children} == found
    assert len({SPACE.mutate(start, rng, blocks=3) for _ in range(100)}) > len(found)
    full = SPACE.parse("conv3~0,conv3~1,conv3~2,conv3~3,conv3~4,out~5")
    assert all(len(child.cell.operations) <= 5 for child in SPACE.neighbours(full))


def test_stacking_is_an_option() -> None:
    small = NasBench101Space(stacks=2, cells=1, channels=16)
    assert small.initial == "nb101-2x1x16-conv3~0,conv3~1,out~0+2"
    assert small.parse("out~0").settings == Settings(2, 1, 16)
    with pytest.raises(StructureError, match="stacked as 3x3x128; allowed is 2x1x16"):
        small.encode(SPACE.parse("out~0"))
    found = small.parse(FIRST)
    assert SPACE.scale(found, width=8, depth=3).settings == Settings(2, 3, 128)
    assert SPACE.scale(found, width=8, depth=3).cell == found.cell
    with pytest.raises(StructureError, match="factor of depth must be a positive number, got -1"):
        SPACE.scale(found, depth=-1)
    with pytest.raises(StructureError, match="number of cells from 1 to 20, got 0"):
        NasBench101Space(cells=0)


@pytest.mark.slow
def test_there_are_as_many_cells_as_the_benchmark_has() -> None:
    """423,624 up to isomorphism: of each graph, labellings up to renumberings that leave it as it is (Burnside)."""
    total = 0
    for inner in range(6):
        last = inner + 1
        pairs = [(start, end) for end in range(1, last + 1) for start in range(end)]
        renumberings = [(0, *order, last) for order in permutations(range(1, last))]
        for size in range(1, MAX_EDGES + 1):
            for edges in combinations(pairs, size):
                starts, ends = {start for start, _ in edges}, {end for _, end in edges}
                if len(starts) <= inner or len(ends) <= inner:
                    continue
                if Cell(("conv3",) * inner, edges).edges != edges:
                    continue  # another order of this graph's vertices is the canonical one
                own = set(edges)
                fixing = [n for n in renumberings if {(n[start], n[end]) for start, end in edges} == own]
                total += sum(len(OPERATIONS) ** _cycles(renumbering) for renumbering in fixing) // len(fixing)
    assert total == 423_624


def _cycles(renumbering: tuple[int, ...]) -> int:
    """Return the cycles of a permutation among the vertices between input and output."""
    seen: set[int] = set()
    found = 0
    for start in range(1, len(renumbering) - 1):
        found += start not in seen
        while start not in seen:
            seen.add(start)
            start = renumbering[start]
    return found


def test_keys_are_those_of_isomorphic_cells_alone() -> None:
    """Every cell of up to four vertices."""
    found: set[Cell] = set()
    for vertices in range(2, 5):
        pairs = [(start, end) for end in range(1, vertices) for start in range(end)]
        for bits in product((False, True), repeat=len(pairs)):
            edges = tuple(pair for pair, is_there in zip(pairs, bits, strict=True) if is_there)
            for operations in product(OPERATIONS, repeat=vertices - 2):
                own, kept = pruned(operations, edges)
                if len(own) == vertices - 2 and kept:
                    found.add(Cell(operations, edges))
    assert len({cell.fingerprint() for cell in found}) == len(found) == 91
