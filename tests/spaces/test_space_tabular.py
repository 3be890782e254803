"""A space cut down to a table: membership, moves, and searches that never leave it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from optuna.trial import TrialState

from zenopt.core.costs import count
from zenopt.core.errors import DataError
from zenopt.core.yamlfile import Source
from zenopt.spaces.nasbench201.architecture import OPERATIONS, CellArchitecture
from zenopt.spaces.nasbench201.space import NasBench201Space
from zenopt.spaces.tabular import TabularSpace
from zenopt.storage import open_storage
from zenopt.study.objective import Objective, run_trial
from zenopt.study.sampling import make_sampler
from zenopt.study.spec import StudySpec
from zenopt.study.study import join_study, load_study


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A third of the space, without its initial cell; 1x1 convolutions are worth 1, skips a tenth."""
    cells = [cell for cell in NasBench201Space().architectures() if str(cell) != NasBench201Space().initial][
        ::3
    ]
    path = tmp_path / "table.csv"
    path.write_text("arch_str,acc\n" + "".join(f"{cell},{accuracy(cell)}\n" for cell in cells))
    return path


def accuracy(cell: CellArchitecture) -> float:
    return cell.operations.count("nor_conv_1x1") + cell.operations.count("skip_connect") / 10


def spec_of(table: Path, **changes: object) -> StudySpec:
    data = {
        "name": "tabular",
        "space": {"name": "nasbench201"},
        "resolution": 32,
        "num_classes": 10,
        "objective": {"kind": "table", "table": str(table), "column": "acc"},
        "trials": 10,
    }
    return StudySpec.validated(Source("tabular.yaml", {**data, **changes}))


def run(spec: StudySpec, trials: int) -> list:
    storage = open_storage("memory:")
    spec = join_study(spec, storage, "tabular", "cpu")
    study = load_study(storage, "tabular", make_sampler(spec))
    objective = Objective(spec, study)
    for _ in range(trials):
        run_trial(study, objective)
    return study.get_trials(deepcopy=False)


def test_only_what_is_listed_exists(table: Path) -> None:
    space = TabularSpace(NasBench201Space(), str(table), "acc")
    listed = set(space.architectures())
    assert len(listed) == 15_624 // 3
    rng = random.Random(0)
    cell = space.draw(rng)
    for _ in range(50):
        assert space.contains(cell)
        assert set(space.neighbours(cell)) == set(NasBench201Space().neighbours(cell)) & listed
        cell = space.mutate(cell, rng, blocks=1)
    while (smaller := space.shrink(cell)) is not None:
        cell = smaller
        assert space.contains(cell)


def test_a_missing_initial_architecture_gives_way_to_the_nearest(table: Path) -> None:
    space = TabularSpace(NasBench201Space(), str(table), "acc")
    whole = NasBench201Space()
    wanted = whole.parse(whole.initial)
    assert not space.contains(wanted)
    distances = {
        sum(a != b for a, b in zip(wanted.operations, cell.operations, strict=True))
        for cell in space.architectures()
    }
    nearest = space.parse(space.initial)
    assert space.contains(nearest)
    assert sum(a != b for a, b in zip(wanted.operations, nearest.operations, strict=True)) == min(distances)


def test_a_table_of_other_architectures_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("structure,acc\nfoo,1\n")
    with pytest.raises(DataError, match=r"other\.csv: row 2: A NAS-Bench-201 string"):
        _ = TabularSpace(NasBench201Space(), str(path), "acc").initial
    path.write_text(f"structure,acc\n{NasBench201Space().initial},1\n")
    with pytest.raises(DataError, match="lists no architecture of this space"):
        _ = TabularSpace(NasBench201Space(operations=("none",)), str(path), "acc").initial


@pytest.mark.parametrize("sampler", ["zen", "aging"])
def test_evolutions_stay_in_the_table_and_read_it(table: Path, sampler: str) -> None:
    trials = run(spec_of(table, sampler={"name": sampler, "population": 20, "tournament": 6}), 80)
    for trial in trials:
        assert trial.state == TrialState.COMPLETE
        assert trial.value == pytest.approx(accuracy(CellArchitecture.parse(trial.user_attrs["structure"])))
        assert "closed_form" not in trial.user_attrs
    assert len({trial.user_attrs["structure"] for trial in trials}) == 80
    early = sum(trial.value for trial in trials[:10])
    assert sum(trial.value for trial in trials[-10:]) > early


@pytest.mark.parametrize("sampler", ["random", "tpe", "nsga2"])
def test_optunas_samplers_are_pruned_outside(table: Path, sampler: str) -> None:
    trials = run(spec_of(table, sampler={"name": sampler}), 25)
    states = {trial.state for trial in trials}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED}
    listed = TabularSpace(NasBench201Space(), str(table), "acc")
    for trial in trials:
        cell = CellArchitecture.parse(trial.user_attrs["structure"])
        assert listed.contains(cell) == (trial.state == TrialState.COMPLETE)


def test_a_budget_holds_beside_a_table(table: Path) -> None:
    spec = spec_of(table, budget={"params": 2e5}, sampler={"name": "aging", "population": 5, "tournament": 2})
    for trial in run(spec, 30):
        assert trial.user_attrs["params"] <= 2e5


@pytest.fixture
def sparse_table(tmp_path: Path) -> Path:
    """Cells no two of which differ in fewer than three edges."""
    cells = [
        CellArchitecture((first, first, second, second, third, OPERATIONS[0]))
        for first in OPERATIONS[1:]
        for second in OPERATIONS[1:]
        for third in OPERATIONS[1:]
        if (OPERATIONS.index(first) + OPERATIONS.index(second) + OPERATIONS.index(third)) % 4 == 0
    ]
    path = tmp_path / "sparse.csv"
    path.write_text("arch_str,acc\n" + "".join(f"{cell},{accuracy(cell)}\n" for cell in cells))
    return path


def test_in_a_sparse_table_moves_lead_to_the_nearest(sparse_table: Path) -> None:
    space = TabularSpace(NasBench201Space(), str(sparse_table), "acc")
    listed = list(space.architectures())
    assert len(listed) == 16
    assert not any(set(NasBench201Space().neighbours(cell)) & set(listed) for cell in listed)

    def distance(cell: CellArchitecture, other: CellArchitecture) -> int:
        return sum(a != b for a, b in zip(cell.operations, other.operations, strict=True))

    rng, cell = random.Random(0), listed[0]
    near = space.neighbours(cell)
    assert len(near) == 10 and cell not in near
    rest = set(listed) - {cell, *near}
    assert max(distance(cell, other) for other in near) <= min(distance(cell, other) for other in rest)
    drawn = {space.mutate(cell, rng) for _ in range(200)}
    assert drawn == set(near)
    assert {space.mutate(cell, rng, blocks=2) for _ in range(400)} == set(listed) - {cell}


def test_a_sparse_table_is_shrunk_through_and_searched(sparse_table: Path) -> None:
    space = TabularSpace(NasBench201Space(), str(sparse_table), "acc")
    cell = max(space.architectures(), key=lambda cell: count(cell, 32, 10).params)
    steps = [cell]
    while (smaller := space.shrink(steps[-1])) is not None:
        steps.append(smaller)
    params = [count(cell, 32, 10).params for cell in steps]
    assert len(steps) > 2 and params == sorted(params, reverse=True)
    trials = run(spec_of(sparse_table, sampler={"name": "aging", "population": 4, "tournament": 2}), 16)
    assert {trial.user_attrs["structure"] for trial in trials} == {
        str(cell) for cell in space.architectures()
    }
