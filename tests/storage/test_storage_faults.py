"""Lost confirmations, refused rows, databases that are away: each arranged on purpose."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
import sqlalchemy.exc
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from zenopt.core.errors import StorageError
from zenopt.storage import StudyHistory, open_storage
from zenopt.storage import writer as writer_module
from zenopt.storage.retry import patiently

Opener = Callable[..., Callable[[], BaseStorage]]
KINDS = ["sqlite", "postgresql", pytest.param("mysql", marks=pytest.mark.slow)]


class ConnectionLost(Exception):
    sqlstate = "08006"


def _lost(error: type[Exception] = ConnectionLost) -> sqlalchemy.exc.OperationalError:
    return sqlalchemy.exc.OperationalError("COMMIT", {}, error("server closed the connection"))


@pytest.fixture
def lose_confirmations(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function after which the next ``count`` commits arrive but seem to fail."""
    left = [0]
    real = writer_module.transaction

    @contextmanager
    def unreliable(*args: Any, **kwargs: Any) -> Iterator[sa.Connection]:
        with real(*args, **kwargs) as connection:
            yield connection
        if left[0] > 0:
            left[0] -= 1
            raise _lost()

    monkeypatch.setattr(writer_module, "transaction", unreliable)

    def lose(count: int) -> None:
        left[0] = count

    return lose


@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_confirmation_does_nothing_twice(kind: str, new_opener: Opener, lose_confirmations) -> None:
    study = optuna.create_study(storage=new_opener(kind)(), study_name="s")
    lose_confirmations(1)
    trial = study.ask()
    trial.suggest_float("before", 0, 1)
    lose_confirmations(1)
    trial.suggest_float("first", 0, 1)
    lose_confirmations(1)
    study.tell(trial, 1.0)
    study.enqueue_trial({"first": 0.5})
    lose_confirmations(1)
    queued = study.ask()
    assert queued.suggest_float("first", 0, 1) == 0.5
    lose_confirmations(2)
    study.tell(queued, state=TrialState.PRUNED)
    found = optuna.load_study(
        storage=new_opener(kind)() if kind == "x" else study._storage, study_name="s"
    ).trials
    assert [(t.number, t.state, t.value) for t in found] == [
        (0, TrialState.COMPLETE, 1.0),
        (1, TrialState.PRUNED, None),
    ]
    assert list(found[0].params) == ["before", "first"]
    assert study._storage.get_n_trials(study._study_id) == 2


def test_patience(tmp_path: Path) -> None:
    engine = sa.create_engine("sqlite://")
    calls = []

    def twice_away() -> str:
        calls.append(time.monotonic())
        if len(calls) < 3:
            raise _lost()
        return "back"

    assert patiently(engine, twice_away) == "back"
    assert len(calls) == 3

    def away() -> None:
        raise _lost()

    with pytest.raises(StorageError, match=r"no answer for .* start it and resume the study") as caught:
        patiently(engine, away, patience_s=0.2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("attributes", "fragment"),
    [
        ({"sqlstate": "53100"}, "the disk is full"),
        ({"sqlstate": "25006"}, "read-only"),
        ({"args": (1114, "table is full")}, "the disk is full"),
        ({"args": (1290, "--read-only")}, "read-only"),
    ],
)
def test_a_server_that_cannot_write_is_not_waited_for(attributes: dict[str, Any], fragment: str) -> None:
    class Refusal(Exception):
        pass

    def fail() -> None:
        error = Refusal("no")
        for name, value in attributes.items():
            setattr(error, name, value)
        raise sqlalchemy.exc.OperationalError("INSERT", {}, error)

    with pytest.raises(StorageError, match=fragment):
        patiently(sa.create_engine("sqlite://"), fail)


@pytest.mark.parametrize("number", [1205, 1213])
def test_deadlocks_are_tried_again(number: int) -> None:
    calls = []

    def deadlock_once() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise sqlalchemy.exc.OperationalError("UPDATE", {}, Exception(number, "deadlock"))
        return 7

    assert patiently(sa.create_engine("sqlite://"), deadlock_once) == 7


