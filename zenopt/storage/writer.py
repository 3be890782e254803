"""Transactions on one trial: created, taken from the queue, published, told.

Each runs under :func:`~zenopt.storage.retry.patiently`, and says how to find out whether a commit has arrived whose
confirmation was lost, so that nothing is done twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa
import sqlalchemy.exc
from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
    json_to_distribution,
)
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState, create_trial

from zenopt.core.errors import StorageError
from zenopt.storage.buffer import KINDS, BufferedTrial, Rows
from zenopt.storage.operations import Engine, operation
from zenopt.storage.queries import read_states, read_trials
from zenopt.storage.retry import patiently
from zenopt.storage.tables import (
    keys_of,
    lock_study,
    reading,
    transaction,
    trial_params,
    trial_values,
    trials,
    user_attrs,
    write_rows,
)
from zenopt.storage.workers import WORKER_KEY, current_worker

# What drivers raise for a row that they or the database cannot take.
REFUSALS = (sqlalchemy.exc.DBAPIError, OverflowError, ValueError)

# Statements of every trial, built once.
_newest_number = (
    sa.select(trials.c.number)
    .where(trials.c.study_id == sa.bindparam("study_id"), trials.c.trial_id >= sa.bindparam("since"))
    .order_by(trials.c.trial_id.desc())
    .limit(1)
)
_finish = (
    sa.update(trials)
    .where(
        trials.c.trial_id == sa.bindparam("id"),
        trials.c.state == TrialState.RUNNING,
        sa.exists().where(
            user_attrs.c.trial_id == sa.bindparam("id"),
            user_attrs.c.key == WORKER_KEY,
            user_attrs.c.value_json == sa.bindparam("worker"),
        ),
    )
    .values(state=sa.bindparam("new_state"), datetime_complete=sa.bindparam("complete"))
)


class RefusedRowsError(StorageError):
    """A trial is recorded and finished, but without some rows that the database refused."""


class TrialWriter:
    """Writes the trials of this process to Optuna's tables.

    Args:
        engine:
            Engine of the database.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        # The distribution of each parameter set last, by study and name; all of a name agree with each other.
        self._distributions: dict[tuple[int, str], tuple[BaseDistribution, str]] = {}
        # Newest trial id seen in each study: where the search for the newest trial's number may begin.
        self._newest: dict[int, int] = {}

    def forget(self, study_id: int) -> None:
        """Forget a deleted study."""
        self._newest.pop(study_id, None)
        self._distributions = {k: v for k, v in self._distributions.items() if k[0] != study_id}

    def create(self, study_id: int) -> BufferedTrial:
        """Insert a RUNNING trial in the name of this process.

        Raises:
            KeyError: If there is no such study.
        """
        worker = str(current_worker())
        trial = create_trial(state=TrialState.RUNNING, user_attrs={WORKER_KEY: worker})
        trial.datetime_start = start = self._now()
        since = self._newest.get(study_id, -1)

        def insert() -> tuple[int, int]:
            with transaction(self.engine) as connection:
                trial_id, number = insert_trial(connection, study_id, since, worker, _utc(start))
            return trial_id, number

        def arrived() -> tuple[int, int] | None:
            with reading(self.engine) as connection:
                new = [row[0] for row in read_states(connection, study_id, since, ())]
                for found in read_trials(connection, study_id, new, {}):
                    if _is_held_by(found, worker) and found.datetime_start == start:
                        return found._trial_id, found.number
            return None

        trial._trial_id, trial.number = patiently(self.engine, insert, arrived=arrived)
        self._newest[study_id] = trial._trial_id
        return BufferedTrial(trial, study_id)

    def take(self, trial_id: int) -> BufferedTrial | None:
        """Set a WAITING trial RUNNING in the name of this process; None if it was not WAITING.

        Raises:
            KeyError: If there is no such trial.
            UpdateFinishedTrialError: If it is finished.
        """
        start, worker = self._now(), str(current_worker())

        def take() -> BufferedTrial | None:
            with transaction(self.engine) as connection:
                is_taken = take_trial(connection, trial_id, worker, _utc(start))
                return buffered(connection) if is_taken else None

        def arrived() -> BufferedTrial | None:
            with reading(self.engine) as connection:
                found = read_trial(connection, trial_id)
                is_ours = found.state == TrialState.RUNNING and _is_held_by(found, worker)
                return buffered(connection) if is_ours and found.datetime_start == start else None

        def buffered(connection: sa.Connection) -> BufferedTrial:
            return BufferedTrial(read_trial(connection, trial_id), read_study_id(connection, trial_id))

        return patiently(self.engine, take, arrived=arrived)

    def set_param(
        self, buffered: BufferedTrial, name: str, value: float, distribution: BaseDistribution
    ) -> None:
        """Keep a parameter with the trial, or write it at once if the study has not had it yet.

        Raises:
            ValueError: If the study has the parameter with an incompatible distribution.
        """
        key = (buffered.study_id, name)
        if key not in self._distributions and self._settle(buffered, name, value, distribution):
            return
        known, text = self._distributions[key]
        # Every suggestion brings a new object; nearly always it equals the one before, and this is quick to see.
        if type(known) is not type(distribution) or known.__dict__ != distribution.__dict__:
            check_distribution_compatibility(known, distribution)
            text = distribution_to_json(distribution)
            self._distributions[key] = distribution, text
        # As in Optuna's tables, the first value of a parameter stays.
        if name not in buffered.trial.params:
            buffered.set_param(name, value, distribution, text)

    def _settle(
        self, buffered: BufferedTrial, name: str, value: float, distribution: BaseDistribution
    ) -> bool:
        """Write a parameter if the study has not had it yet; return whether that was done.

        The first trial to use a parameter writes it at once, under the study's lock: that settles the
        distribution for every worker, where rows that wait in memory could contradict each other.
        """
        study_id, text = buffered.study_id, distribution_to_json(distribution)
        # Those set before it are among them: the order of the rows is the order of the parameters.
        rows = [*buffered.unwritten[trial_params].values(), buffered.param_row(name, value, text)]

        def settle() -> str | None:
            with reading(self.engine) as connection:
                known = find_distribution(connection, study_id, name)
            if known is None:
                with transaction(self.engine) as connection:
                    known = settle_param(connection, study_id, name, rows)
            return known

        known = patiently(self.engine, settle)
        if known is not None:
            found = json_to_distribution(known)
            self._distributions[study_id, name] = found, distribution_to_json(found)
            return False
        buffered.set_param(name, value, distribution, text)
        buffered.unwritten[trial_params].clear()
        self._distributions[study_id, name] = distribution, text
        return True

    def publish(self, buffered: BufferedTrial, patience_s: float | None = None) -> None:
        """Write what the database has not got; the trial stays RUNNING.

        Raises:
            KeyError: If the trial is gone.
            UpdateFinishedTrialError: If someone else finished the trial, or it was given to another worker.
        """
        rows = buffered.rows()

        def write() -> None:
            with transaction(self.engine) as connection:
                publish_rows(connection, buffered.trial_id, buffered.worker, rows)

        if rows:
            patiently(self.engine, write, patience_s=patience_s)
            buffered.written(rows)

    def tell(self, buffered: BufferedTrial, state: TrialState) -> FrozenTrial:
        """Finish a trial and write all of it; return the finished trial.

        Raises:
            KeyError: If the trial is gone.
            UpdateFinishedTrialError: If someone else finished the trial, or it was given to another worker.
            RefusedRowsError: If the database refuses single rows: all others are written, the trial is finished.
            StorageError: If the database cannot be written: nothing is, and the call may be repeated.
        """
        complete = self._now()
        finish = {
            "id": buffered.trial_id,
            "worker": json.dumps(buffered.worker),
            "new_state": state,
            "complete": _utc(complete),
        }

        rows = buffered.rows()

        def write(singly: bool) -> list[str]:
            with transaction(self.engine) as connection:
                return finish_trial(connection, finish, rows, singly)

        def arrived() -> list[str] | None:
            with reading(self.engine) as connection:
                found = read_trial(connection, buffered.trial_id)
                return [] if found.state == state and _is_held_by(found, buffered.worker) else None

        try:
            patiently(self.engine, lambda: write(singly=False), arrived=arrived)
        except StorageError:
            # The database as a whole cannot be written. (It is a ValueError too.)
            raise
        except REFUSALS as error:
            refused = patiently(self.engine, lambda: write(singly=True), arrived=arrived)
            if refused:
                raise RefusedRowsError(
                    f"trial {buffered.trial.number} was recorded without what the database refused: "
                    f"{', '.join(refused)}"
                ) from error
        return buffered.freeze(state, complete)

    def add_missing(self, buffered: BufferedTrial) -> None:
        """Add to a trial that another process has finished what only this one knows of it.

        Raises:
            KeyError: If the trial is gone.
        """
        rows = buffered.rows()

        def add() -> None:
            with transaction(self.engine) as connection:
                add_rows(connection, buffered.trial_id, buffered.worker, rows)

        if rows:
            patiently(self.engine, add)

    def _now(self) -> datetime:
        """Return the naive local time, as precise as the tables keep it."""
        now = datetime.now()
        # MySQL would round to whole seconds, and a time it gives back could not be compared with ours.
        return now.replace(microsecond=0) if self.engine.dialect.name in ("mysql", "mariadb") else now


