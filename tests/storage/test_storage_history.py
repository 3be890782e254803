from __future__ import annotations

import threading
from collections.abc import Callable

import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from zenopt.storage import (
    StudyHistory,
    count_by_state,
    is_feasible,
    open_storage,
    record_constraints,
    top,
)

KINDS = [
    "memory",
    "sqlite",
    "sqlite stock",
    "journal",
    "postgresql",
    pytest.param("mysql", marks=pytest.mark.slow),
]


@pytest.fixture(params=KINDS)
def study(
    request: pytest.FixtureRequest, new_opener: Callable[..., Callable[[], BaseStorage]]
) -> optuna.Study:
    return optuna.create_study(storage=new_opener(request.param)(), direction="maximize", study_name="s")


def _tell(study: optuna.Study, value: float, structure: str, violation: float | None = None) -> int:
    trial = study.ask()
    trial.suggest_int("width", 8, 512, log=True)
    trial.suggest_categorical("kind", ["a", "b"])
    trial.set_user_attr("structure", structure)
    trial.set_user_attr("params", 1000 + trial.number)
    if violation is not None:
        record_constraints(trial, {"params": violation, "macs": -1.0})
    study.tell(trial, value)
    return trial.number


def test_sync_returns_each_change_once(study: optuna.Study) -> None:
    history = StudyHistory(study, keys=["params"])
    assert history.sync() == []
    _tell(study, 1.0, "A")
    running = study.ask()
    study.enqueue_trial({"width": 16})
    first = history.sync()
    assert [r.number for r in first] == [0, 1, 2]
    assert [r.state for r in first] == [TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING]
    assert (first[0].value, first[0].structure, first[0].user_attrs["params"]) == (1.0, "A", 1000)
    assert history.sync() == [], "nothing changed"
    study.tell(running, 5.0)
    popped = study.ask()
    assert [(r.number, r.state, r.value) for r in history.sync()] == [
        (1, TrialState.COMPLETE, 5.0),
        (2, TrialState.RUNNING, None),
    ]
    study.tell(popped, state=TrialState.FAIL)
    _tell(study, float("inf"), "B")
    assert [(r.number, r.value) for r in history.sync()] == [(2, None), (3, float("inf"))]
    assert history.sync() == []


def test_a_trial_that_goes_on_running_is_no_news(study: optuna.Study) -> None:
    _tell(study, 1.0, "A", -0.5)
    added = create_trial(
        state=TrialState.RUNNING, system_attrs={"constraints": [1.0]}, user_attrs={"params": 1}
    )
    study.add_trial(added)
    history = StudyHistory(study, keys=["params"])
    assert len(history.sync()) == 2
    assert history.sync() == []
    _tell(study, 2.0, "B", -0.5)
    assert [r.number for r in history.sync()] == [2]
    assert history.sync() == []


def test_records_agree_with_frozen_trials(study: optuna.Study) -> None:
    for number, violation in enumerate([None, -0.1, 0.2, 0.0]):
        _tell(study, float(number), f"S{number}", violation)
    old = create_trial(value=9.0, user_attrs={"structure": "old"}, system_attrs={"constraints": [-1.0, 2.0]})
    study.add_trial(old)
    study.add_trial(create_trial(value=8.0, user_attrs={"structure": "new"}, constraints={"macs": 0.5}))
    history = StudyHistory(study)
    records = history.with_params(history.sync())
    trials = study.get_trials()
    assert (
        [r.is_feasible for r in records]
        == [is_feasible(t) for t in trials]
        == [True, True, False, True, False, False]
    )
    assert [dict(r.params or {}) for r in records] == [t.params for t in trials]
    assert [r.value for r in records] == [t.value for t in trials]
    assert [r.trial_id for r in records] == [t._trial_id for t in trials]


def test_top_is_feasible_and_ordered(study: optuna.Study) -> None:
    values = [3.0, 9.0, 7.0, float("-inf"), 7.0, float("inf"), 8.0]
    for number, value in enumerate(values):
        _tell(study, value, f"S{number}", 0.3 if number == 1 else -0.3)
    study.tell(study.ask(), state=TrialState.PRUNED)
    best = top(study, 4)
    assert [r.number for r in best] == [5, 6, 2, 4]
    trials = study.get_trials()
    assert all(dict(r.params or {}) == trials[r.number].params for r in best)
    assert [r.structure for r in best] == [f"S{r.number}" for r in best]
    assert [r.number for r in top(study, 100)] == [5, 6, 2, 4, 0, 3]
    assert StudyHistory(study).top(1)[0].number == study.best_trial.number == 5


