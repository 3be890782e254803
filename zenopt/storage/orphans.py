"""Trials whose worker died: found, and put back to WAITING so that the next worker runs them again.

A trial put back keeps its number and whatever parameters were already stored; ``study.ask()`` hands it out before
it creates a new one. So a study killed at any moment and resumed has contiguous numbers and no lost trial.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from zenopt.storage.journal import SWEEP_SUFFIX
from zenopt.storage.queries import read_trials
from zenopt.storage.retry import patiently
from zenopt.storage.tables import (
    engine_of,
    heartbeats,
    lock_study,
    reading,
    transaction,
    trials,
    user_attrs,
    write_rows,
)
from zenopt.storage.workers import WORKER_KEY, Worker, boot_id

if TYPE_CHECKING:
    import optuna

SEEN_KEY = "worker_seen"
"""Trial system attribute: Unix time (s) of the last sign of life, in storages without a heartbeat table."""
DEFAULT_GRACE_S = 300.0
_MARK = "requeued at "
_memory_lock = threading.Lock()


@dataclass(frozen=True)
class _Running:
    """A RUNNING trial, and seconds since its last heartbeat in the heartbeat table, or None where there was none."""

    trial: FrozenTrial
    beat_age_s: float | None = None

    def is_orphan(self, grace_s: float, dead: Collection[str] = (), *, one_machine: bool = False) -> bool:
        """Return whether the worker is dead.

        Args:
            grace_s:
                Age in seconds of the last sign of life beyond which a worker elsewhere is taken for dead.
            dead:
                Workers that are known to be dead.
            one_machine:
                Whether the database is a file of this machine: workers of an earlier boot are dead then.
        """
        start = self.trial.datetime_start
        started_s = 0.0 if start is None else start.timestamp()
        beat_age_s, seen = self.beat_age_s, self.trial.system_attrs.get(SEEN_KEY)
        if beat_age_s is None and seen is not None:
            beat_age_s = time.time() - float(seen)
        name = self.trial.user_attrs.get(WORKER_KEY)
        worker = Worker.parse(name)
        if worker is None:
            if isinstance(name, str) and name.startswith(_MARK):
                # Marked by a sweeper that died before it changed the state: nobody has taken the trial since.
                return started_s < float(name[len(_MARK) :])
            return beat_age_s is not None and beat_age_s > grace_s
        if worker.is_here:
            return not worker.is_alive_here()
        # Behind a gRPC server, workers of other machines write into the file as well.
        if one_machine and worker.is_of_this_machine and worker.boot != boot_id():
            return True
        if name in dead:
            return True
        return (beat_age_s if beat_age_s is not None else time.time() - started_s) > grace_s


def requeue_orphans(
    study: optuna.Study, *, grace_s: float = DEFAULT_GRACE_S, dead: Collection[str] = ()
) -> list[int]:
    """Put the RUNNING trials of dead workers back to WAITING.

    A worker of this machine is dead when no process has its process id and start time. A worker of another
    machine, or of this one before a reboot, is dead when the trial's last sign of life (its heartbeat, or its start
    where there is none) is older than ``grace_s``. A trial that names no worker was started by stock Optuna: it is
    put back only if it has a heartbeat and that is too old. Several processes may call this at the same time: each
    trial is put back once, and never taken from a worker that has already started it again.

    Args:
        study:
            The study to sweep.
        grace_s:
            Age in seconds of the last sign of life beyond which a worker elsewhere is taken for dead.
        dead:
            Workers elsewhere that are known to be dead, as text.

    Returns:
        The numbers of the trials put back, ascending.
    """
    storage = study._storage
    engine = engine_of(storage)
    if engine is not None:
        return patiently(engine, lambda: requeue_in_tables(engine, study._study_id, grace_s, dead))
    candidates = storage.get_all_trials(study._study_id, deepcopy=False, states=(TrialState.RUNNING,))
    if not any(_Running(trial).is_orphan(grace_s, dead) for trial in candidates):
        return []
    numbers = []
    with exclusive(storage):
        for candidate in candidates:
            # Read again under the lock: another sweeper may have put it back, and a worker taken it, since.
            trial = storage.get_trial(candidate._trial_id)
            if trial.state != TrialState.RUNNING or not _Running(trial).is_orphan(grace_s, dead):
                continue
            try:
                storage.set_trial_user_attr(trial._trial_id, WORKER_KEY, _new_mark())
                storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
            except UpdateFinishedTrialError:
                continue
            numbers.append(trial.number)
    return sorted(numbers)


def put_back(study: optuna.Study, trial: optuna.Trial) -> None:
    """Put a RUNNING trial of this process back to WAITING; it keeps its number, parameters and attributes."""
    study._storage.set_trial_user_attr(trial._trial_id, WORKER_KEY, _new_mark())
    study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)


@contextmanager
def exclusive(storage: BaseStorage) -> Iterator[None]:
    """Hold a lock that one process holds at a time, for storages without transactions.

    A gRPC proxy offers no such lock: there the caller's check before each write is all the protection.
    """
    if isinstance(storage, InMemoryStorage):
        with _memory_lock:
            yield
    elif isinstance(storage, JournalStorage) and isinstance(storage._backend, JournalFileBackend):
        lock = JournalFileOpenLock(storage._backend._file_path + SWEEP_SUFFIX)
        lock.acquire()
        try:
            yield
        finally:
            lock.release()
    else:
        yield


def requeue_in_tables(
    engine: sa.Engine, study_id: int, grace_s: float, dead: Collection[str] = ()
) -> list[int]:
    """Put the orphans of a study back to WAITING in Optuna's tables; see :func:`requeue_orphans`."""
    # SQLite is for one machine: its locks do not work on network file systems.
    one_machine = engine.dialect.name == "sqlite"

    def orphans(connection: sa.Connection) -> list[FrozenTrial]:
        running = _read_running(connection, study_id)
        return [item.trial for item in running if item.is_orphan(grace_s, dead, one_machine=one_machine)]

    with reading(engine) as connection:
        if not orphans(connection):
            return []
    numbers = []
    with transaction(engine) as connection:
        lock_study(connection, study_id)
        for trial in orphans(connection):
            trial_id = trial._trial_id
            taken = connection.execute(
                sa.update(trials)
                .where(trials.c.trial_id == trial_id, trials.c.state == TrialState.RUNNING)
                .values(state=TrialState.WAITING)
            )
            if taken.rowcount != 1:
                continue
            mark = {"trial_id": trial_id, "key": WORKER_KEY, "value_json": f'"{_new_mark()}"'}
            write_rows(connection, user_attrs, [mark])
            connection.execute(sa.delete(heartbeats).where(heartbeats.c.trial_id == trial_id))
            numbers.append(trial.number)
    return sorted(numbers)


def _read_running(connection: sa.Connection, study_id: int) -> list[_Running]:
    query = sa.select(trials.c.trial_id).where(
        trials.c.study_id == study_id, trials.c.state == TrialState.RUNNING
    )
    ids = connection.execute(query).scalars().all()
    # A heartbeat is in the database's clock and time zone; its age can only be told against the same.
    beats = sa.select(heartbeats.c.trial_id, heartbeats.c.heartbeat, sa.func.now())
    ages = {
        row[0]: (row[2].replace(tzinfo=None) - row[1].replace(tzinfo=None)).total_seconds()
        for row in connection.execute(beats.where(heartbeats.c.trial_id.in_(ids)))
    }
    found = read_trials(connection, study_id, ids, {})
    return [
        _Running(trial, ages.get(trial._trial_id)) for trial in found if trial.state == TrialState.RUNNING
    ]


def _new_mark() -> str:
    return f"{_MARK}{time.time()}"