def read_trial(connection: sa.Connection, trial_id: int) -> FrozenTrial:
    """Return a trial; KeyError if there is none of this id."""
    found = read_trials(connection, None, [trial_id], {})
    if not found:
        raise KeyError(f"No trial with trial_id {trial_id} exists.")
    return found[0]


def _utc(local: datetime) -> datetime:
    """Return a naive local time as the tables keep it: in naive UTC."""
    return local.astimezone(timezone.utc).replace(tzinfo=None)


def _is_held_by(found: FrozenTrial, worker: str) -> bool:
    return found.user_attrs.get(WORKER_KEY) == worker


def _why_not_ours(found: FrozenTrial) -> str:
    if found.state.is_finished():
        return f"Trial#{found.number} has already finished and can not be updated."
    return (
        f"Trial#{found.number} was taken from this worker, which had shown no sign of life, and is "
        f"{found.state.name} ({found.user_attrs.get(WORKER_KEY)})."
    )


# Operations.


@operation(writes=True)
def insert_trial(
    connection: sa.Connection, study_id: int, since: int, worker: str, start: datetime
) -> tuple[int, int]:
    """Insert a RUNNING trial of a worker; return its id and its number.

    Args:
        connection:
            Open connection.
        study_id:
            The study.
        since:
            An id of a trial of the study: there are later ones, or it is the newest; -1 if none is known.
        worker:
            The worker, as text.
        start:
            When it began, in naive UTC.

    Raises:
        KeyError: If there is no such study.
    """
    lock_study(connection, study_id)
    newest = connection.execute(_newest_number, {"study_id": study_id, "since": since}).scalar()
    number = 0 if newest is None else newest + 1
    row = {"study_id": study_id, "number": number, "state": TrialState.RUNNING, "datetime_start": start}
    inserted = connection.execute(sa.insert(trials), row).inserted_primary_key
    assert inserted is not None
    _write_worker(connection, inserted[0], worker)
    return inserted[0], number