def test_top_of_a_minimization(new_url: Callable[[str], str]) -> None:
    for kind in ("memory", "sqlite"):
        study = optuna.create_study(storage=open_storage(new_url(kind)))
        for value in (2.0, float("-inf"), 1.0, float("inf")):
            _tell(study, value, "S")
        assert [r.number for r in top(study, 9)] == [1, 2, 0, 3]


def test_count_by_state(study: optuna.Study) -> None:
    assert set(count_by_state(study).values()) == {0}
    _tell(study, 1.0, "A")
    _tell(study, 1.0, "A")
    study.ask()
    study.tell(study.ask(), state=TrialState.FAIL)
    counts = count_by_state(study)
    assert counts == StudyHistory(study).count_by_state()
    assert [
        counts[s] for s in (TrialState.COMPLETE, TrialState.RUNNING, TrialState.FAIL, TrialState.WAITING)
    ] == [
        2,
        1,
        1,
        0,
    ]


def test_find_structure(study: optuna.Study) -> None:
    history = StudyHistory(study)
    _tell(study, 1.0, "A")
    _tell(study, 2.0, "A")
    pruned = study.ask()
    pruned.set_user_attr("structure", "P")
    study.tell(pruned, state=TrialState.PRUNED)
    history.sync()
    found = history.find("A")
    assert found is not None and (found.number, found.value) == (0, 1.0)
    assert history.find("P") is None, "without a value there is nothing to reuse"
    assert history.find("B") is None


def test_claim_is_seen_by_other_workers(study: optuna.Study) -> None:
    mine, theirs = StudyHistory(study), StudyHistory(study)
    first, second, third = study.ask(), study.ask(), study.ask()
    assert mine.claim(first, "A") is None
    assert mine.claim(first, "A") is None, "a trial may ask again"
    owner = theirs.claim(second, "A")
    assert owner is not None and (owner.number, owner.state) == (first.number, TrialState.RUNNING)
    assert theirs.claim(second, "B") is None
    study.tell(first, 4.0)
    owner = theirs.claim(third, "A")
    assert owner is not None and owner.value == 4.0
    assert [r.number for r in theirs.sync()] == [0, 1, 2], "claims hide nothing from sync"
    study.tell(second, 1.0)
    assert study.get_trials()[1].user_attrs["structure"] == "B"


@pytest.mark.parametrize("kind", ["sqlite", "journal", "postgresql"])
def test_racing_claims_have_one_winner(kind: str, new_url: Callable[[str], str]) -> None:
    url = new_url(kind)
    optuna.create_study(storage=open_storage(url), study_name="s")
    barrier = threading.Barrier(4)
    won: list[tuple[int, str]] = []
    errors: list[BaseException] = []

    def claim() -> None:
        try:
            study = optuna.load_study(storage=open_storage(url), study_name="s")
            history = StudyHistory(study)
            trials = [study.ask() for _ in range(3)]
            barrier.wait()
            for trial, structure in zip(trials, "ABC", strict=True):
                if history.claim(trial, structure) is None:
                    won.append((trial.number, structure))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(structure for _, structure in won) == ["A", "B", "C"]


def test_constraints_are_kept_in_both_forms(study: optuna.Study, recwarn: pytest.WarningsRecorder) -> None:
    trial = study.ask()
    record_constraints(trial, {"params": -0.5, "macs": 0.25})
    record_constraints(trial, {"params": -0.5, "macs": 0.25})
    study.tell(trial, 1.0)
    stored = study.get_trials()[0]
    assert stored.system_attrs["constraints"] == [-0.5, 0.25]
    assert stored.system_attrs["constraints:params"] == -0.5
    assert stored.system_attrs["constraints:macs"] == 0.25
    assert not is_feasible(stored)
    with pytest.raises(ValueError, match="No feasible trials"):
        _ = study.best_trial
    assert not [w for w in recwarn if "constraint" in str(w.message)]
    with pytest.raises(ValueError, match="must be a number"):
        record_constraints(study.ask(), {"params": float("nan")})
