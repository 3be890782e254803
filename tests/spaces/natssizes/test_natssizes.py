"""NATS-Bench's size search space: texts, published counts, its table, a budget."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from known import fixture_rows, table_path
from optuna.distributions import IntDistribution

from zenopt.core.costs import count
from zenopt.core.errors import SpecError, StructureError
from zenopt.core.primitives import Activation, Graph
from zenopt.export.names import resolve
from zenopt.spaces.natssizes.architecture import SizesArchitecture
from zenopt.spaces.natssizes.space import NatsSizesSpace
from zenopt.spaces.tabular import TabularSpace, space_table
from zenopt.testing import FamilyTests

TABLE = "nats_bench_sss_cifar10.csv.gz"
SPACE = NatsSizesSpace()


class TestNatsSizes(FamilyTests):
    name = "nats-sizes"
    resolution, num_classes = 16, 4


class TestFewSizes(FamilyTests):
    name, options = "nats-sizes", {"widths": [8, 12, 24]}
    resolution, num_classes = 8, 4


def test_counts_are_the_published_ones() -> None:
    rows = fixture_rows("nats_sizes")
    assert len(rows) == 12
    for row in rows:
        network = SPACE.parse(":".join(row[f"c{number}"] for number in range(1, 6)))
        for name, resolution, classes in (
            ("cifar10", 32, 10),
            ("cifar100", 32, 100),
            ("imagenet16", 16, 120),
        ):
            costs = count(network, resolution, classes)
            assert (costs.params, costs.macs) == (int(row[f"{name}_params"]), int(row[f"{name}_macs"]))
        assert network.published_counts()["flop"] == int(row["cifar10_flop_as_stored"])


def test_the_widest_network_has_the_published_counts() -> None:
    assert SPACE.parse("64:64:64:64:64").published_counts() == {"params": 713_674, "flop": 274_399_882}


def test_skips_are_projected_without_a_relu_where_the_width_changes() -> None:
    wide, same = (
        SPACE.parse("8:16:24:8:8").description.units[3],
        SPACE.parse("8:16:16:8:8").description.units[3],
    )
    for cell, params in ((wide, 16 * 24 + 2 * 24), (same, 0)):
        (graph,) = cell.expand()
        assert isinstance(graph, Graph)
        (skip,) = (edge for edge in graph.edges if (edge.source, edge.target) == (0, 3))
        assert not any(isinstance(node, Activation) for node in skip.nodes)
        assert (len(skip.nodes) > 1) == bool(params)


def test_names() -> None:
    named = resolve("8:64:32:16:8")
    assert named.architecture == SizesArchitecture((8, 64, 32, 16, 8))
    assert (named.family, named.resolution, named.num_classes) == ("nats-sizes", 32, 10)
    assert resolve("nats-sizes:8:64:32:16:8") == named


@pytest.mark.parametrize(
    "text", ["8:8:8:8", "8:8:8:8:8:8", "8:8:8:8:0", "8:8:8:8:-8", "8:8:8:8:10000", "a:8:8:8:8"]
)
def test_other_texts_are_errors(text: str) -> None:
    with pytest.raises(StructureError, match=r"five widths from 1 to 9999, e\.g\. 8:64:32:16:8"):
        SPACE.parse(text)
    with pytest.raises(StructureError):
        SizesArchitecture((8, 8, 8, 8))  # type: ignore[arg-type]


def test_widths_are_an_option() -> None:
    assert isinstance(SPACE.distributions["c1"], IntDistribution)
    assert not SPACE.contains(SPACE.parse("8:8:8:8:12"))
    assert len(list(NatsSizesSpace(widths=(8, 16)).architectures() or ())) == 32
    for widths in ((), (8, 8), (0,), ("8",)):
        with pytest.raises(SpecError, match=r"space\.widths must be different numbers"):
            NatsSizesSpace(widths=widths)  # type: ignore[arg-type]
    with pytest.raises(StructureError, match="c1 is 64; allowed are 8, 16"):
        NatsSizesSpace(widths=(8, 16), initial="64:8:8:8:8")


def test_shrinking_cuts_the_widest() -> None:
    assert str(SPACE.shrink(SPACE.parse("8:64:32:64:8"))) == "8:64:32:56:8"
    assert SPACE.shrink(SPACE.parse("8:8:8:8:8")) is None


def test_neighbours_are_a_step_away() -> None:
    assert {str(other) for other in SPACE.neighbours(SPACE.parse("8:64:32:8:8"))} == {
        "16:64:32:8:8", "8:56:32:8:8", "8:64:24:8:8", "8:64:40:8:8", "8:64:32:16:8", "8:64:32:8:16",
    }  # fmt: skip


def test_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("c1,c2,c3,c4,c5,acc\n8,16,24,32,40,90\n")
    assert space_table(SPACE, path).column("acc") == {"8:16:24:32:40": 90.0}
    path.write_text("structure,acc\n8:16:24:32:40,90\n")
    assert space_table(SPACE, path).column("acc") == {"8:16:24:32:40": 90.0}


def test_the_table_lists_most_of_the_space() -> None:
    space = TabularSpace(SPACE, str(table_path(TABLE)), "cifar10_test_90ep")
    assert len(list(space.architectures())) == 19_661
    rng, network = random.Random(0), space.parse(space.initial)
    for _ in range(20):
        child = space.mutate(network, rng)
        # Not sparse: a step leads to a listed network.
        assert (
            child is not None and sum(a != b for a, b in zip(child.widths, network.widths, strict=True)) == 1
        )
        network = child
