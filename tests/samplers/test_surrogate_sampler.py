"""SurrogateSampler: what it finds, that it repeats itself, and what it makes of running, pruned and failed trials."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from zenopt.core.budget import Budget
from zenopt.core.errors import BudgetError, PredictorError, SpecError
from zenopt.latency.limits import Limits
from zenopt.predictors.networks import NetworkReader
from zenopt.samplers import SurrogateSampler
from zenopt.samplers.candidates import Candidates, gather, moves
from zenopt.samplers.guided import draw_candidates
from zenopt.samplers.surrogate import RECORD_KEY
from zenopt.samplers.told import PROPOSED_KEY, ToldPopulation
from zenopt.spaces.chain.superres import SuperResSpace
from zenopt.spaces.nasbench201.space import NasBench201Space
from zenopt.storage import open_storage
from zenopt.study import prediction
from zenopt.study.sampling import make_sampler
from zenopt.study.spec import StudySpec

CELLS = NasBench201Space(operations=("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3"))
FREE = Limits(Budget(), resolution=32, num_classes=10)
CHAINS = SuperResSpace(slots=2, max_width=64, max_bottleneck=32, max_head=128)
SMALL = Limits(Budget(params=1e5), resolution=32, num_classes=10)


@cache
def cells() -> Candidates:
    return gather(CELLS, FREE, NetworkReader(CELLS, 32, 10), 1000, random.Random(0))


def accuracy(cell: Any) -> float:
    """More 3x3 convolutions are better, a skip from the input to the output helps, an unconnected cell has 10."""
    operations = cell.operations
    if not cell.shape_features()["is connected"]:
        return 10.0
    return 85.0 + operations.count("nor_conv_3x3") + 3.0 * (operations[3] == "skip_connect")


def run(study: optuna.Study, space: Any, value: Callable[[Any], Any], trials: int) -> list[str]:
    texts = []
    for _ in range(trials):
        trial = study.ask()
        architecture = space.suggest(trial)
        texts.append(str(architecture))
        study.tell(trial, value(architecture))
    return texts


def make(direction: str = "maximize", **options: Any) -> optuna.Study:
    sampler = SurrogateSampler(CELLS, FREE, **{"candidates": cells(), **options})
    return optuna.create_study(direction=direction, sampler=sampler)


# -- what it finds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1, -1])
def test_finds_the_best_of_4096_soon_in_either_direction(sign: int) -> None:
    study = make("maximize" if sign > 0 else "minimize")
    texts = run(study, CELLS, lambda cell: sign * accuracy(cell), 20)
    assert len(set(texts)) == 20
    assert sign * study.best_value == 93.0


def test_begins_with_the_top_of_the_ranking_and_stores_its_record() -> None:
    study = make()
    texts = run(study, CELLS, accuracy, 12)
    column = cells().inputs.matrix[:, cells().inputs.names.index("synflow")]
    assert column[cells().texts.index(texts[0])] == column.max()
    record = study.user_attrs[RECORD_KEY]
    assert record["begins_with"] == "synflow" and record["candidates"] == 4**6
    assert record["record"].startswith("reads ") and "nats" in record["record"]


def test_ranking_can_be_another_or_none() -> None:
    texts = run(make(ranking="log params"), CELLS, accuracy, 1)
    assert texts[0].count("nor_conv_3x3") == 6
    assert len(set(run(make(ranking=None), CELLS, accuracy, 8))) == 8
    with pytest.raises(PredictorError, match=r"no input is called 'x'; there are auto, none, edge01=none"):
        SurrogateSampler(CELLS, FREE, ranking="x")


def test_stays_within_the_budget_and_moves_beyond_what_was_gathered() -> None:
    sampler = SurrogateSampler(CHAINS, SMALL, candidates=150)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    texts = run(study, CHAINS, lambda chain: float(SMALL.count(chain).macs), 16)
    assert len(set(texts)) == 16
    assert all(SMALL.check(CHAINS.parse(text)).is_feasible for text in texts)
    assert set(texts) - set(sampler._candidates().texts)


@pytest.mark.parametrize("params", [2.5e5, 5e5])
def test_list_within_a_budget_runs_out(params: float) -> None:
    few = NasBench201Space(operations=("skip_connect", "nor_conv_3x3"))
    limits = Limits(Budget(params=params), resolution=32, num_classes=10)
    feasible = {str(cell) for cell in few.architectures() if limits.check(cell).is_feasible}
    study = optuna.create_study(sampler=SurrogateSampler(few, limits))
    assert set(run(study, few, lambda cell: float(len(str(cell))), len(feasible))) == feasible
    with pytest.raises(BudgetError, match="may be exhausted"):
        few.suggest(study.ask())
    with pytest.raises(BudgetError, match="fits the budget"):
        nothing = Limits(Budget(params=10), resolution=32, num_classes=10)
        few.suggest(optuna.create_study(sampler=SurrogateSampler(few, nothing)).ask())


def test_front_of_accuracy_and_params() -> None:
    directions = ["maximize", "minimize"]
    value = lambda cell: (accuracy(cell), float(FREE.count(cell).params))  # noqa: E731
    for costs in (("params",), ()):
        sampler = SurrogateSampler(CELLS, FREE, candidates=cells(), costs=costs)
        study = optuna.create_study(directions=directions, sampler=sampler)
        assert len(set(run(study, CELLS, value, 24))) == 24
        # The ends of the front, and most of what lies between: one network for every number of convolutions.
        assert len(study.best_trials) >= 5


# -- that it repeats itself ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["memory", "sqlite"])
def test_resumed_study_repeats_an_uninterrupted_one(tmp_path: Path, storage: str) -> None:
    whole = run(make(), CELLS, accuracy, 14)
    url = None if storage == "memory" else open_storage(f"sqlite:///{tmp_path / 'a.db'}")
    study = optuna.create_study(
        direction="maximize", storage=url, sampler=SurrogateSampler(CELLS, FREE, candidates=cells())
    )
    parts = run(study, CELLS, accuracy, 3)
    for count in (4, 7):
        study.sampler = SurrogateSampler(CELLS, FREE, candidates=cells())
        parts += run(study, CELLS, accuracy, count)
    assert parts == whole


def test_trial_of_a_dead_worker_is_proposed_again(tmp_path: Path) -> None:
    whole = run(make(), CELLS, accuracy, 9)
    study = make()
    run(study, CELLS, accuracy, 8)
    lost = study.ask()
    assert str(CELLS.suggest(lost)) == whole[8]
    study.sampler = SurrogateSampler(CELLS, FREE, candidates=cells())
    assert str(study.sampler.propose(study, lost.number)) == whole[8]


def test_copy_in_another_process_decides_alike() -> None:
    study = make()
    run(study, CELLS, accuracy, 7)
    copy = pickle.loads(pickle.dumps(study.sampler))
    assert str(copy.propose(study, 7)) == str(study.sampler.propose(study, 7))


# -- running, pruned and failed trials -------------------------------------------------------------------------------


def test_workers_that_ask_at_once_train_different_networks(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path / 'a.db'}")
    make_one = lambda: SurrogateSampler(CELLS, FREE, candidates=cells())  # noqa: E731
    study = optuna.create_study(direction="maximize", storage=storage, sampler=make_one())
    workers = [optuna.load_study(study_name=study.study_name, storage=storage, sampler=make_one())]
    workers.append(optuna.load_study(study_name=study.study_name, storage=storage, sampler=make_one()))
    for _ in range(5):
        trials = [worker.ask() for worker in workers]
        found = [CELLS.suggest(trial) for trial in trials]
        assert found[0] != found[1]
        for worker, trial, cell in zip(workers, trials, found, strict=True):
            worker.tell(trial, accuracy(cell))
    assert len({trial.user_attrs[PROPOSED_KEY] for trial in study.trials}) == 10


def test_silent_trial_of_another_worker_is_thought_of() -> None:
    """Between being asked and saying what it trains, a worker does what this one would do next."""
    study = make()
    run(study, CELLS, accuracy, 8)
    first = str(study.sampler.propose(study, 8))
    study._storage.create_new_trial(study._study_id)
    assert str(study.sampler.propose(study, 9)) != first


def test_failed_and_worthless_trials_are_known_and_not_learned_from() -> None:
    study = make()
    texts = run(study, CELLS, accuracy, 6)
    for state in (TrialState.FAIL, TrialState.PRUNED):
        trial = study.ask()
        texts.append(str(CELLS.suggest(trial)))
        study.tell(trial, state=state)
    trial = study.ask()
    texts.append(str(CELLS.suggest(trial)))
    study.tell(trial, float("inf"))
    texts += run(study, CELLS, accuracy, 4)
    assert len(set(texts)) == len(texts)
    told = study.sampler._learner(study).told
    told.sync()
    assert len(told.told) == 10


def test_pruned_trainings_count_at_their_epoch() -> None:
    study = make()
    told = ToldPopulation(study, CELLS, NetworkReader(CELLS, 32, 10))
    for number in range(9):
        trial = study.ask()
        CELLS.suggest(trial)
        is_pruned = number % 3 == 2
        for epoch in range(1, 4 if is_pruned else 11):
            trial.report(10.0 * number + epoch, epoch)
        study.tell(trial, None if is_pruned else 10.0 * number + 10, TrialState.PRUNED if is_pruned else None)
    told.sync()
    found = told.observations()
    # Of every full training the value at the epoch where others ended, too.
    assert len(found) == 9 + 6
    assert sorted(set(found.shares.tolist())) == pytest.approx([0.3, 1.0])
    assert found.values[found.shares < 1].tolist() == [10.0 * number + 3 for number in range(9)]
    assert len({text for text, share in zip(found.networks, found.shares, strict=True) if share == 1}) == 6
    # Half way, a longest training of 20 epochs is known of.
    told = ToldPopulation(study, CELLS, NetworkReader(CELLS, 32, 10), last_step=20)
    told.sync()
    assert told.observations().shares.min() == pytest.approx(0.15)


def test_many_lengths_are_told_apart_roughly() -> None:
    study = make()
    for number in range(12):
        trial = study.ask()
        CELLS.suggest(trial)
        epochs = 100 if number < 5 else 5 * number
        for epoch in range(1, epochs + 1):
            trial.report(float(epoch), epoch)
        study.tell(trial, 100.0 if number < 5 else None, None if number < 5 else TrialState.PRUNED)
    told = study.sampler._learner(study).told
    told.sync()
    assert set(told.observations().shares.tolist()) <= {0.25, 0.5, 1.0}
    assert np.isfinite(told.observations().values).all()


def test_duplicates_are_no_second_training() -> None:
    study = make()
    run(study, CELLS, accuracy, 4)
    trial = study.ask()
    CELLS.suggest(trial)
    trial.set_user_attr("duplicate_of", 0)
    study.tell(trial, 50.0)
    told = study.sampler._learner(study).told
    told.sync()
    assert len(told.told) == 4


# -- candidates ------------------------------------------------------------------------------------------------------


def test_gathered_candidates_differ_and_fit() -> None:
    found = gather(CHAINS, SMALL, NetworkReader(CHAINS, 32, 10), 200, random.Random(0))
    again = gather(CHAINS, SMALL, NetworkReader(CHAINS, 32, 10), 200, random.Random(0))
    assert found.texts == again.texts and len(set(found.texts)) == len(found) == 200
    assert not found.is_whole
    assert all(SMALL.check(CHAINS.parse(text)).is_feasible for text in found.texts)
    parents = [CHAINS.parse(text) for text in found.texts[:4]]
    near = moves(CHAINS, SMALL, parents, set(found.texts), 20, random.Random(1))
    assert near and not near.keys() & set(found.texts)


def test_long_lists_are_drawn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zenopt.samplers.candidates.MOST_LISTED", 100)
    found = gather(CELLS, FREE, NetworkReader(CELLS, 32, 10), 50, random.Random(0))
    assert len(found) == 100 == len(set(found.texts)) and not found.is_whole
    every = list(map(str, CELLS.architectures()))
    places = [every.index(text) for text in found.texts]
    assert 0.3 < np.mean(places) / len(every) < 0.7


# -- study files -----------------------------------------------------------------------------------------------------


def test_study_files_name_it() -> None:
    settings = {"sampler.name": "surrogate", "sampler.surrogate": {"begin": 2, "ranking": None}}
    sampler = make_sampler(StudySpec.load("nasbench201", settings))
    assert isinstance(sampler, SurrogateSampler)
    assert sampler._begin == 2 and sampler._ranking is None
    # Classes name learning rates; the search is one, of the whole space.
    assert isinstance(
        make_sampler(StudySpec.load("cifar-small", {"sampler.name": "surrogate"})), SurrogateSampler
    )
    with pytest.raises(SpecError, match="begin"):
        StudySpec.load("nasbench201", {"sampler.name": "surrogate", "sampler.surrogate.begin": 0})


def test_study_files_name_groups_of_inputs() -> None:
    settings = {"sampler.name": "surrogate", "sampler.surrogate.inputs": ["costs", "paths"]}
    sampler = make_sampler(StudySpec.load("nasbench201", settings))
    assert isinstance(sampler, SurrogateSampler) and sampler._groups == ("costs", "paths")
    study = make(inputs=["paths"])
    run(study, CELLS, accuracy, 6)
    lines = study.user_attrs[RECORD_KEY]["record"].splitlines()[1:]
    read = {name.strip() for line in lines for name in line.split(" nats ")[1].split(",")}
    assert read == {"paths"}
    settings["sampler.surrogate.inputs"] = ["costs", "path"]
    with pytest.raises(
        PredictorError, match="no group is called 'path'; there are genes, shape, costs, scores, paths"
    ):
        make_sampler(StudySpec.load("nasbench201", settings))


# -- earlier results -------------------------------------------------------------------------------------------------


def test_begins_with_what_was_learned_before(tmp_path: Path) -> None:
    """A table in other units, and a study that was to minimise, both point at the best network."""
    table = tmp_path / "table.csv"
    rows = random.Random(0).sample(sorted(cells().texts), 200)
    lines = [f"{text},{accuracy(CELLS.parse(text)) / 100 - 0.3}" for text in rows]
    table.write_text("\n".join(["arch_str,acc", *lines]))
    url = f"sqlite:///{tmp_path / 'a.db'}"
    earlier = optuna.create_study(study_name="losses", storage=open_storage(url))
    for text in rows[:60]:
        attributes = {"structure": text}
        value = -accuracy(CELLS.parse(text))
        params = CELLS.encode(CELLS.parse(text))
        earlier.add_trial(
            optuna.create_trial(
                value=value, params=params, distributions=CELLS.distributions, user_attrs=attributes
            )
        )
    # A database file may be named by its path, as everywhere.
    for source in (f"{table}#acc", f"{url}#losses", f"{url.removeprefix('sqlite:///')}#losses"):
        settings = {
            "space.options": {"operations": list(CELLS.operations)},
            "sampler": {"name": "surrogate", "surrogate": {"begin": 2, "warm_start": [source]}},
        }
        sampler = make_sampler(StudySpec.load("nasbench201", settings))
        assert isinstance(sampler, SurrogateSampler) and sampler._ranking == f"earlier {source}"
        study = optuna.create_study(direction="maximize", sampler=sampler)
        run(study, CELLS, accuracy, 8)
        assert study.trials[0].value >= 91.0 and study.best_value == 93.0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("table.csv", r"expected STORAGE#STUDY or TABLE.csv#COLUMN, got 'table.csv'"),
        ("nothing.csv#acc", r"warm_start 'nothing.csv#acc': .*nothing.csv"),
        ("sqlite:///nothing.db#a", r"warm_start 'sqlite:///nothing.db#a': .*does not exist"),
        ("few.csv#acc", r"few.csv#acc has 1 networks of the space with values; at least 4 are needed"),
        ("few.csv#top", r"has no column 'top'"),
    ],
)
def test_sources_that_say_nothing_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("few.csv").write_text(f"arch_str,acc\n{cells().texts[0]},90\n")
    spec = StudySpec.load(
        "nasbench201", {"sampler": {"name": "surrogate", "surrogate": {"warm_start": [source]}}}
    )
    with pytest.raises((SpecError, PredictorError), match=message):
        make_sampler(spec)


def test_a_prediction_reads_earlier_results_where_the_settings_name_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once `inputs: [earlier]` alone read everything, and a ranking by them was not known."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prediction, "REFERENCE", 16)
    rng = random.Random(0)
    texts = sorted({str(found) for found in draw_candidates(CELLS, FREE, 24, rng)})
    rows = [f"{text},{accuracy(CELLS.parse(text))}" for text in texts]
    Path("table.csv").write_text("\n".join(["arch_str,acc", *rows]))
    study = optuna.create_study(direction="maximize")
    for text in texts[::3]:
        found = CELLS.parse(text)
        study.add_trial(
            optuna.create_trial(
                value=accuracy(found), params=CELLS.encode(found), distributions=CELLS.distributions,
                user_attrs={"structure": text},
            )
        )  # fmt: skip

    def record(**settings: object) -> str:
        options = {"space.options": {"operations": list(CELLS.operations)}, "sampler.surrogate": settings}
        spec = StudySpec.load("nasbench201", options)
        return prediction.predict_networks(study, spec, [CELLS.parse(texts[1])]).record

    source = ["table.csv#acc"]
    assert record(inputs=["earlier"], warm_start=source).startswith("reads earlier;")
    assert "trust in the ranking" in record(
        inputs=["costs"], ranking="earlier table.csv#acc", warm_start=source
    )
    Path("table.csv").unlink()
    # What is not asked for need not be there.
    assert record(inputs=["costs"], warm_start=source).startswith("reads costs;")
    with pytest.raises(SpecError, match=r"warm_start 'table\.csv#acc': "):
        record(inputs=["earlier", "costs"], warm_start=source)
    with pytest.raises(PredictorError, match="inputs: no group is called 'earlier'; there are genes"):
        record(inputs=["earlier"])


def test_candidates_of_chains_are_the_best_of_many_depths() -> None:
    limits = Limits(Budget(params=60e3, macs=6e6), resolution=32, num_classes=10)
    found = gather(CHAINS, limits, NetworkReader(CHAINS, 32, 10), 600, random.Random(0))
    score, convs = (
        found.inputs.matrix[:, found.inputs.names.index(name)] for name in ("zen", "convolutions")
    )
    drawn = draw_candidates(CHAINS, limits, 600, random.Random(1))
    random_ones = NetworkReader(CHAINS, 32, 10).read(drawn).matrix
    own = [found.inputs.names.index(name) for name in ("zen", "convolutions")]
    ahead = 0
    for depth in (convs.min(), *np.quantile(convs, [0.25, 0.5, 0.75])):
        best = score[convs <= depth].max()
        others = random_ones[random_ones[:, own[1]] <= depth, own[0]]
        ahead += not len(others) or best > others.max()
    assert ahead >= 3
