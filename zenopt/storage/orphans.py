"""Trials whose worker died: found, and put back to WAITING so that the next worker runs them again.

A trial put back keeps its number and whatever parameters were already stored; ``study.ask()`` hands it out before
it creates a new one. So a study killed at any moment and resumed has contiguous numbers and no lost trial.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from zenopt.storage.journal import SWEEP_SUFFIX
from zenopt.storage.operations import Engine, ServedTables, operation
from zenopt.storage.queries import unix_s
from zenopt.storage.retry import patiently
from zenopt.storage.tables import (
    engine_of,
    heartbeats,
    lock_study,
    reading,
    system_attrs,
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
    """A RUNNING trial: who runs it, since when, and its last signs of life, where there were any.

    Times are Unix times in seconds; that in the heartbeat table is told by its age.
    """

    trial_id: int
    number: int
    name: object
    started_s: float
    seen_s: float | None = None
    beat_age_s: float | None = None

    @classmethod
    def of(cls, trial: FrozenTrial) -> _Running:
        """Return the trial of a storage without a heartbeat table."""
        start, attrs = trial.datetime_start, trial.user_attrs
        started_s = 0.0 if start is None else start.timestamp()
        return cls(
            trial._trial_id, trial.number, attrs.get(WORKER_KEY), started_s, trial.system_attrs.get(SEEN_KEY)
        )

    def is_still(self, other: _Running) -> bool:
        """Return whether a later look shows the same worker at the same work, without another sign of life."""
        return replace(self, beat_age_s=None) == replace(other, beat_age_s=None) and (
            self.beat_age_s == other.beat_age_s
            if self.beat_age_s is None or other.beat_age_s is None
            else other.beat_age_s >= self.beat_age_s
        )

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
        beat_age_s, name = self.beat_age_s, self.name
        if beat_age_s is None and self.seen_s is not None:
            # A sign of life may be of an earlier worker.
            beat_age_s = time.time() - max(float(self.seen_s), self.started_s)
        worker = Worker.parse(name)
        if worker is None:
            if isinstance(name, str) and name.startswith(_MARK):
                # Marked by a sweeper that died before it changed the state: nobody has taken the trial since.
                return self.started_s < float(name[len(_MARK) :])
            return beat_age_s is not None and beat_age_s > grace_s
        if worker.is_here:
            return not worker.is_alive_here()
        # Behind a gRPC server, workers of other machines write into the file as well.
        if one_machine and worker.is_of_this_machine and worker.boot != boot_id():
            return True
        if name in dead:
            return True
        return (beat_age_s if beat_age_s is not None else time.time() - self.started_s) > grace_s


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
    if not any(_Running.of(trial).is_orphan(grace_s, dead) for trial in candidates):
        return []
    numbers = []
    with exclusive(storage):
        for candidate in candidates:
            # Read again under the lock: another sweeper may have put it back, and a worker taken it, since.
            trial = storage.get_trial(candidate._trial_id)
            if trial.state != TrialState.RUNNING or not _Running.of(trial).is_orphan(grace_s, dead):
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


def requeue_in_tables(engine: Engine, study_id: int, grace_s: float, dead: Collection[str] = ()) -> list[int]:
    """Put the orphans of a study back to WAITING in Optuna's tables; see :func:`requeue_orphans`."""
    # SQLite is for one machine: its locks do not work on network file systems.
    one_machine = not isinstance(engine, ServedTables) and engine.dialect.name == "sqlite"
    with reading(engine) as connection:
        running = [_Running(*row) for row in read_running(connection, study_id)]
    orphans = [item for item in running if item.is_orphan(grace_s, dead, one_machine=one_machine)]
    if not orphans:
        return []
    with transaction(engine) as connection:
        return put_back_in_tables(connection, study_id, [astuple(item) for item in orphans])


@operation()
def read_running(connection: sa.Connection, study_id: int) -> list[tuple[Any, ...]]:
    """Return the RUNNING trials of a study, each as the fields of :class:`_Running`."""
    t = trials.c
    is_running = (t.study_id == study_id) & (t.state == TrialState.RUNNING)
    rows = connection.execute(sa.select(t.trial_id, t.number, t.datetime_start).where(is_running)).all()
    ids = [row[0] for row in rows]

    def texts(table: sa.Table, key: str) -> dict[int, Any]:
        query = sa.select(table.c.trial_id, table.c.value_json).where(table.c.key == key)
        found = connection.execute(query.where(table.c.trial_id.in_(ids)))
        return {trial_id: json.loads(text) for trial_id, text in found}

    names, seen = texts(user_attrs, WORKER_KEY), texts(system_attrs, SEEN_KEY)
    # A heartbeat is in the database's clock and time zone; its age can only be told against the same.
    beats = sa.select(heartbeats.c.trial_id, heartbeats.c.heartbeat, sa.func.now())
    ages = {
        row[0]: (row[2].replace(tzinfo=None) - row[1].replace(tzinfo=None)).total_seconds()
        for row in connection.execute(beats.where(heartbeats.c.trial_id.in_(ids)))
    }
    return [
        (trial_id, number, names.get(trial_id), unix_s(start) or 0.0, seen.get(trial_id), ages.get(trial_id))
        for trial_id, number, start in rows
    ]


@operation(writes=True)
def put_back_in_tables(
    connection: sa.Connection, study_id: int, orphans: Sequence[Sequence[Any]]
) -> list[int]:
    """Put RUNNING trials back to WAITING if they are still as :func:`read_running` has shown them.

    Returns:
        The numbers of the trials put back, ascending.
    """
    lock_study(connection, study_id)
    seen = {item.trial_id: item for item in (_Running(*row) for row in orphans)}
    numbers = []
    for item in (_Running(*row) for row in read_running(connection, study_id)):
        trial_id = item.trial_id
        if trial_id not in seen or not seen[trial_id].is_still(item):
            continue
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
        numbers.append(item.number)
    return sorted(numbers)


def _new_mark() -> str:
    return f"{_MARK}{time.time()}"
