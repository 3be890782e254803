"""Trials whose worker died: found, and put back to WAITING so that the next worker runs them again.

A trial put back keeps its number and whatever parameters were already stored; ``study.ask()`` hands it out before
it creates a new one. So a study killed at any moment and resumed has contiguous numbers and no lost trial.
"""

from __future__ import annotations

import datetime
import json
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from zenopt.storage.retry import patiently
from zenopt.storage.sqlcore import (
    autocommitting,
    engine_of,
    heartbeats,
    system_attrs,
    trials,
    user_attrs,
    write_transaction,
)
from zenopt.storage.workers import WORKER_KEY, Worker, boot_id
from zenopt.storage.writers_servers import writer_for

if TYPE_CHECKING:
    import optuna

SEEN_KEY = "worker_seen"
"""Trial system attribute: Unix time (s) of the last sign of life, in storages without a heartbeat table."""
DEFAULT_GRACE_S = 300.0
_MARK = "requeued at "
_memory_lock = threading.Lock()


@dataclass(frozen=True)
class RunningTrial:
    """What the decision about a RUNNING trial needs.

    Args:
        worker:
            The worker attribute as stored, or None.
        start_time:
            When the trial was last taken, Unix time in seconds.
        beat_age_s:
            Seconds since the last heartbeat, or None where there was none.
    """

    worker: object
    start_time: float
    beat_age_s: float | None

    def is_orphan(self, grace_s: float, *, one_machine: bool = False) -> bool:
        """Whether the worker is dead.

        Args:
            grace_s:
                Age in seconds of the last sign of life beyond which a worker elsewhere is taken for dead.
            one_machine:
                Whether all workers run on this machine: those of an earlier boot are dead then.
        """
        worker = Worker.parse(self.worker)
        if worker is None:
            if isinstance(self.worker, str) and self.worker.startswith(_MARK):
                # Marked by a sweeper that died before it changed the state: nobody has taken the trial since.
                return self.start_time < float(self.worker[len(_MARK) :])
            return self.beat_age_s is not None and self.beat_age_s > grace_s
        if worker.is_here:
            return not worker.is_alive_here()
        if one_machine and worker.boot is not None and worker.boot != boot_id():
            return True
        age_s = self.beat_age_s if self.beat_age_s is not None else time.time() - self.start_time
        return age_s > grace_s


def requeue_orphans(study: optuna.Study, *, grace_s: float = DEFAULT_GRACE_S) -> list[int]:
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

    Returns:
        The numbers of the trials put back, ascending.
    """
    storage = study._storage
    engine = engine_of(storage)
    if engine is not None:
        return patiently(engine, lambda: requeue_in_tables(engine, study._study_id, grace_s))
    candidates = storage.get_all_trials(study._study_id, deepcopy=False, states=(TrialState.RUNNING,))
    if not any(_described(trial).is_orphan(grace_s) for trial in candidates):
        return []
    numbers = []
    with exclusive(storage):
        for candidate in candidates:
            # Read again under the lock: another sweeper may have put it back, and a worker taken it, since.
            trial = storage.get_trial(candidate._trial_id)
            if trial.state != TrialState.RUNNING or not _described(trial).is_orphan(grace_s):
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


def exclusive(storage: BaseStorage) -> AbstractContextManager[None]:
    """Return a context that one process holds at a time, for storages without transactions.

    A gRPC proxy offers no such lock: there the caller's check before each write is all the protection.
    """
    if isinstance(storage, InMemoryStorage):
        return _holding(_memory_lock)
    if isinstance(storage, JournalStorage) and isinstance(storage._backend, JournalFileBackend):
        return _holding_file(JournalFileOpenLock(storage._backend._file_path + ".sweep"))
    return nullcontext()


@contextmanager
def _holding(lock: threading.Lock) -> Iterator[None]:
    with lock:
        yield


@contextmanager
def _holding_file(lock: JournalFileOpenLock) -> Iterator[None]:
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _new_mark() -> str:
    return f"{_MARK}{time.time()}"


def _described(trial: FrozenTrial) -> RunningTrial:
    seen = trial.system_attrs.get(SEEN_KEY)
    start = trial.datetime_start
    return RunningTrial(
        worker=trial.user_attrs.get(WORKER_KEY),
        start_time=start.timestamp() if start is not None else 0.0,
        beat_age_s=None if seen is None else time.time() - float(seen),
    )


def requeue_in_tables(
    engine: sa.Engine, study_id: int, grace_s: float, candidates: Collection[int] | None = None
) -> list[int]:
    """Put the orphans of a study back to WAITING in Optuna's tables; see :func:`requeue_orphans`.

    Args:
        engine:
            Engine of the storage.
        study_id:
            The study to sweep.
        grace_s:
            See :func:`requeue_orphans`.
        candidates:
            Ids of trials to look at, which saves a scan of the study; None for all that are RUNNING.

    Returns:
        The numbers of the trials put back, ascending.
    """
    # SQLite is for one machine: its locks do not work on network file systems.
    one_machine = engine.dialect.name == "sqlite"
    query = (
        sa.select(
            trials.c.trial_id,
            trials.c.number,
            trials.c.datetime_start,
            user_attrs.c.value_json,
            heartbeats.c.heartbeat,
            system_attrs.c.value_json.label("seen_json"),
            # The heartbeat is in the database's clock and time zone; its age can only be told against the same.
            sa.func.now().label("now"),
        )
        .outerjoin(
            user_attrs, (user_attrs.c.trial_id == trials.c.trial_id) & (user_attrs.c.key == WORKER_KEY)
        )
        .outerjoin(heartbeats, heartbeats.c.trial_id == trials.c.trial_id)
        # Workers behind a gRPC proxy cannot reach the heartbeat table.
        .outerjoin(
            system_attrs, (system_attrs.c.trial_id == trials.c.trial_id) & (system_attrs.c.key == SEEN_KEY)
        )
        .where(trials.c.study_id == study_id, trials.c.state == TrialState.RUNNING)
    )
    if candidates is not None:
        query = query.where(trials.c.trial_id.in_(list(candidates)))
    with autocommitting(engine) as connection:
        if not any(
            _described_row(row).is_orphan(grace_s, one_machine=one_machine)
            for row in connection.execute(query)
        ):
            return []
    numbers = []
    with write_transaction(engine, study_id) as connection:
        for row in connection.execute(query).all():
            if not _described_row(row).is_orphan(grace_s, one_machine=one_machine):
                continue
            taken = connection.execute(
                sa.update(trials)
                .where(trials.c.trial_id == row.trial_id, trials.c.state == TrialState.RUNNING)
                .values(state=TrialState.WAITING)
            )
            if taken.rowcount != 1:
                continue
            mark = (WORKER_KEY, json.dumps(_new_mark()))
            writer_for(engine).upsert_user_attrs(connection, row.trial_id, [mark])
            connection.execute(sa.delete(heartbeats).where(heartbeats.c.trial_id == row.trial_id))
            numbers.append(row.number)
    return sorted(numbers)


def _described_row(row: Any) -> RunningTrial:
    start = row.datetime_start
    beat_age_s = None
    if row.heartbeat is not None:
        beat_age_s = (row.now.replace(tzinfo=None) - row.heartbeat.replace(tzinfo=None)).total_seconds()
    elif row.seen_json is not None:
        beat_age_s = time.time() - float(json.loads(row.seen_json))
    return RunningTrial(
        worker=None if row.value_json is None else json.loads(row.value_json),
        start_time=0.0 if start is None else start.replace(tzinfo=datetime.timezone.utc).timestamp(),
        beat_age_s=beat_age_s,
    )
