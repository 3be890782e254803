"""A study's trials as seen by one worker: read once, then only what is new or has changed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from zenopt.core.errors import StorageError
from zenopt.storage import queries
from zenopt.storage.buffer import Rows
from zenopt.storage.operations import Engine, operation
from zenopt.storage.orphans import exclusive
from zenopt.storage.records import STRUCTURE_KEY, TrialRecord
from zenopt.storage.retry import patiently
from zenopt.storage.tables import engine_of, lock_study, reading, transaction, user_attrs, write_rows
from zenopt.storage.write_behind import WriteBehindStorage
from zenopt.storage.writer import REFUSALS, insert_rows

if TYPE_CHECKING:
    import optuna
    import sqlalchemy as sa
    from optuna.distributions import BaseDistribution

T = TypeVar("T")
# Trials read in one query.
_CHUNK = 400


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
        self._newest = -1
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
                study_id = self.study._study_id
                self._absorb(_read(self._engine, lambda c: queries.read_changes(c, study_id, *self._seen())))
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
        study_id = self.study._study_id
        found = _read(self._engine, lambda connection: queries.read_params(connection, study_id, missing))
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

        Of several workers that claim the same one at the same moment exactly one gets it (through Optuna's gRPC
        proxy, which has no transactions, nearly always). What is known of the trial so far is written with it.

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

    def _claim_in_tables(self, engine: Engine, trial: optuna.Trial, identity: str) -> TrialRecord | None:
        storage, study_id, trial_id = self.study._storage, self.study._study_id, trial._trial_id

        def claim(rows: Rows) -> TrialRecord | None:
            rivals = [
                record.trial_id
                for record in self._running.values()
                if record.user_attrs[self._identity] == identity and record.trial_id != trial_id
            ]
            wanted = {"trial_id": trial_id, "key": self._identity, "value_json": json.dumps(identity)}
            with transaction(engine) as connection:
                seen = claim_identity(connection, study_id, wanted, rivals, rows, self._seen())
            self._absorb(seen)
            return self.find(identity, other_than=trial.number)

        # What is known of the trial so far goes along: an evaluation may take long.
        rows = storage.unwritten(trial_id) if isinstance(storage, WriteBehindStorage) else {}
        try:
            known = patiently(engine, lambda: claim(rows))
        except StorageError:
            raise
        except REFUSALS:
            # The trial is told without such a row, and the message then names it.
            rows = {}
            known = patiently(engine, lambda: claim(rows))
        if known is None:
            if isinstance(storage, WriteBehindStorage):
                storage.written(trial_id, rows)
            # The storage writes the same value once more when the trial is told; this keeps its own view right.
            trial.set_user_attr(self._identity, identity)
        return known

    def _seen(self) -> tuple[int, dict[int, TrialState], list[int], tuple[str, ...]]:
        """Return what is known already, for :func:`~zenopt.storage.queries.read_changes`."""
        # A trial that goes on running, and has published what it evaluates, shows nothing new before it finishes.
        settled = [key for key, record in self._unfinished.items() if self._identity in record.user_attrs]
        seen = {key: record.state for key, record in self._unfinished.items()}
        return self._newest, seen, settled, self.keys

    def _read_generic(self) -> list[TrialRecord]:
        found = self.study._storage.get_all_trials(self.study._study_id, deepcopy=False)
        # Some storages order by number, some by id, which differ only for the watermark's sake.
        return [
            TrialRecord.of(trial, self.keys)
            for trial in sorted(found, key=lambda trial: trial._trial_id)
            if trial._trial_id > self._newest or trial._trial_id in self._unfinished
        ]

    def _absorb(self, records: list[TrialRecord]) -> None:
        for record in records:
            self._newest = max(self._newest, record.trial_id)
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


@operation(writes=True)
def claim_identity(
    connection: sa.Connection,
    study_id: int,
    wanted: Mapping[str, Any],
    rivals: Collection[int],
    rows: Rows,
    look: Sequence[Any],
) -> list[TrialRecord]:
    """Write the attribute that claims an evaluation for a trial, unless another trial has or does it.

    Args:
        connection:
            Open connection.
        study_id:
            The study.
        wanted:
            The row of the attribute.
        rivals:
            Trials that were running with the same attribute when last seen.
        rows:
            What else is to be written of the trial with it.
        look:
            What :func:`~zenopt.storage.queries.read_changes` takes beside the study.

    Returns:
        What has changed, also where it is another trial's.
    """
    lock_study(connection, study_id)
    changed = queries.read_changes(connection, study_id, *look)
    identity, own = json.loads(wanted["value_json"]), wanted["trial_id"]
    changed_ids = {record.trial_id for record in changed}
    is_taken = not changed_ids.issuperset(rivals) or any(
        record.user_attrs.get(wanted["key"]) == identity
        and (record.state == TrialState.RUNNING or (record.state.is_finished() and record.values is not None))
        for record in changed
        if record.trial_id != own
    )
    if not is_taken:
        insert_rows(connection, rows)
        write_rows(connection, user_attrs, [wanted])
    return changed


def top(study: optuna.Study, count: int, keys: Collection[str] = (STRUCTURE_KEY,)) -> list[TrialRecord]:
    """Return the ``count`` best feasible COMPLETE trials of a single-objective study with parameters, best first."""
    engine = engine_of(study._storage)
    direction = study.direction
    if engine is not None:
        return _read(engine, lambda c: queries.read_top(c, study._study_id, direction, count, keys))
    sign = -1.0 if direction == StudyDirection.MAXIMIZE else 1.0
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    records = [record for trial in complete if (record := TrialRecord.of(trial, keys)).is_feasible]
    return sorted(records, key=lambda record: (sign * (record.value or 0.0), record.number))[:count]


def read_trials(study: optuna.Study, trial_ids: Collection[int]) -> list[FrozenTrial]:
    """Return whole trials by id, parameters included; for a few thousand at most."""
    wanted = sorted({int(trial_id) for trial_id in trial_ids})
    engine = engine_of(study._storage)
    if engine is None:
        chosen = set(wanted)
        return [trial for trial in study.get_trials(deepcopy=False) if trial._trial_id in chosen]
    found: list[FrozenTrial] = []
    distributions: dict[str, BaseDistribution] = {}
    for start in range(0, len(wanted), _CHUNK):
        ids = wanted[start : start + _CHUNK]
        found += _read(engine, lambda c, ids=ids: queries.read_trials(c, None, ids, distributions))  # type: ignore[misc]
    return found


def count_by_state(study: optuna.Study) -> dict[TrialState, int]:
    """Return the number of trials of ``study`` in each state; states without trials are 0."""
    engine = engine_of(study._storage)
    if engine is not None:
        return _read(engine, lambda connection: queries.count_states(connection, study._study_id))
    counts = dict.fromkeys(TrialState, 0)
    for trial in study.get_trials(deepcopy=False):
        counts[trial.state] += 1
    return counts


def _read(engine: Engine, query: Callable[[sa.Connection], T]) -> T:
    def connect_and_read() -> T:
        with reading(engine) as connection:
            return query(connection)

    return patiently(engine, connect_and_read)
