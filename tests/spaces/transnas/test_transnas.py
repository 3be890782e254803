"""TransNAS-Bench-101: texts, published counts, the two spaces and their tables."""

from __future__ import annotations

import random
from pathlib import Path

import optuna
import pytest
import torch
from known import fixture_rows, table_path, table_rows

from zenopt.core.costs import count
from zenopt.core.errors import StructureError
from zenopt.core.lowering import out_size_of
from zenopt.nn import build_network
from zenopt.spaces.registry import recognise
from zenopt.spaces.tabular import space_table
from zenopt.spaces.transnas.architecture import ChainArchitecture, MicroArchitecture
from zenopt.spaces.transnas.macro import KINDS, TransNasMacroSpace
from zenopt.spaces.transnas.micro import TransNasMicroSpace
from zenopt.testing import FamilyTests

MACRO, MICRO = TransNasMacroSpace(), TransNasMicroSpace()


class TestTransNasMacro(FamilyTests):
    name, options = "transnas-macro", {"width": 8}
    resolution, num_classes = 64, 4


class TestTransNasMicro(FamilyTests):
    name, options = "transnas-micro", {"width": 8}
    resolution, num_classes = 32, 4


@pytest.mark.parametrize("name", ["macro", "micro"])
def test_counts_are_the_published_ones(name: str) -> None:
    """Parameters with the heads of two tasks, and the multiply-adds without a head."""
    space, rows = {"macro": MACRO, "micro": MICRO}[name], fixture_rows(f"transnas_{name}")
    assert len(rows) == 12
    for row in rows:
        network = space.parse(row["arch_code"])
        channels = int(row["encoder_out_channels"])
        costs = count(network, 256, 47)
        assert costs.params == int(row["class_scene_params_47"])
        assert costs.macs == int(row["encoder_macs_256px"]) + 47 * channels
        assert count(network, 256, 75).params == int(row["class_object_params_75"])
        assert network.description.features == channels
        assert out_size_of(network, 256) == int(row["encoder_out_side"])


@pytest.mark.parametrize("name", ["macro", "micro"])
def test_the_tables_are_of_the_spaces(name: str) -> None:
    space, file = {"macro": MACRO, "micro": MICRO}[name], f"transnas_bench_101_{name}.csv.gz"
    table = space_table(space, table_path(file))
    assert len(table.structures) == len(table_rows(file))
    every = {str(network) for network in space.architectures() or ()}
    assert set(table.column("class_scene_val")) <= every


def test_the_sizes_of_the_spaces() -> None:
    chains = list(MACRO.architectures())
    assert [sum(len(chain.modules) == length for chain in chains) for length in (4, 5, 6)] == [210, 750, 2296]
    cells = list(MICRO.architectures() or ())
    assert len(set(cells)) == 4**6


@pytest.mark.parametrize("text", ["3_21_013", "321013", "64-41414-3_21_013", " 3_21_013\n"])
def test_cells_are_read_in_every_spelling(text: str) -> None:
    assert MICRO.parse(text) == MicroArchitecture("321013")
    assert str(MICRO.parse(text)) == "3_21_013"


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("3_21_013", "transnas-micro"),
        ("64-41414-3_21_013", "transnas-micro"),
        ("41414", "transnas-macro"),
        ("1144", "transnas-macro"),
        ("64-1144-basic", "transnas-macro"),
        ("123123", None),
        ("321013", None),
        ("1111", "transnas-macro"),
        ("123", None),
    ],
)
def test_only_unambiguous_texts_are_recognised(text: str, family: str | None) -> None:
    assert recognise(text) == family


def test_other_widths_are_written_whole() -> None:
    assert str(ChainArchitecture("1144")) == "1144"
    chain = MACRO.parse("32-1144-basic")
    assert (str(chain), chain.width) == ("32-1144-basic", 32)
    assert not MACRO.contains(chain) and TransNasMacroSpace(width=32).contains(chain)
    cell = MICRO.parse("32-41414-3_21_013")
    assert str(cell) == "32-41414-3_21_013" and not MICRO.contains(cell)


@pytest.mark.parametrize(
    ("space", "text", "complaint"),
    [
        (MACRO, "111", "4 to 6 digits from 1 to 4"),
        (MACRO, "1111", "one to three of 2 and 4"),
        (MACRO, "2222", "one to three of 2 and 4"),
        (MACRO, "33333", "one to four of 3 and 4"),
        (MACRO, "64-1144-3_21_013", "macro text"),
        (MACRO, "65-1144-basic", "even number from 2 to 1024, got 65"),
        (MICRO, "3_21_014", "a_bc_def with digits from 0 to 3"),
        (MICRO, "64-1144-3_21_013", "a_bc_def"),
        (MICRO, "64-41414-basic", "a_bc_def"),
        (MICRO, "32101", "a_bc_def"),
    ],
)
def test_other_texts_are_errors(space: TransNasMacroSpace, text: str, complaint: str) -> None:
    with pytest.raises(StructureError, match=complaint):
        space.parse(text)


@pytest.mark.parametrize(
    ("kinds", "modules"),
    [
        (("plain",) * 4, "4111"),
        (("wider",) * 4, "4221"),
        (("both",) * 5, "44431"),
        (("smaller", "plain", "plain", "plain"), "4111"),
        (("plain", "wider", "smaller", "both", "plain"), "12341"),
    ],
)
def test_parameters_of_no_chain_are_read_as_the_nearest(kinds: tuple[str, ...], modules: str) -> None:
    params = {"modules": len(kinds), **{f"module{i}": kind for i, kind in enumerate(kinds, start=1)}}
    chain = MACRO.decode(params)
    assert chain.modules == modules
    assert MACRO.decode(MACRO.encode(chain)) == chain


def test_every_combination_of_parameters_is_a_chain() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    every = set(MACRO.architectures())
    assert all(MACRO.suggest(study.ask()) in every for _ in range(500))
    with pytest.raises(StructureError, match="7 modules"):
        MACRO.decode({"modules": 7, **{f"module{i}": KINDS[0] for i in range(1, 8)}})


def test_neighbours_differ_by_one_module() -> None:
    found = {chain.modules for chain in MACRO.neighbours(ChainArchitecture("1144"))}
    assert {"1143", "144", "11144", "1444"} & found == {"1143", "11144", "1444"}
    assert all(abs(len(text) - 4) <= 1 for text in found)


def test_edges_from_a_cells_input_change_the_shape() -> None:
    """Nothing, a factorised reduction and a convolution side by side, from 16 to 32 channels at half the size."""
    cell = build_network(MicroArchitecture("013000", 16), num_classes=2).eval().blocks[0]
    with torch.no_grad():
        assert cell(torch.randn(1, 16, 8, 8)).shape == (1, 32, 4, 4)
        assert not cell(torch.randn(1, 16, 8, 8)).any()
    names = [type(edge[1]).__name__ if len(edge) > 1 else type(edge[0]).__name__ for edge in cell.edges]
    assert names == ["ZeroModule", "BranchesModule", "Conv2d", "ZeroModule", "ZeroModule", "ZeroModule"]


def test_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("arch_code,acc\n321013,1\n000001,2\n")
    assert space_table(MICRO, path).column("acc") == {"3_21_013": 1.0, "0_00_001": 2.0}
    rng = random.Random(0)
    chains = [MACRO.draw(rng) for _ in range(3)]
    path.write_text("structure,acc\n" + "".join(f"{chain},1\n" for chain in chains))
    assert set(space_table(MACRO, path).structures) == set(map(str, chains))