@operation(writes=True)
def take_trial(connection: sa.Connection, trial_id: int, worker: str, start: datetime) -> bool:
    """Set a WAITING trial RUNNING in the name of a worker; return whether it was WAITING.

    Raises:
        KeyError: If there is no such trial.
        UpdateFinishedTrialError: If it is finished.
    """
    is_waiting = (trials.c.trial_id == trial_id) & (trials.c.state == TrialState.WAITING)
    change = sa.update(trials).where(is_waiting).values(state=TrialState.RUNNING, datetime_start=start)
    if connection.execute(change).rowcount == 1:
        _write_worker(connection, trial_id, worker)
        return True
    found = read_trial(connection, trial_id)
    if found.state.is_finished():
        raise UpdateFinishedTrialError(_why_not_ours(found))
    return False


@operation()
def read_study_id(connection: sa.Connection, trial_id: int) -> int:
    """Return the study of a trial."""
    query = sa.select(trials.c.study_id).where(trials.c.trial_id == trial_id)
    return connection.execute(query).scalar_one()


@operation()
def find_distribution(connection: sa.Connection, study_id: int, name: str) -> str | None:
    """Return the distribution of a parameter of a study as JSON; None if the study has not had it yet."""
    return connection.execute(
        sa.select(trial_params.c.distribution_json)
        .join(trials, trials.c.trial_id == trial_params.c.trial_id)
        .where(trials.c.study_id == study_id, trial_params.c.param_name == name)
        .limit(1)
    ).scalar()


