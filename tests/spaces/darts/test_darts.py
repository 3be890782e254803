"""DARTS cells: spellings of genotypes, published counts, stacking, training extras, tables."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from known import fixture_rows, table_path, table_rows

from zenopt.core.costs import count
from zenopt.core.errors import SpecError, StructureError
from zenopt.core.lowering import walk_units
from zenopt.export.names import resolve
from zenopt.nn import build_auxiliary, build_network
from zenopt.nn.modules import GraphModule
from zenopt.spaces.darts.architecture import DartsArchitecture, Settings
from zenopt.spaces.darts.features import cell_features
from zenopt.spaces.darts.genotype import Genotype
from zenopt.spaces.darts.space import DartsSpace
from zenopt.spaces.tabular import TabularSpace, space_table
from zenopt.testing import FamilyTests

ONCE, NASLIB = DartsSpace(), DartsSpace(cells=8, channels=32)
ONCE_TABLE, NASLIB_TABLE = "oncenas_darts_545.csv.gz", "nas_bench_301_725.csv.gz"
V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=range(2, 6), "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=range(2, 6))"
)
V2_NASLIB = (
    "[[(0,3),(1,3),(0,3),(1,3),(1,3),(0,2),(0,2),(2,5)],[(0,0),(1,0),(2,2),(1,0),(0,0),(2,2),(2,2),(1,0)]]"
)
#: As aw_nas writes it (its README); operations stand in any order.
V2_AWNAS = (
    "CNNGenotype(normal_0=[('dil_conv_3x3', 2, 5), ('sep_conv_3x3', 0, 2), ('sep_conv_3x3', 1, 2), "
    "('sep_conv_3x3', 0, 3), ('sep_conv_3x3', 1, 3), ('sep_conv_3x3', 1, 4), ('skip_connect', 0, 4), "
    "('skip_connect', 0, 5)], reduce_1=[('max_pool_3x3', 0, 2), ('max_pool_3x3', 1, 2), ('skip_connect', 2, 3), "
    "('max_pool_3x3', 1, 3), ('max_pool_3x3', 0, 4), ('skip_connect', 2, 4), ('skip_connect', 2, 5), "
    "('max_pool_3x3', 1, 5)], normal_0_concat=[2, 3, 4, 5], reduce_1_concat=[2, 3, 4, 5])"
)
#: With a list for each node, as later PyTorch versions of DARTS write it.
V2_BY_NODE = (
    "Genotype(normal=[[('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], [('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], "
    "[('sep_conv_3x3', 1), ('skip_connect', 0)], [('skip_connect', 0), ('dil_conv_3x3', 2)]], "
    "normal_concat=range(2, 6), reduce=[[('max_pool_3x3', 0), ('max_pool_3x3', 1)], [('skip_connect', 2), "
    "('max_pool_3x3', 1)], [('max_pool_3x3', 0), ('skip_connect', 2)], [('skip_connect', 2), ('max_pool_3x3', 1)]], "
    "reduce_concat=range(2, 6))"
)
V2_NORMAL = "sep3~0+sep3~1,sep3~0+sep3~1,skip~0+sep3~1,skip~0+dil3~2"
V2_REDUCE = "max3~0+max3~1,max3~1+skip~2,max3~0+skip~2,max3~1+skip~2"
V2_SHORT = f"{V2_NORMAL}-{V2_REDUCE}"
#: The first-order search's.
V1 = "sep3~1+sep3~0,skip~0+sep3~1,skip~0+sep3~1,sep3~0+skip~2-max3~0+max3~1,skip~2+max3~0,max3~0+skip~2,skip~2+avg3~0"


class TestDarts(FamilyTests):
    name, options = "darts", {"cells": 4, "channels": 8}
    resolution, num_classes = 16, 4
    samples = 6


class TestDartsOnImageNet(FamilyTests):
    name, options = "darts", {"cells": 3, "channels": 8, "stem": "imagenet"}
    resolution, num_classes = 64, 4
    samples = 4
    samplers = ("zen",)


# -- texts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        V2,
        V2.replace("'", '"').replace("range(2, 6)", "[2, 3, 4, 5]").replace(", ", ",\n "),
        V2_NASLIB,
        V2_NASLIB.replace(",", ", "),
        V2_NASLIB.replace("(", "[").replace(")", "]"),
        V2_AWNAS,
        V2_AWNAS.replace("[", "(").replace("]", ")").replace(", ", ",\n  "),
        V2_BY_NODE,
        V2_SHORT,
        f"darts-20x36-{V2_SHORT}",
        f"  {V2}\n",
    ],
)
def test_every_spelling_is_read(text: str) -> None:
    network = ONCE.parse(text)
    assert str(network) == f"darts-20x36-{V2_SHORT}"
    assert ONCE.contains(network)


def test_the_spellings_of_others_come_back() -> None:
    texts = ONCE.parse(V2).spellings()
    assert {Genotype.parse(text) for text in texts.values()} == {Genotype.parse(V2)}
    assert texts["DARTS"].startswith("Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), (")
    assert texts["DARTS"].endswith("('skip_connect', 2)], reduce_concat=range(2, 6))")
    assert texts["aw_nas"].startswith(
        "CNNGenotype(normal_0=[('sep_conv_3x3', 0, 2), ('sep_conv_3x3', 1, 2), "
    )
    assert texts["aw_nas"].endswith("normal_0_concat=[2, 3, 4, 5], reduce_1_concat=[2, 3, 4, 5])")
    assert sorted(texts["NASLib"]) == sorted(V2_NASLIB)
    assert "NASLib" not in ONCE.parse(V2.replace("dil_conv_3x3", "none")).spellings()


def test_the_order_of_a_nodes_terms_makes_no_difference() -> None:
    swapped = V2_SHORT.replace("skip~0+sep3~1", "sep3~1+skip~0")
    assert swapped != V2_SHORT and ONCE.parse(swapped) == ONCE.parse(V2_SHORT)


def test_settings_are_in_the_text() -> None:
    assert str(NASLIB.parse(V2)) == f"darts-8x32-{V2_SHORT}"
    network = ONCE.parse(f"darts-14x48i-{V2_SHORT}")
    assert network.settings == Settings(14, 48, "imagenet")
    assert DartsSpace(cells=14, channels=48, stem="imagenet").contains(network) and not ONCE.contains(network)
    with pytest.raises(StructureError, match="stacked as 14x48i; allowed is 20x36"):
        ONCE.encode(network)
    for text in (V2, V2_AWNAS, V2_NASLIB, str(network)):
        assert resolve(text).family == "darts"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            V2.replace("sep_conv_3x3", "sep_conv_7x7"),
            "Unknown DARTS operation 'sep_conv_7x7'; allowed: none, max_pool",
        ),
        (
            V2.replace("range(2, 6)", "range(3, 6)"),
            r"normal_concat of a DARTS genotype must be range\(2, 6\)",
        ),
        (V2.replace("range(2, 6)", "range(2, 10 ** 9)"), "Expected a DARTS genotype"),
        (V2.replace("range(2, 6)", "range(2, 999999999999)"), "normal_concat of a DARTS genotype must be"),
        (V2.replace("range(2, 6)", "[2, 3, 4]"), "normal_concat of a DARTS genotype must be"),
        (V2.replace("Genotype(", "Genotype(steps=4, "), "Expected a DARTS genotype"),
        (V2.replace("Genotype(", "print("), "Expected a DARTS genotype"),
        (V2.replace("Genotype(", "os.Genotype("), "Expected a DARTS genotype"),
        (
            V2_AWNAS.replace("2, 5)", "2, 4)", 1),
            r"normal_0 of a DARTS genotype has two operations for each of nodes",
        ),
        (V2_AWNAS.replace("('dil_conv_3x3', 2, 5)", "('dil_conv_3x3',)"), "Expected a DARTS genotype"),
        (V2_AWNAS.replace("dil_conv_3x3', 2, 5", "dil_conv_3x3', 'two', 5"), "Expected a DARTS genotype"),
        (V2_NASLIB.replace("(2,5)", "('a',5)"), "Expected a DARTS genotype"),
        (V2_NASLIB.replace("(2,5)", "2"), "Expected a DARTS genotype"),
        ("[(1,2)", "Expected a DARTS genotype"),
        ("Genotype()", "Expected a DARTS genotype"),
        ("-" * 3_000 + "1", "Expected a DARTS genotype"),
        (V2.replace("range(2, 6)", "__import__('os').abort()"), "Expected a DARTS genotype"),
        (V2.replace("('skip_connect', 0), ", "", 1), "normal cell of a DARTS genotype has 8 terms, got 7"),
        (V2_NASLIB.replace("(2,5)", "(2,7)"), r"operations of DARTS cells are 0 to 6, got 7"),
        (V2_NASLIB.replace("(2,5)", "(5,5)"), "Node 5 of the normal cell takes states 0 to 4, got 5"),
        (V2_NASLIB[:-1], "Expected a DARTS genotype"),
        (V2_SHORT.replace("sep3~0", "sep3~2", 1), "Node 2 of the normal cell takes states 0 to 1, got 2"),
        (V2_SHORT.replace("dil3~2", "dil3"), "Expected a term such as sep3~0 .*, got 'dil3'"),
        (f"darts-1x36-{V2_SHORT}", "number of cells from 2 to 100, got 1"),
        (f"darts-20x9999-{V2_SHORT}", "number of channels from 2 to 1024, got 9999"),
        ("[" * 10_000, "at most 4000 characters, got 10000"),
        ("[" * 3_000, "Expected a DARTS genotype"),
        ("Genotype(" + "normal=[" * 400, "Expected a DARTS genotype"),
        (V2.replace(", ", " " * 100)[:-1], "Expected a DARTS genotype"),
    ],
)
def test_other_texts_are_errors(text: str, complaint: str) -> None:
    with pytest.raises(StructureError, match=complaint):
        ONCE.parse(text)


# -- counts ---------------------------------------------------------------------------------------------------------


def test_counts_are_those_of_oncenas() -> None:
    rows = fixture_rows("oncenas_darts")
    assert len(rows) == 12
    for row in rows:
        network = ONCE.parse(row["architecture"])
        costs = count(network, 32, 10)
        assert (costs.params, costs.macs) == (int(row["params"]), int(row["macs"]))
        table = {"flop": float(row["table_flop"]), "params": float(row["table_params"])}
        assert network.published_counts() == table


def test_counts_are_those_of_naslib() -> None:
    rows = fixture_rows("nas_bench_301")
    assert len(rows) == 12
    for row in rows:
        network = NASLIB.parse(row["naslib_encoding"])
        costs = count(network, 32, 10)
        assert (costs.params, costs.macs) == (int(row["params_all_bn_affine"]), int(row["macs"]))
        found = {name: f"{value:.6g}" for name, value in network.published_counts().items()}
        assert found == {"flops": row["table_flops"], "params": row["table_params"]}


@pytest.mark.parametrize(
    ("name", "space", "columns"),
    [(ONCE_TABLE, ONCE, ("flop", "params")), (NASLIB_TABLE, NASLIB, ("flops", "params"))],
)
def test_counts_are_those_of_whole_tables(name: str, space: DartsSpace, columns: tuple[str, ...]) -> None:
    rows = table_rows(name)
    different = []
    for row in rows:
        found = space.parse(space.text_of_row(row) or "").published_counts()
        if [f"{found[column]:.6g}" for column in columns] != [
            f"{float(row[column]):.6g}" for column in columns
        ]:
            different.append(row)
    assert len(rows) > 300 and not different


@pytest.mark.parametrize(
    ("text", "resolution", "classes", "params", "macs"),
    [
        (V2_SHORT, 32, 10, 3_349_342, 528_359_040),
        (V1, 32, 10, 3_169_414, None),
        (f"darts-14x48i-{V2_SHORT}", 224, 1000, 4_718_752, 529_911_552),
    ],
)
def test_published_networks(text: str, resolution: int, classes: int, params: int, macs: int | None) -> None:
    costs = count(ONCE.parse(text), resolution, classes)
    assert costs.params == params and macs in (None, costs.macs)
    assert round(count(ONCE.parse(V1), 32, 10).macs / 1e6, 1) == 501.0


@pytest.mark.parametrize(
    ("cells", "params_m", "mflops"),
    [
        (
            "normal_0=(('sep_conv_3x3', 0, 2), ('sep_conv_3x3', 1, 2), ('skip_connect', 0, 3), ('sep_conv_3x3', 1, 3), "
            "('skip_connect', 0, 4), ('sep_conv_3x3', 1, 4), ('skip_connect', 0, 5), ('skip_connect', 1, 5)), "
            "reduce_1=(('max_pool_3x3', 0, 2), ('max_pool_3x3', 1, 2), ('max_pool_3x3', 0, 3), ('skip_connect', 2, 3), "
            "('skip_connect', 2, 4), ('avg_pool_3x3', 0, 4), ('skip_connect', 2, 5), ('avg_pool_3x3', 0, 5))",
            2.81,
            892,
        ),
        (
            "normal_0=[('dil_conv_5x5', 0, 2), ('sep_conv_5x5', 1, 2), ('dil_conv_5x5', 2, 3), ('sep_conv_5x5', 0, 3), "
            "('sep_conv_5x5', 1, 4), ('max_pool_3x3', 0, 4), ('max_pool_3x3', 0, 5), ('skip_connect', 2, 5)], "
            "reduce_1=[('avg_pool_3x3', 1, 2), ('dil_conv_5x5', 0, 2), ('max_pool_3x3', 0, 3), ('sep_conv_3x3', 2, 3), "
            "('dil_conv_3x3', 2, 4), ('max_pool_3x3', 0, 4), ('max_pool_3x3', 0, 5), ('sep_conv_5x5', 4, 5)]",
            3.18,
            1029,
        ),
        (
            "normal_0=(('sep_conv_3x3', 0, 2), ('sep_conv_3x3', 1, 2), ('sep_conv_5x5', 0, 3), ('sep_conv_3x3', 1, 3), "
            "('sep_conv_5x5', 2, 4), ('sep_conv_3x3', 0, 4), ('sep_conv_3x3', 0, 5), ('dil_conv_3x3', 1, 5)), "
            "reduce_1=(('max_pool_3x3', 1, 2), ('skip_connect', 0, 2), ('max_pool_3x3', 1, 3), ('max_pool_3x3', 2, 3), "
            "('sep_conv_5x5', 1, 4), ('max_pool_3x3', 0, 4), ('max_pool_3x3', 2, 5), ('max_pool_3x3', 4, 5))",
            4.26,
            1343,
        ),
    ],
    ids=["DARTS", "SNAS", "PC-DARTS"],
)
def test_cells_that_aw_nas_found(cells: str, params_m: float, mflops: int) -> None:
    """Genotypes and counts of its page of results (examples/mloss); its FLOPS are two for a multiply-add."""
    costs = count(
        ONCE.parse(f"CNNGenotype({cells}, normal_0_concat=(2, 3, 4, 5), reduce_1_concat=(2, 3, 4, 5))"),
        32,
        10,
    )
    assert round(costs.params / 1e6, 2) == params_m
    assert int(2 * costs.macs / 1e6) == pytest.approx(mflops, abs=1)


# -- the network ----------------------------------------------------------------------------------------------------


def test_cells_take_the_two_outputs_before_them() -> None:
    network = ONCE.parse(f"darts-6x8-{V2_SHORT}")
    units = walk_units(network, 32)
    assert [(unit.input_channels, sizes) for unit, sizes in units[1:]] == [
        ((24, 24), (32, 32)),
        ((24, 32), (32, 32)),
        ((32, 32), (32, 32)),  # cell 2 reduces
        ((32, 64), (32, 16)),
        ((64, 64), (16, 16)),  # cell 4 reduces
        ((64, 128), (16, 8)),
    ]


def test_a_cell_is_computed_by_hand() -> None:
    """All skips but one average pooling: nodes are sums of the preprocessed inputs and of each other."""
    text = "darts-2x4-" + "-".join(["skip~0+skip~1,skip~0+avg3~2,skip~1+skip~3,none~0+skip~4"] * 2)
    # Of two cells both thirds fall on the first and second; three leave the first one normal.
    network = build_network(ONCE.parse(text.replace("2x4", "3x4")), num_classes=2).eval()
    cell = network.blocks[0]
    x = torch.randn(2, 12, 8, 8)
    with torch.no_grad():
        older, newer = cell.edges[0](x), cell.edges[1](x)
        pooled = torch.nn.functional.avg_pool2d(older + newer, 3, 1, 1, count_include_pad=False)
        nodes = [older + newer, older + pooled, newer + older + pooled, newer + older + pooled]
        assert torch.allclose(cell(x, x), torch.cat(nodes, dim=1), atol=1e-6)


def test_the_auxiliary_classifier_is_that_of_darts() -> None:
    """Counts with it are in the fixture; those of the published cells were counted with the release's rules."""
    rows = [
        (row["architecture"], int(row["params_with_auxiliary_head"])) for row in fixture_rows("oncenas_darts")
    ]
    for text, params in [*rows[:3], (V2, 3_825_768)]:
        network = build_network(ONCE.parse(text), num_classes=10)
        auxiliary = build_auxiliary(network, 32)
        parts = (network, auxiliary)
        assert params == sum(parameter.numel() for part in parts for parameter in part.parameters())


