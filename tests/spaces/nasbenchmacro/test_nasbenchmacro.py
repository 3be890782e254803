"""NAS-Bench-Macro: canonical texts, published counts, its table."""

from __future__ import annotations

from pathlib import Path

import pytest
from known import fixture_rows, table_path, table_rows

from zenopt.core.costs import count
from zenopt.core.errors import StructureError
from zenopt.core.primitives import Residual
from zenopt.spaces.nasbenchmacro.architecture import MacroArchitecture
from zenopt.spaces.nasbenchmacro.space import NasBenchMacroSpace
from zenopt.spaces.tabular import space_table
from zenopt.testing import FamilyTests

TABLE = "nas_bench_macro_cifar10.csv.gz"


class TestNasBenchMacro(FamilyTests):
    name = "nasbench-macro"
    resolution, num_classes = 16, 4


def differences(rows: list[dict[str, str]]) -> list[str]:
    space = NasBenchMacroSpace()
    return [
        row["arch"]
        for row in rows
        if space.parse(row["arch"]).published_counts()
        != {"params": int(row["params"]), "macs": int(row["macs"])}
    ]


def test_counts_are_the_published_ones() -> None:
    rows = fixture_rows("nasbench_macro")
    assert len(rows) == 12 and not differences(rows)


def test_counts_are_those_of_the_whole_table() -> None:
    rows = table_rows(TABLE)
    assert len(rows) > 3000 and not differences(rows)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("01001001", "01010010"),
        ("20002012", "20020012"),
        ("11012102", "11012120"),
        ("00000000", "00000000"),
    ],
)
def test_identities_that_are_nothing_move_to_the_end_of_their_stage(text: str, canonical: str) -> None:
    assert str(MacroArchitecture(text)) == canonical
    assert MacroArchitecture(text) == MacroArchitecture(canonical)


def test_every_network_is_listed_once() -> None:
    found = list(NasBenchMacroSpace().architectures() or ())
    assert len(found) == len(set(found)) == 3969


def test_an_identity_at_the_start_of_a_stage_is_a_convolution() -> None:
    """Stem 3x3 to 32; then 1x1 to 64, 128 and 256, each of stride 2; then the head."""
    units = MacroArchitecture("00000000").description.units
    assert [str(unit) for unit in units] == [
        "nasbench-macro.stem(3,32)",
        "MacroLayer(identity,32,64,2)",
        "MacroLayer(identity,64,128,2)",
        "MacroLayer(identity,128,256,2)",
        "nasbench-macro.head(256,1280)",
    ]
    params = 864 + 64 + sum(a * b + 2 * b for a, b in ((32, 64), (64, 128), (128, 256), (256, 1280)))
    assert count(MacroArchitecture("00000000"), 32, 10).params == params + 12_810


def test_layers_that_keep_the_shape_have_a_residual_link() -> None:
    units = MacroArchitecture("12111111").description.units
    assert [isinstance(unit.expand()[0], Residual) for unit in units[1:4]] == [False, True, False]


@pytest.mark.parametrize("text", ["1111111", "111111111", "11111113", "1111111a", "", "１１１１１１１１"])
def test_other_texts_are_errors(text: str) -> None:
    with pytest.raises(StructureError, match="8 digits from 0 to 2"):
        NasBenchMacroSpace().parse(text)


def test_rows_of_one_network_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("arch,mean_acc\n01001000,1\n01010000,3\n11111111,4\n")
    table = space_table(NasBenchMacroSpace(), path)
    assert table.column("mean_acc") == {"01010000": 2.0, "11111111": 4.0}


def test_the_table_lists_networks_once() -> None:
    table = space_table(NasBenchMacroSpace(), table_path(TABLE))
    assert len(table.structures) < 3937
    assert {str(MacroArchitecture(text)) for text in table.structures} == set(table.structures)
