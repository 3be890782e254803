"""Operations on tables that are elsewhere, with the server's part in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from zenopt.core.errors import StorageError
from zenopt.storage import StudyHistory, WriteBehindStorage, open_storage, requeue_orphans, top
from zenopt.storage.operations import AWAY, ServedTables, database_error, packed, unpacked
from zenopt.storage.orphans import put_back
from zenopt.storage.records import TrialRecord
from zenopt.storage.serving import answer


class Backend:
    """Optuna's storage, which studies are read from and written to, with tables that are reached by :func:`answer`."""

    engine_kwargs: ClassVar[dict[str, Any]] = {}

    def __init__(self, inner: RDBStorage, engine: ServedTables) -> None:
        self.inner, self.engine = inner, engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.fixture
def inside(tmp_path: Path) -> BaseStorage:
    return open_storage(f"sqlite:///{tmp_path}/study.db", heartbeat_interval=None)


@pytest.fixture
def calls() -> list[str]:
    return []


@pytest.fixture
def send(inside: BaseStorage, calls: list[str]) -> Callable[[bytes], bytes]:
    def send(request: bytes) -> bytes:
        calls.append(json.loads(request)[0])
        return answer(inside.engine, request)

    return send


@pytest.fixture
def study(inside: BaseStorage, send: Callable[[bytes], bytes]) -> optuna.Study:
    tables = ServedTables("grpc://node-3:13000", lambda: None)
    tables.send = send
    assert tables.describe()
    storage = WriteBehindStorage(Backend(inside._backend, tables), heartbeat_interval=None)
    sampler = optuna.samplers.RandomSampler()
    return optuna.create_study(storage=storage, study_name="s", direction="maximize", sampler=sampler)


def test_a_trial_takes_four_calls_and_is_stored_before_it_is_evaluated(
    study: optuna.Study, inside: BaseStorage, calls: list[str]
) -> None:
    stored = optuna.load_study(storage=inside, study_name="s")
    history = StudyHistory(study)
    for number in range(3):
        calls.clear()
        trial = study.ask()
        x, kind = trial.suggest_float("x", 0, 1), trial.suggest_categorical("kind", ["a", None])
        trial.set_user_attr("cost", number)
        assert history.claim(trial, f"N{number}") is None
        # A worker that is killed from here on leaves behind all that is known.
        running = stored.get_trials(states=[TrialState.RUNNING])[0]
        assert running.params == {"x": x, "kind": kind}
        assert running.user_attrs["cost"] == number and running.user_attrs["structure"] == f"N{number}"
        trial.set_user_attr("score_std", 0.5)
        study.tell(trial, float(number))
    assert calls == ["read_states", "insert_trial", "claim_identity", "finish_trial"]
    other = study.ask()
    owner = history.claim(other, "N0")
    assert owner is not None and (owner.number, owner.value) == (0, 0.0)
    assert stored.trials[2].user_attrs["score_std"] == 0.5
    assert stored.best_trial.number == study.best_trial.number == top(study, 1)[0].number == 2
    assert [trial.params for trial in study.trials] == [trial.params for trial in stored.trials]
    assert requeue_orphans(study) == []


def test_an_operation_whose_answer_was_lost_is_not_done_twice(
    study: optuna.Study, inside: BaseStorage, send: Callable[[bytes], bytes]
) -> None:
    lost: set[str] = set()

    def lose(request: bytes) -> bytes:
        found, name = send(request), json.loads(request)[0]
        if name in lost:
            return found
        lost.add(name)
        raise database_error("the server was killed", AWAY)

    study._storage.engine.send = lose
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    assert StudyHistory(study).claim(trial, "N") is None
    study.tell(trial, 1.0)
    assert {"insert_trial", "settle_param", "claim_identity", "finish_trial"} <= lost
    (stored,) = inside.get_all_trials(study._study_id)
    assert stored.state == TrialState.COMPLETE and stored.params == trial.params


def test_a_trial_is_put_back_though_an_answer_was_lost(
    study: optuna.Study, inside: BaseStorage, send: Callable[[bytes], bytes]
) -> None:
    lost = []

    def lose(request: bytes) -> bytes:
        found = send(request)
        if lost or json.loads(request)[0] != "publish_rows":
            return found
        lost.append(request)
        raise database_error("the server was killed", AWAY)

    trial = study.ask()
    x = trial.suggest_float("x", 0, 1)
    study._storage.engine.send = lose
    put_back(study, trial)
    (stored,) = inside.get_all_trials(study._study_id)
    assert lost and stored.state == TrialState.WAITING and stored.params == {"x": x}


def test_what_goes_wrong_at_a_server_is_said_to_its_client(study: optuna.Study, inside: BaseStorage) -> None:
    with pytest.raises(KeyError, match="No study with study_id 99"):
        study._storage.create_new_trial(99)
    trial, other = study.ask(), study.ask()
    inside.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    with pytest.raises(UpdateFinishedTrialError, match="Trial#0 has already finished"):
        study._storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [1.0])
    # No database keeps such a step; the trial is told without it, and the message names it.
    other.report(0.5, step=2**70)
    with pytest.raises(StorageError, match=f"without what the database refused: value of step {2**70}"):
        study.tell(other, 1.0)
    assert inside.get_trial(other._trial_id).value == 1.0
    inside.close()
    (Path(inside.engine.url.database or "")).unlink()
    with pytest.raises(StorageError, match="served storage: the file cannot be opened"):
        study.ask()


def test_what_travels_arrives() -> None:
    record = TrialRecord(
        3, 4, TrialState.PRUNED, (0.5,), {"a": {"$items": [1]}}, {"params": -0.1}, {"x": None}
    )
    now = datetime(2026, 1, 2, 3, 4, 5, 678901)
    content = [{7: TrialState.WAITING}, StudyDirection.MAXIMIZE, now, record, {"$TrialState": {}}, None]
    found = unpacked(json.loads(json.dumps(packed((*content, {1, 2}, float("inf"))))))
    assert found[:3] == content[:3] and found[4:] == [*content[4:], [1, 2], float("inf")]
    assert type(found[0][7]) is TrialState and vars(found[3]) == vars(record)
    with pytest.raises(TypeError, match="object does not travel"):
        packed([object()])