@operation(writes=True)
def settle_param(
    connection: sa.Connection, study_id: int, name: str, rows: Sequence[Mapping[str, Any]]
) -> str | None:
    """Write parameters of a trial if the study has not had one yet, else return its distribution as JSON."""
    lock_study(connection, study_id)
    known = find_distribution(connection, study_id, name)
    if known is None:
        write_rows(connection, trial_params, rows)
    return known


@operation(writes=True)
def publish_rows(connection: sa.Connection, trial_id: int, worker: str, rows: Rows) -> None:
    """Write rows of a RUNNING trial of a worker; raises as :meth:`TrialWriter.publish`."""
    found = read_trial(connection, trial_id)
    # Who gives a trial away names another one in the rows, which may have arrived when they were sent first.
    named = [
        json.loads(row["value_json"]) for row in rows.get(user_attrs.name, ()) if row["key"] == WORKER_KEY
    ]
    if found.state != TrialState.RUNNING or not any(_is_held_by(found, name) for name in (worker, *named)):
        raise UpdateFinishedTrialError(_why_not_ours(found))
    insert_rows(connection, rows)


@operation(writes=True)
def finish_trial(connection: sa.Connection, finish: Mapping[str, Any], rows: Rows, singly: bool) -> list[str]:
    """Finish a RUNNING trial of a worker and write rows of it; raises as :meth:`TrialWriter.tell`.

    Args:
        connection:
            Open connection.
        finish:
            Values of the statement that finishes it.
        rows:
            What is to be written.
        singly:
            Whether a row that the database refuses is left out.

    Returns:
        What was refused, in words.
    """
    if connection.execute(_finish, finish).rowcount != 1:
        raise UpdateFinishedTrialError(_why_not_ours(read_trial(connection, finish["id"])))
    if singly:
        return _write_singly(connection, rows)
    insert_rows(connection, rows)
    return []


@operation(writes=True)
def add_rows(connection: sa.Connection, trial_id: int, worker: str, rows: Rows) -> None:
    """Add rows to a trial that another process has finished, but no values; KeyError if it is gone."""
    # If it was run anew, what is known here is of a run that does not count.
    if _is_held_by(read_trial(connection, trial_id), worker):
        added = {name: found for name, found in rows.items() if name != trial_values.name}
        insert_rows(connection, added, replace=False)


def _write_worker(connection: sa.Connection, trial_id: int, worker: str) -> None:
    row = {"trial_id": trial_id, "key": WORKER_KEY, "value_json": json.dumps(worker)}
    write_rows(connection, user_attrs, [row])


def insert_rows(connection: sa.Connection, rows: Rows, *, replace: bool = True) -> None:
    """Insert rows of a trial; of those that are there already, replace or leave what they hold."""
    for table in KINDS:
        write_rows(connection, table, rows.get(table.name, ()), replace=replace)


def _write_singly(connection: sa.Connection, rows: Rows) -> list[str]:
    """Write rows each in a savepoint of its own; return what was refused, in words, with the reason."""
    refused = []
    for table, kind in KINDS.items():
        for row in rows.get(table.name, ()):
            try:
                with connection.begin_nested():
                    write_rows(connection, table, [row])
            except REFUSALS as error:
                if isinstance(error, sqlalchemy.exc.DBAPIError) and error.connection_invalidated:
                    raise
                reason = " ".join(str(getattr(error, "orig", None) or error).split())
                unique = next(row[name] for name in keys_of(table) if name != "trial_id")
                refused.append(f"{f'{kind} {unique!r}'[:80]} ({reason[:200]})")
    return refused