def test_programming_errors_are_not_retried() -> None:
    calls = []

    def wrong() -> None:
        calls.append(1)
        raise sqlalchemy.exc.ProgrammingError("SELEC", {}, Exception("syntax error"))

    with pytest.raises(sqlalchemy.exc.ProgrammingError):
        patiently(sa.create_engine("sqlite://"), wrong)
    assert len(calls) == 1


def test_a_refused_row_does_not_take_the_others_with_it(new_opener: Opener) -> None:
    storage = new_opener("postgresql")()
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.set_user_attr("fine", 1)
    trial.set_user_attr("k" * 600, "the column takes 512 characters")
    storage.set_trial_intermediate_value(trial._trial_id, 2**40, 1.0)
    storage.set_trial_intermediate_value(trial._trial_id, 1, 1.0)
    with pytest.raises(
        StorageError, match=r"trial 0 was recorded without .*'kkk.*step 1099511627776"
    ) as caught:
        study.tell(trial, 0.5)
    assert "\n" not in str(caught.value)
    (stored,) = study.get_trials()
    assert (stored.state, stored.value) == (TrialState.COMPLETE, 0.5)
    assert stored.user_attrs["fine"] == 1 and list(stored.params) == ["x"]
    assert stored.intermediate_values == {1: 1.0}
    study.tell(study.ask(), 1.0)
    assert [t.number for t in study.get_trials()] == [0, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_told_trial_survives_a_database_that_comes_back(kind: str, new_opener: Opener, monkeypatch) -> None:
    storage = new_opener(kind)()
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    trial.set_user_attr("key", 1)

    real = writer_module.transaction

    @contextmanager
    def full(*args: Any, **kwargs: Any) -> Iterator[sa.Connection]:
        raise StorageError("storage: the disk is full")
        yield  # pragma: no cover

    monkeypatch.setattr(writer_module, "transaction", full)
    with pytest.raises(StorageError, match="disk is full"):
        study.tell(trial, 1.0)
    monkeypatch.setattr(writer_module, "transaction", real)
    study.tell(trial, 1.0)
    assert [(t.value, t.user_attrs["key"]) for t in study.get_trials()] == [(1.0, 1)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")
def test_a_file_that_became_read_only(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:2]:
        parent.chmod(0o755)
    folder = tmp_path / "shared"
    folder.mkdir()
    storage = open_storage(f"sqlite:///{folder}/study.db")
    study = optuna.create_study(storage=storage, study_name="s")
    study.tell(study.ask(), 1.0)
    (folder / "study.db").chmod(0o444)
    folder.chmod(0o555)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        message = "nothing was raised"
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            study.ask()
        except StorageError as error:
            message = str(error)
        except BaseException as error:
            message = f"not a StorageError: {error!r}"
        os.write(writer, message.encode())
        os._exit(0)
    os.waitpid(child, 0)
    message = os.read(reader, 10_000).decode()
    folder.chmod(0o755)
    (folder / "study.db").chmod(0o644)
    assert message.startswith("storage 'sqlite:///"), message
    assert "\n" not in message and ("writable" in message or "file and its folder" in message)
    assert [t.value for t in study.get_trials()] == [1.0]


def test_a_locked_file_is_waited_for(tmp_path: Path) -> None:
    import sqlite3

    study = optuna.create_study(storage=open_storage(f"sqlite:///{tmp_path}/study.db"))
    trial = study.ask()
    other = sqlite3.connect(tmp_path / "study.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.5, lambda: other.execute("COMMIT")).start()
    study.tell(trial, 1.0)
    assert study.best_value == 1.0


def test_history_waits_too(new_opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.create_study(storage=new_opener("sqlite")())
    study.add_trial(create_trial(value=1.0, user_attrs={"structure": "A"}))
    from zenopt.storage import queries

    real, calls = queries.read_states, []

    def unreliable(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise _lost()
        return real(*args, **kwargs)

    monkeypatch.setattr(queries, "read_states", unreliable)
    assert [r.structure for r in StudyHistory(study).sync()] == ["A"]
