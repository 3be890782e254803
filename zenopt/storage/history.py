"""A study's trials as seen by one worker: read once, then only what is new or has changed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, TypeVar

from optuna.study import StudyDirection
from optuna.trial import TrialState

from zenopt.storage import slim
from zenopt.storage.orphans import exclusive
from zenopt.storage.records import STRUCTURE_KEY, TrialRecord
from zenopt.storage.retry import patiently
from zenopt.storage.sqlcore import autocommitting, engine_of, write_transaction
from zenopt.storage.writers import Writer
from zenopt.storage.writers_servers import writer_for

if TYPE_CHECKING:
    import optuna
    import sqlalchemy as sa

T = TypeVar("T")


class StudyHistory:
    """The trials of a study, kept up to date with little reading; works with any storage.

    It keeps the highest trial id it has seen and the ids it saw unfinished, and asks for nothing else. On SQL
    storages it reads only the columns it needs.

    Example::

        history = StudyHistory(study)
        for record in history.sync():
            print(record.number, record.state, record.value, record.structure)

    Args:
        study:
            The study to follow.
        keys:
            User attributes to read along; ``structure`` always is.
        identity:
            User attribute that is equal for trials of which only one need be evaluated.
    """

    def __init__(
        self, study: optuna.Study, keys: Collection[str] = (), *, identity: str = STRUCTURE_KEY
    ) -> None:
        self.study = study
        self.keys = tuple(dict.fromkeys((STRUCTURE_KEY, identity, *keys)))
        self._identity = identity
        self._engine = engine_of(study._storage)
        self._writer = writer_for(self._engine) if self._engine is not None else None
        self._watermark = -1
        self._unfinished: dict[int, TrialRecord] = {}
        self._pending: list[TrialRecord] = []
        self._by_identity: dict[str, TrialRecord] = {}
        self._running: dict[int, TrialRecord] = {}
        self._lock = threading.RLock()

    def sync(self) -> list[TrialRecord]:
        """Return the trials that are new or have changed since the last call, by ascending id.

        On SQL storages the records carry no parameters (:meth:`top` and :meth:`with_params` read them); on
        others they do, at no cost.
        """
        with self._lock:
            if self._engine is None:
                self._absorb(self._read_generic())
            else:
                self._absorb(_reading(self._engine, self._read_slim))
            # What claim() read in between was not yet returned to anyone.
            pending, self._pending = self._pending, []
            latest = {record.trial_id: record for record in pending}
            return [latest[trial_id] for trial_id in sorted(latest)]

    def top(self, count: int) -> list[TrialRecord]:
        """Return the ``count`` best feasible COMPLETE trials with parameters, best first."""
        return top(self.study, count, self.keys)

    def count_by_state(self) -> dict[TrialState, int]:
        """Return the number of trials in each state."""
        return count_by_state(self.study)

    def with_params(self, records: list[TrialRecord]) -> list[TrialRecord]:
        """Return the records with their parameters."""
        missing = [record for record in records if record.params is None]
        if not missing or self._engine is None:
            return records
        found = _reading(
            self._engine, lambda connection: slim.add_params(connection, self._tables(), missing)
        )
        read = {record.trial_id: record for record in found}
        return [read.get(record.trial_id, record) for record in records]

    def find(self, identity: str, *, other_than: int | None = None) -> TrialRecord | None:
        """Return what the last :meth:`sync` knew of an evaluation.

        Args:
            identity:
                What the trial is about to evaluate, e.g. a structure string.
            other_than:
                Number of a trial to leave out: the one that asks.

        Returns:
            The first finished trial with this identity and a value, else a trial that is RUNNING with it (its
            worker published it through :meth:`claim`), else None.
        """
        with self._lock:
            record = self._by_identity.get(identity)
            if record is not None and record.number != other_than:
                return record
            running = (
                r
                for r in self._running.values()
                if r.user_attrs.get(self._identity) == identity and r.number != other_than
            )
            return min(running, key=lambda r: r.number, default=None)

    def claim(self, trial: optuna.Trial, identity: str) -> TrialRecord | None:
        """Publish that ``trial`` is about to make an evaluation, unless another trial has or does.

        Of several workers that claim the same one at the same moment exactly one gets it (through a gRPC
        proxy, which has no transactions, nearly always).

        Args:
            trial:
                The running trial; on success its user attribute is set and visible to all workers.
            identity:
                What the trial is about to evaluate, e.g. a structure string.

        Returns:
            None if the trial now owns it, else the record of the trial that does: finished with a
            value that can be reused, or still RUNNING.
        """
        with self._lock:
            known = self.find(identity, other_than=trial.number)
            if known is not None and known.state != TrialState.RUNNING:
                return known
            if self._engine is not None:
                return self._claim_in_tables(self._engine, trial, identity)
            with exclusive(self.study._storage):
                self._absorb(self._read_generic())
                known = self.find(identity, other_than=trial.number)
                if known is None:
                    trial.set_user_attr(self._identity, identity)
            return known

    def _claim_in_tables(self, engine: sa.Engine, trial: optuna.Trial, identity: str) -> TrialRecord | None:
        def claim() -> TrialRecord | None:
            with write_transaction(engine, self.study._study_id) as connection:
                self._absorb(self._read_slim(connection))
                known = self.find(identity, other_than=trial.number)
                if known is None:
                    row = (self._identity, json.dumps(identity))
                    self._tables().upsert_user_attrs(connection, trial._trial_id, [row])
            return known

        known = patiently(engine, claim)
        if known is None:
            # The storage writes the same value once more when the trial is told; this keeps its own view right.
            trial.set_user_attr(self._identity, identity)
        return known

    def _read_slim(self, connection: sa.Connection) -> list[TrialRecord]:
        return slim.read_changes(
            connection, self._tables(), self.study._study_id, self.keys, self._watermark, self._unfinished
        )

    def _tables(self) -> Writer:
        assert self._writer is not None
        return self._writer

    def _read_generic(self) -> list[TrialRecord]:
        found = self.study._storage.get_all_trials(self.study._study_id, deepcopy=False)
        # Some storages order by number, some by id, which differ only for the watermark's sake.
        return [
            TrialRecord.of(trial, self.keys)
            for trial in sorted(found, key=lambda trial: trial._trial_id)
            if trial._trial_id > self._watermark or trial._trial_id in self._unfinished
        ]

    def _absorb(self, records: list[TrialRecord]) -> None:
        for record in records:
            self._watermark = max(self._watermark, record.trial_id)
            before = self._unfinished.pop(record.trial_id, None)
            self._running.pop(record.trial_id, None)
            if not record.state.is_finished():
                self._unfinished[record.trial_id] = record
                if record.state == TrialState.RUNNING and self._identity in record.user_attrs:
                    self._running[record.trial_id] = record
            elif self._identity in record.user_attrs and record.values is not None:
                self._by_identity.setdefault(record.user_attrs[self._identity], record)
            if before is None or not before.is_same_as(record):
                self._pending.append(record)


def top(study: optuna.Study, count: int, keys: Collection[str] = (STRUCTURE_KEY,)) -> list[TrialRecord]:
    """Return the ``count`` best feasible COMPLETE trials of a single-objective study with parameters, best first."""
    engine = engine_of(study._storage)
    direction = study.direction
    if engine is not None:
        writer = writer_for(engine)
        return _reading(engine, lambda c: slim.read_top(c, writer, study._study_id, direction, count, keys))
    sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    records = [record for trial in complete if (record := TrialRecord.of(trial, keys)).is_feasible]
    return sorted(records, key=lambda record: (sign * (record.value or 0.0), record.number))[:count]


def count_by_state(study: optuna.Study) -> dict[TrialState, int]:
    """Return the number of trials of ``study`` in each state; states without trials are 0."""
    engine = engine_of(study._storage)
    if engine is not None:
        return _reading(engine, lambda connection: slim.count_states(connection, study._study_id))
    counts = dict.fromkeys(TrialState, 0)
    for trial in study.get_trials(deepcopy=False):
        counts[trial.state] += 1
    return counts


def _reading(engine: sa.Engine, read: Callable[[sa.Connection], T]) -> T:
    def connect_and_read() -> T:
        with autocommitting(engine) as connection:
            return read(connection)

    return patiently(engine, connect_and_read)