@pytest.mark.parametrize(("stem", "resolution", "least"), [("", 32, 32), ("i", 224, 193)])
def test_the_auxiliary_classifier_sees_the_second_reduction(stem: str, resolution: int, least: int) -> None:
    architecture = ONCE.parse(f"darts-5x4{stem}-{V2_SHORT}")
    auxiliary = architecture.description.auxiliary
    assert auxiliary is not None
    unit = architecture.description.units[auxiliary.unit]
    assert unit.label == "reduction cell" and unit.out_channels == 4 * 4 * 4
    network = build_network(architecture, num_classes=3)
    seen = network._outputs(torch.randn(2, 3, resolution, resolution))[auxiliary.unit]
    assert build_auxiliary(network, resolution)(seen).shape == (2, 3)
    with torch.no_grad():
        smallest = network._outputs(torch.randn(1, 3, least, least))[auxiliary.unit]
        assert build_auxiliary(network, least).eval()(smallest).shape == (1, 3)
    with pytest.raises(
        StructureError, match=rf"takes maps of . px and more; at {least // 2} px it would get"
    ):
        build_auxiliary(network, least // 2)


def test_drop_path_drops_operations_alone() -> None:
    """Neither what prepares a cell's inputs nor identities; a factorised reduction is no identity."""
    network = build_network(ONCE.parse(f"darts-3x4-{V2_SHORT}"), num_classes=2)
    cells = [module for module in network.modules() if isinstance(module, GraphModule)]
    normal, reduce = cells[0], cells[1]
    assert normal.can_drop == [False, False, True, True, True, True, False, True, False, True]
    # Skips of the reduction cell take node 2, at stride 1.
    assert reduce.can_drop == [False, False, True, True, True, False, True, False, True, False]
    strided = build_network(ONCE.parse(f"darts-3x4-{V2_SHORT.replace('max3~0', 'skip~0')}"), num_classes=2)
    assert strided.blocks[1].can_drop[2:4] == [True, True]


def test_a_searched_cell_is_stacked_as_for_its_evaluation() -> None:
    searched = ONCE.parse(f"darts-8x16-{V2_SHORT}")
    assert ONCE.scale(searched, width=2.25, depth=2.5) == ONCE.parse(V2)
    assert ONCE.scale(searched, width=1.0) == searched
    for factors, complaint in (
        ({"width": 0.0}, "factor of width must be a positive number, got 0.0"),
        ({"depth": float("nan")}, "factor of depth must be a positive number"),
        ({"depth": 0.1}, "number of cells from 2 to 100, got 1"),
        ({"width": 1e3}, "number of channels from 2 to 1024, got 16000"),
    ):
        with pytest.raises(StructureError, match=complaint):
            ONCE.scale(searched, **factors)


# -- the space ------------------------------------------------------------------------------------------------------


def test_operations_are_an_option() -> None:
    space = DartsSpace(operations=("sep_conv_3x3", "skip", "max_pool_3x3"))
    assert space.operations == ("max3", "skip", "sep3")
    assert space.contains(space.parse(space.initial))
    assert not space.contains(ONCE.parse(V2))
    assert DartsSpace().initial == str(ONCE.parse(V2))
    for operations in ((), ("skip", "skip_connect"), ("sep_conv_7x7",)):
        with pytest.raises(
            SpecError, match=r"space\.operations must be different ones of none, max_pool_3x3"
        ):
            DartsSpace(operations=operations)
    with pytest.raises(StructureError, match="number of cells from 2 to 100, got 1"):
        DartsSpace(cells=1)
    with pytest.raises(StructureError, match="Unknown DARTS stem 'mnist'"):
        DartsSpace(stem="mnist")


def test_a_state_taken_twice_is_a_network_outside_the_space() -> None:
    network = ONCE.parse(V2_SHORT.replace("sep3~0+sep3~1", "sep3~1+sep3~1", 1))
    assert count(network, 32, 10).params == 3_349_342
    with pytest.raises(StructureError, match="node 2 takes state 1 twice"):
        ONCE.encode(network)


def test_features_of_a_cell_by_hand() -> None:
    cell = Genotype.parse("sep3~0+skip~1,none~0+dil5~2,skip~0+max3~1,sep5~0+avg3~3-" + V2_REDUCE).normal
    found = cell_features(cell, "normal")
    # Paths: sep3, skip; dil5 behind each; skip, max3; sep5, and avg3 behind both of node 3's.
    assert found["normal log paths"] == pytest.approx(torch.tensor(9.0).log().item())
    assert found["normal deepest path"] == 3
    assert found["normal depth of a node"] == (2 + 3 + 0 + 3) / 4
    assert found["normal shortest depth of a node"] == (0 + 1 + 0 + 1) / 4
    assert found["normal none from inputs"] == 1 and found["normal dil5 from nodes"] == 1
    assert found["normal paths of skips"] == 2
    assert found["normal paths with dil5"] == pytest.approx(4 / 9)


# -- tables ---------------------------------------------------------------------------------------------------------


def test_rows_of_both_tables_are_read(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    swapped = V2.replace(
        "('sep_conv_3x3', 0), ('sep_conv_3x3', 1)", "('sep_conv_3x3', 1), ('sep_conv_3x3', 0)", 1
    )
    path.write_text(f'architecture,acc\n"{V2}",90\n"{swapped}",92\n')
    assert space_table(ONCE, path).column("acc") == {f"darts-20x36-{V2_SHORT}": 91.0}
    path.write_text(f'naslib_encoding,acc\n"{V2_NASLIB}",90\n')
    assert space_table(NASLIB, path).column("acc") == {f"darts-8x32-{V2_SHORT}": 90.0}


@pytest.mark.parametrize(
    ("space", "name", "column"), [(ONCE, ONCE_TABLE, "valid_acc50"), (NASLIB, NASLIB_TABLE, "cifar10_val")]
)
def test_the_tables_are_of_the_space(space: DartsSpace, name: str, column: str) -> None:
    listed = TabularSpace(space, str(table_path(name)), column)
    networks = list(listed.architectures())
    assert len(networks) > 300
    rng = random.Random(0)
    child = listed.mutate(networks[0], rng)
    assert child in networks and child != networks[0]
    assert isinstance(child, DartsArchitecture) and child.settings == space.settings
