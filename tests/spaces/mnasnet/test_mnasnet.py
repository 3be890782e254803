"""The MnasNet space: texts, published counts, Accel-NASBench's table."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from known import fixture_rows, table_path, table_rows

from zenopt.core.costs import count
from zenopt.core.errors import StructureError
from zenopt.core.lowering import lower
from zenopt.core.primitives import SqueezeExcite
from zenopt.spaces.mnasnet.architecture import MnasNetArchitecture
from zenopt.spaces.mnasnet.space import MnasNetSpace
from zenopt.spaces.tabular import TabularSpace, space_table
from zenopt.testing import FamilyTests

TABLE = "accel_nasbench_imagenet.csv.gz"
SPACE = MnasNetSpace()


class TestMnasNet(FamilyTests):
    name = "mnasnet"
    resolution, num_classes = 32, 4
    samples = 6


def text_of(blocks: str) -> str:
    """Return the text of ``"6,3,1,0|..."``."""
    return "-".join(
        f"e{e}k{k}l{layers}{'s' * int(se)}"
        for e, k, layers, se in (part.split(",") for part in blocks.split("|"))
    )


def test_counts_are_the_published_ones() -> None:
    rows = fixture_rows("accel_nasbench")
    assert len(rows) == 12
    for row in rows:
        network = SPACE.parse(text_of(row["blocks_e_k_l_se"]))
        costs = count(network, 224, 1000)
        assert (costs.params, costs.macs) == (int(row["params"]), int(row["macs"]))
        assert network.published_counts() == {
            "mparams": float(row["table_mparams"]),
            "mmacs": float(row["table_mmacs"]),
        }


def test_counts_are_those_of_the_whole_table() -> None:
    rows = table_rows(TABLE)
    different = [
        row["index"]
        for row in rows
        if SPACE.parse(SPACE.text_of_row(row) or "").published_counts()
        != {"mparams": float(row["mparams"]), "mmacs": float(row["mmacs"])}
    ]
    assert len(rows) > 3000 and not different


def test_efficientnet_b0_is_in_the_space() -> None:
    """Its published 5.3 million parameters, exactly."""
    assert count(SPACE.parse(SPACE.initial), 224, 1000).params == 5_288_548


def test_gates_are_a_quarter_of_the_layers_input() -> None:
    network = SPACE.parse("e1k3l1s-e6k3l2s-e6k5l2-e6k3l3-e6k5l3-e6k5l4-e6k3l1")
    widths = [
        (layer.in_channels, layer.out_channels)
        for layer in lower(network, 224)
        if layer.kind == "conv" and layer.role == "se"
    ]
    # Block 1: 32 in; block 2: 16 in and 96 inside, then 24 in and 144 inside.
    assert widths == [(32, 8), (8, 32), (96, 4), (4, 96), (144, 6), (6, 144)]
    gate = next(node for node in network.description.units[1].expand() if isinstance(node, SqueezeExcite))
    assert (gate.activation, gate.gate, gate.bias, gate.norm) == ("relu", "hardsigmoid", True, False)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("e6k3l1", "has 7 blocks, got 1"),
        ("-".join(["e6k3l1"] * 6 + ["e5k3l1"]), "Block 7 .* expansion of 1, 4, 6.*, got e5k3l1"),
        ("-".join(["e6k3l4"] + ["e6k3l1"] * 6), "Block 1 .* 1 to 3 layers, got e6k3l4"),
        ("-".join(["e6k3l1"] * 6 + ["e6k3l1x"]), "Block 7 .*expected e.g. e6k3l2 or e6k3l2s, got 'e6k3l1x'"),
        ("e" + "6" * 5000, "Block 1"),
    ],
)
def test_other_texts_are_errors(text: str, complaint: str) -> None:
    with pytest.raises(StructureError, match=complaint):
        SPACE.parse(text)


def test_rows_are_read(tmp_path: Path) -> None:
    network = SPACE.draw(random.Random(0))
    columns = [f"block{index}_{key}" for index in range(7) for key in ("e", "k", "l", "se")]
    values = [str(int(value)) for block in network.blocks for value in block]
    path = tmp_path / "table.csv"
    path.write_text(f"{','.join(columns)},top1\n" + f"{','.join(values)},60\n{','.join(values)},62\n")
    assert space_table(SPACE, path).column("top1") == {str(network): 61.0}
    path.write_text(f"structure,top1\n{network},60\n")
    assert space_table(SPACE, path).column("top1") == {str(network): 60.0}
    assert MnasNetArchitecture.parse(str(network)) == network


def test_moves_reach_networks_of_the_sparse_table() -> None:
    space = TabularSpace(SPACE, str(table_path(TABLE)), "imagenet_val_top1")
    rng = random.Random(0)
    network = SPACE.parse(space.initial)
    seen = {network}
    for _ in range(30):
        child = space.mutate(network, rng)
        assert child is not None and space.contains(child) and child != network
        seen.add(child)
        network = child
    assert len(seen) > 10
