from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from ports import free_port

from zenopt.core.errors import StorageError
from zenopt.storage import (
    WORKER_KEY,
    StudyHistory,
    Worker,
    count_by_state,
    current_worker,
    open_storage,
    requeue_orphans,
    serve,
    top,
)

pytest.importorskip("grpc", reason="grpcio is not installed")


def _serve(url: str, port: int) -> subprocess.Popen[bytes]:
    script = f"from zenopt.storage import serve; serve({url!r}, port={port})"
    _servers.append(subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL))
    return _servers[-1]


_servers: list[subprocess.Popen[bytes]] = []


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A served SQLite storage: the client's URL, and the file's."""
    port, url = free_port(), f"sqlite:///{tmp_path}/study.db"
    server = _serve(url, port)
    yield f"grpc://127.0.0.1:{port}", url
    server.send_signal(signal.SIGKILL)
    server.wait()


def test_workers_behind_a_server(served: tuple[str, str]) -> None:
    grpc_url, url = served
    storage = open_storage(grpc_url, wait_s=300.0)
    study = optuna.create_study(storage=storage, study_name="s", direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    history = StudyHistory(study)
    assert len(history.sync()) == 3
    trial, other = study.ask(), study.ask()
    assert history.claim(trial, "A") is None
    owner = StudyHistory(study).claim(other, "A")
    assert owner is not None and owner.number == trial.number
    assert count_by_state(study)[TrialState.RUNNING] == 2
    assert top(study, 1)[0].value == study.best_value
    # A client that was sent to another process knows the database, too.
    assert pickle.loads(pickle.dumps(storage)).engine.dialect.name == "sqlite"

    # The trial's worker is the client, not the server, also for those who look at the database itself.
    inside = optuna.load_study(storage=open_storage(url, heartbeat_interval=None), study_name="s")
    assert inside.trials[3].user_attrs[WORKER_KEY] == str(current_worker())
    assert requeue_orphans(inside) == []
    dead = Worker(current_worker().host, os.getpid(), "another start")
    inside._storage.set_trial_user_attr(trial._trial_id, WORKER_KEY, str(dead))
    elsewhere = Worker("elsewhere", 1, "1")
    inside._storage.set_trial_user_attr(other._trial_id, WORKER_KEY, str(elsewhere))
    study._storage._backend.record_heartbeat(other._trial_id)
    assert requeue_orphans(inside, grace_s=30.0) == [3]
    # A client of another version, or of Optuna's own kind.
    plain = optuna.load_study(storage=open_storage(grpc_url, write_behind=False), study_name="s")
    again = plain.ask()
    assert again.number == 3
    plain.tell(again, 1.0)
    assert inside.trials[3].value == 1.0


@pytest.mark.slow
def test_a_trial_outlives_its_server(tmp_path: Path) -> None:
    port, url = free_port(), f"sqlite:///{tmp_path}/study.db"
    server = _serve(url, port)
    try:
        storage = open_storage(f"grpc://127.0.0.1:{port}", wait_s=300.0)
        study = optuna.create_study(storage=storage, study_name="s")
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        server.kill()
        server.wait()
        trial.set_user_attr("key", "value")
        server = _serve(url, port)
        study.tell(trial, 1.0)
        study.set_user_attr("is_over", True)
        (stored,) = optuna.load_study(storage=open_storage(url), study_name="s").trials
        assert (stored.params, stored.value, stored.user_attrs["key"]) == ({"x": x}, 1.0, "value")
    finally:
        server.kill()
        server.wait()


@pytest.mark.slow
def test_a_server_without_operations(served: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zenopt.storage.served.METHOD", "/zenopt.Tables/Unknown")
    from zenopt.storage.served import StampedGrpcStorage

    storage = open_storage(served[0], wait_s=300.0)
    assert isinstance(storage, StampedGrpcStorage)


@pytest.mark.slow
@pytest.mark.parametrize("write_behind", [True, False])
def test_why_a_server_has_failed_is_said_in_one_line(served: tuple[str, str], write_behind: bool) -> None:
    storage = open_storage(served[0], wait_s=300.0, write_behind=write_behind, heartbeat_interval=None)
    study = optuna.create_study(storage=storage, study_name="s")
    file = Path(served[1].removeprefix("sqlite:///"))
    file.rename(file.with_suffix(".old"))
    with pytest.raises(StorageError, match=r"grpc://.*: the server failed: .*deleted or replaced .*rescued-"):
        study.set_user_attr("key", "value")
    with pytest.raises(KeyError):
        storage.get_study_name_from_id(99)


@pytest.mark.slow
def test_a_machine_that_says_nothing_any_more_is_away(
    served: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from zenopt.storage import retry
    from zenopt.storage import served as clients

    quick = [(name, 500 if name.startswith("grpc.keepalive_") else own) for name, own in clients.OPTIONS]
    monkeypatch.setattr(clients, "OPTIONS", quick)
    storage = open_storage(served[0], wait_s=300.0, heartbeat_interval=None)
    study = optuna.create_study(storage=storage, study_name="s")
    (server,) = (own for own in _servers if own.poll() is None)
    # As when it loses its power: its connections stay open.
    server.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(retry, "PATIENCE_S", 0.0)
    said: list[str] = []

    def ask() -> None:
        try:
            study.ask()
        except StorageError as error:
            said.append(str(error))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(120.0)
    assert said and "no answer for" in said[0]


def test_what_cannot_be_served(tmp_path: Path) -> None:
    for url in ("memory:", f"{tmp_path}/a.log", "grpc://127.0.0.1:1"):
        with pytest.raises(StorageError, match="serve SQLite, PostgreSQL or MySQL"):
            serve(url)
    with pytest.raises(StorageError, match="port must be between"):
        serve(f"{tmp_path}/a.db", port=0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(StorageError, match=r"cannot listen on 127\.0\.0\.1"):
            serve(f"{tmp_path}/a.db", port=taken.getsockname()[1])
