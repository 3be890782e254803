"""The NAS-Bench-201 space: parameters, membership, moves, budgets."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import optuna
import pytest

from zenopt.core.budget import Budget
from zenopt.core.costs import count
from zenopt.core.errors import SpecError, StructureError
from zenopt.core.lowering import lower
from zenopt.latency.limits import Limits
from zenopt.nn import build_network
from zenopt.samplers import ZenSampler
from zenopt.spaces import get_space
from zenopt.spaces.nasbench201.architecture import EDGES, OPERATIONS, CellArchitecture
from zenopt.spaces.nasbench201.space import NasBench201Space
from zenopt.spaces.tabular import space_table

BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"


def some_cells(number: int) -> list[CellArchitecture]:
    rng = random.Random(1)
    return [CellArchitecture(tuple(rng.choices(OPERATIONS, k=len(EDGES)))) for _ in range(number)]


def test_the_space_is_the_benchmark() -> None:
    space = get_space("nasbench201")()
    assert isinstance(space, NasBench201Space)
    assert len({str(cell) for cell in space.architectures()}) == 15_625
    assert space.parse(space.initial).family == "nasbench201"


def test_parameters_and_cells_round_trip() -> None:
    space = NasBench201Space()
    assert list(space.distributions) == ["edge01", "edge02", "edge12", "edge03", "edge13", "edge23"]
    for cell in some_cells(100):
        params = space.encode(cell)
        assert space.is_complete(params)
        assert space.decode(params) == cell
        assert space.suggest(optuna.trial.FixedTrial(params)) == cell  # type: ignore[arg-type]
    assert space.encode(space.parse(BEST))["edge13"] == "nor_conv_3x3"
    assert space.encode(space.parse(BEST))["edge03"] == "skip_connect"


def test_incomplete_or_foreign_parameters_are_named() -> None:
    space = NasBench201Space(operations=("none", "nor_conv_1x1"))
    params = dict.fromkeys(space.distributions, "none")
    del params["edge12"]
    assert not space.is_complete(params)
    with pytest.raises(StructureError, match="'edge12' is missing"):
        space.decode(params)
    with pytest.raises(StructureError, match="nor_conv_3x3 on edge01; allowed are none, nor_conv_1x1"):
        space.encode(CellArchitecture.parse(BEST))
    assert not space.contains(CellArchitecture.parse(BEST))
    assert not space.contains("text")


def test_wrong_options_are_errors() -> None:
    with pytest.raises(SpecError, match="must be different ones of none"):
        NasBench201Space(operations=("none", "max_pool"))
    with pytest.raises(SpecError, match="must be different ones"):
        NasBench201Space(operations=())
    with pytest.raises(StructureError, match="Outside the space"):
        NasBench201Space(operations=("none",), initial=BEST)


def test_a_mutation_changes_as_many_edges_as_were_drawn() -> None:
    space, rng = NasBench201Space(), random.Random(0)
    for cell in some_cells(100):
        for blocks in (1, 2):
            child = space.mutate(cell, rng, blocks=blocks)
            assert child is not None
            changed = sum(a != b for a, b in zip(cell.operations, child.operations, strict=True))
            assert 1 <= changed <= blocks
    assert NasBench201Space(operations=("none",)).mutate(CellArchitecture(("none",) * 6), rng) is None


def test_neighbours_are_all_cells_one_edge_away() -> None:
    space = NasBench201Space()
    cell = space.parse(BEST)
    found = space.neighbours(cell)
    expected = {
        other
        for other in space.architectures()
        if sum(a != b for a, b in zip(cell.operations, other.operations, strict=True)) == 1
    }
    assert set(found) == expected
    assert len(found) == 24


def test_shrinking_ends_and_never_grows() -> None:
    space = NasBench201Space()
    cell = space.parse(space.initial)
    macs = count(cell, 32, 10).macs
    steps = 0
    while (smaller := space.shrink(cell)) is not None:
        cell, steps = smaller, steps + 1
        assert count(cell, 32, 10).macs <= macs
        macs = count(cell, 32, 10).macs
    assert steps == 12
    assert set(cell.operations) == {"skip_connect"}
    without_skip = NasBench201Space(operations=("nor_conv_3x3", "none"))
    assert without_skip.shrink(without_skip.parse(without_skip.initial)) is None


@pytest.mark.parametrize("cell", some_cells(8), ids=str)
def test_costs_equal_the_built_network(cell: CellArchitecture) -> None:
    costs = count(cell, 32, 10)
    network = build_network(cell, num_classes=10)
    assert costs.params == sum(parameter.numel() for parameter in network.parameters())
    assert costs.macs == sum(layer.macs for layer in lower(cell, 32, num_classes=10))
    assert costs.convs == costs.layers == 1 + 2 * 2 + 15 * sum("conv" in name for name in cell.operations)


def test_published_counts_of_the_all_convolution_cell() -> None:
    """The largest cell of the benchmark has 1.531546 M params and 220.12 M MACs."""
    costs = count(CellArchitecture(("nor_conv_3x3",) * 6), 32, 10)
    assert costs.params == 1_531_546
    assert costs.macs / 1e6 == pytest.approx(220.12, abs=0.005)


def test_budgets_hold_in_a_search() -> None:
    space = NasBench201Space()
    limits = Limits(Budget(params=3e5, macs=5e7), resolution=32, num_classes=10)
    study = optuna.create_study(direction="maximize", sampler=ZenSampler(space, limits, seed=3))

    def objective(trial: optuna.Trial) -> float:
        cell = space.suggest(trial)
        trial.set_user_attr("structure", str(cell))
        assert limits.check(cell).is_feasible
        return float(count(cell, 32, 10).macs)

    study.optimize(objective, n_trials=30)
    assert len({trial.user_attrs["structure"] for trial in study.trials}) == 30


def test_the_same_cells_in_another_skeleton(tmp_path: Path) -> None:
    space = NasBench201Space(channels=8, cells=1)
    cell = space.parse(BEST)
    assert str(cell) == f"C8N1{BEST}" and space.parse(str(cell)) == cell == CellArchitecture.parse(str(cell))
    assert cell.cell_text == BEST and space.recognises(str(cell)) and space.contains(cell)
    assert not space.contains(CellArchitecture.parse(BEST)) and not NasBench201Space().contains(cell)
    # Stem, three cells of four 3x3 and one 1x1 convolution each, two reductions, head and classifier.
    widths = (8, 16, 32)
    cells = sum(4 * (9 * width**2 + 2 * width) + width**2 + 2 * width for width in widths)
    reductions = sum(9 * a * b + 9 * b * b + a * b + 4 * b for a, b in pairwise(widths))
    assert count(cell, 32, 10).params == cells + reductions + 27 * 8 + 2 * 8 + 2 * 32 + 330
    # What was learned of the benchmark's networks is read for these cells.
    table = tmp_path / "table.csv"
    table.write_text(f"arch_str,accuracy\n{BEST},94\n")
    assert dict(space_table(space, table).column("accuracy").items()) == {str(cell): 94.0}


def test_a_cell_is_scaled() -> None:
    space, cell = NasBench201Space(), CellArchitecture.parse(BEST)
    assert str(space.scale(cell, width=1.5, depth=0.4)) == f"C24N2{BEST}"
    assert space.scale(cell) == cell and str(space.scale(cell, width=0.01, depth=0.01)) == f"C1N1{BEST}"
    with pytest.raises(StructureError, match="from 1 to 1024 channels, got 1600"):
        space.scale(cell, width=100)


@pytest.mark.parametrize("text", ["C0N1", "C8N0", "C8", "C8N1N1", "c8n1", "C99999N1"])
def test_skeletons_that_are_none(text: str) -> None:
    with pytest.raises(StructureError):
        CellArchitecture.parse(f"{text}{BEST}")


def test_numbers_of_a_skeleton_are_checked() -> None:
    with pytest.raises(StructureError, match="from 1 to 100 cells, got 0"):
        NasBench201Space(cells=0)
    with pytest.raises(StructureError, match="16 channels and 5 cells in a stage; the space has 16 and 2"):
        NasBench201Space(cells=2).encode(CellArchitecture.parse(BEST))
