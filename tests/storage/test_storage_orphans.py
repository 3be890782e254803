from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from zenopt.storage import WORKER_KEY, Worker, current_worker, open_storage, requeue_orphans
from zenopt.storage.heartbeat import Heartbeat
from zenopt.storage.tables import engine_of
from zenopt.storage.workers import host_name, process_start
from zenopt.storage.write_behind import WriteBehindStorage

KINDS = [
    "sqlite",
    "sqlite stock",
    "journal",
    "postgresql",
    "postgresql stock",
    pytest.param("mysql", marks=pytest.mark.slow),
]


Opener = Callable[..., Callable[[], BaseStorage]]


def _open(new_opener: Opener, kind: str) -> Callable[[], optuna.Study]:
    """Return a function that opens the study anew, as another worker would."""
    open_again = new_opener(kind)
    return lambda: optuna.create_study(storage=open_again(), study_name="s", load_if_exists=True)


def _give_to(study: optuna.Study, trial: optuna.Trial, worker: str) -> None:
    study._storage.set_trial_user_attr(trial._trial_id, WORKER_KEY, worker)
    if isinstance(study._storage, WriteBehindStorage):
        study._storage.publish(trial._trial_id)


def _beat(study: optuna.Study, trial: optuna.Trial) -> None:
    if isinstance(study._storage, WriteBehindStorage):
        study._storage._backend.record_heartbeat(trial._trial_id)
    else:
        study._storage._beat(trial._trial_id)


def _dead_worker() -> str:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    worker = Worker(host_name(), process.pid, process_start(process.pid) or "")
    process.kill()
    process.wait()
    return str(worker)


def test_identity() -> None:
    worker = current_worker()
    assert Worker.parse(str(worker)) == worker
    assert worker.pid == os.getpid() and worker.is_here and worker.is_alive_here()
    assert not Worker(worker.host, worker.pid, "another time").is_alive_here(), (
        "a recycled process id is someone else"
    )
    assert Worker.parse("nonsense") is None and Worker.parse(None) is None and Worker.parse("a:b:c") is None
    assert Worker.parse("host/7:12:34@5") == Worker("host/7", 12, "34@5")


def test_machines_of_one_name_are_told_apart(new_opener: Opener) -> None:
    here = current_worker()
    if here.boot is None:
        pytest.skip("this system has no boot id")
    clone = Worker(here.host.replace(here.boot, "0badb007"), here.pid, here.start)
    assert not clone.is_here
    for kind, expected in (("journal", []), ("sqlite", [0])):
        study = _open(new_opener, kind)()
        _give_to(study, study.ask(), str(clone))
        # A SQLite file has no workers on other machines: that one ran here, before a reboot.
        assert requeue_orphans(study) == expected


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_a_worker_of_another_machine_is_dead_when_its_driver_says_so(kind: str, new_opener: Opener) -> None:
    # A SQLite file has such workers, too: behind a gRPC server.
    elsewhere = str(Worker("elsewhere/0badb007", 7, "1"))
    study = _open(new_opener, kind)()
    _give_to(study, study.ask(), elsewhere)
    assert requeue_orphans(study) == []
    assert requeue_orphans(study, dead=["elsewhere/0badb007:8:1"]) == []
    assert requeue_orphans(study, dead=[elsewhere]) == [0]


def test_a_worker_of_this_machine_that_lives_is_not_dead_whatever_is_said(new_opener: Opener) -> None:
    study = _open(new_opener, "sqlite")()
    study.ask()
    assert requeue_orphans(study, dead=[str(current_worker())]) == []


def test_a_zombie_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    deadline = time.monotonic() + 120
    while process_start(process.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process_start(process.pid) is None
    process.wait()


@pytest.mark.parametrize("kind", KINDS)
def test_running_trials_name_their_worker(kind: str, new_opener: Opener) -> None:
    study = _open(new_opener, kind)()
    trial = study.ask()
    stored = study.get_trials(deepcopy=False)[0]
    assert stored.state == TrialState.RUNNING
    assert stored.user_attrs[WORKER_KEY] == str(current_worker())
    study.tell(trial, 1.0)
    study.enqueue_trial({"x": 0.5})
    popped = study.ask()
    assert popped.number == 1
    assert study.get_trials(deepcopy=False)[1].user_attrs[WORKER_KEY] == str(current_worker())


@pytest.mark.parametrize("kind", KINDS)
def test_orphans_come_back_with_number_and_params(kind: str, new_opener: Opener) -> None:
    open_study = _open(new_opener, kind)
    study = open_study()
    for _ in range(2):
        study.tell(study.ask(), 0.0)
    lost = study.ask()
    x = lost.suggest_float("x", 0, 1)
    kept = study.ask()
    _give_to(study, lost, _dead_worker())

    resumed = open_study()
    assert requeue_orphans(resumed) == [2]
    assert requeue_orphans(resumed) == []
    assert [t.state for t in resumed.get_trials(deepcopy=False)][2:] == [
        TrialState.WAITING,
        TrialState.RUNNING,
    ]
    again = resumed.ask()
    assert again.number == 2
    assert again.suggest_float("x", 0, 1) == x
    assert requeue_orphans(resumed) == [], "a trial taken again has a live worker"
    resumed.tell(again, 2.0)
    study.tell(kept, 3.0)
    assert [t.value for t in resumed.get_trials()] == [0.0, 0.0, 2.0, 3.0]
    assert resumed.ask().number == 4


@pytest.mark.parametrize("kind", KINDS)
def test_workers_elsewhere_are_judged_by_their_signs_of_life(
    kind: str, new_opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = _open(new_opener, kind)()
    silent, beating = study.ask(), study.ask()
    for trial in (silent, beating):
        _give_to(study, trial, "elsewhere:1:2")
    assert requeue_orphans(study) == [], "young trials are left alone"
    # An hour later; heartbeats in a table are in the database's time.
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600.0)
    _beat(study, beating)
    assert requeue_orphans(study, grace_s=1800.0) == [0]


def test_trials_of_stock_workers_need_a_stale_heartbeat(new_opener: Opener) -> None:
    open_study = _open(new_opener, "sqlite")
    study = open_study()
    stock = optuna.load_study(storage=str(study._storage.engine.url), study_name="s")
    unknown, stale = stock.ask(), stock.ask()
    _beat(study, stale)
    time.sleep(1.1)
    assert requeue_orphans(study, grace_s=0.01) == [stale.number]
    assert study.get_trials()[unknown.number].state == TrialState.RUNNING


def test_a_worker_sweeps_by_itself(new_opener: Opener) -> None:
    study = _open(new_opener, "sqlite")()
    lost = study.ask()
    _give_to(study, lost, _dead_worker())
    resumed = optuna.load_study(storage=open_storage(str(study._storage.engine.url)), study_name="s")
    assert [resumed.ask().number, resumed.ask().number] == [0, 1]


def test_a_worker_that_lost_its_trial_cannot_tell_it(new_opener: Opener) -> None:
    open_study = _open(new_opener, "sqlite")
    study, other = open_study(), open_study()
    trial = study.ask()
    _give_to(study, trial, "elsewhere:1:2")
    assert requeue_orphans(other, grace_s=-1.0) == [0]
    with pytest.raises(UpdateFinishedTrialError, match="taken from this worker"):
        study.tell(trial, 1.0)
    again = other.ask()
    assert again.number == 0
    other.tell(again, 2.0)
    assert [t.value for t in study.get_trials()] == [2.0]


# Without "sqlite stock": SQLite has no row locks, and there two stock workers can take one WAITING trial.
@pytest.mark.parametrize("kind", ["sqlite", "journal", "postgresql", "postgresql stock"])
def test_two_sweepers_never_take_a_trial_twice(kind: str, new_opener: Opener) -> None:
    open_study = _open(new_opener, kind)
    study = open_study()
    dead = _dead_worker()
    for _ in range(6):
        _give_to(study, study.ask(), dead)
    found: list[int] = []
    asked: list[int] = []
    lock = threading.Lock()
    barrier = threading.Barrier(3)

    def resume() -> None:
        mine = open_study()
        barrier.wait()
        numbers = requeue_orphans(mine)
        taken = []
        for _ in range(2):
            taken.append(mine.ask().number)
            numbers += requeue_orphans(mine)
        with lock:
            found.extend(numbers)
            asked.extend(taken)

    threads = [threading.Thread(target=resume) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(6))
    assert len(set(asked)) == 6
    assert requeue_orphans(study) == []


def test_a_sweeper_that_died_half_way_is_no_dead_end(new_opener: Opener) -> None:
    study = _open(new_opener, "journal")()
    trial = study.ask()
    study._storage.set_trial_user_attr(trial._trial_id, WORKER_KEY, f"requeued at {time.time() + 1}")
    assert requeue_orphans(study) == [0]
    assert study.ask().number == 0


def test_heartbeats_are_of_running_trials_only() -> None:
    beats: list[int] = []
    heartbeat = Heartbeat(beats.append, 0.02)
    heartbeat.add(1)
    heartbeat.add(2)

    def wait_for_beats_of(trial_id: int, count: int) -> None:
        known, deadline = beats.count(trial_id), time.monotonic() + 120
        while beats.count(trial_id) < known + count:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    wait_for_beats_of(1, 2)
    wait_for_beats_of(2, 2)
    heartbeat.remove(1)
    # A round that was under way is over when the next but one has come.
    wait_for_beats_of(2, 2)
    beats.clear()
    wait_for_beats_of(2, 5)
    heartbeat.stop()
    assert set(beats) == {2}


@pytest.mark.parametrize("write_behind", [True, False])
def test_heartbeat_is_recorded_by_the_storage(write_behind: bool, new_url: Callable[[str], str]) -> None:
    import sqlalchemy as sa

    storage = open_storage(new_url("sqlite"), heartbeat_interval=0.05, write_behind=write_behind)
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    engine = engine_of(storage)
    assert engine is not None
    deadline = time.monotonic() + 120
    count = 0
    while not count and time.monotonic() < deadline:
        time.sleep(0.05)
        with engine.connect() as connection:
            count = connection.execute(sa.text("SELECT COUNT(*) FROM trial_heartbeats")).scalar_one()
    study.tell(trial, 1.0)
    storage._heartbeat.stop()
    assert count == 1
