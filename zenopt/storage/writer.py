"""Transactions on one trial: created, taken from the queue, published, told.

Each runs under :func:`~zenopt.storage.retry.patiently`, and says how to find out whether a commit has arrived whose
confirmation was lost, so that nothing is done twice.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone

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
from zenopt.storage.buffer import KINDS, BufferedTrial
from zenopt.storage.queries import read_states, read_trials
from zenopt.storage.retry import patiently
from zenopt.storage.tables import (
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

    def __init__(self, engine: sa.Engine) -> None:
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
        trial.datetime_start = self._now()
        since = self._newest.get(study_id, -1)

        def insert() -> tuple[int, int]:
            with transaction(self.engine) as connection:
                lock_study(connection, study_id)
                newest = connection.execute(_newest_number, {"study_id": study_id, "since": since}).scalar()
                number = 0 if newest is None else newest + 1
                row = {
                    "study_id": study_id,
                    "number": number,
                    "state": trial.state,
                    "datetime_start": _utc(trial.datetime_start),
                }
                inserted = connection.execute(sa.insert(trials), row).inserted_primary_key
                assert inserted is not None
                _write_worker(connection, inserted[0], worker)
                return inserted[0], number

        def arrived() -> tuple[int, int] | None:
            with reading(self.engine) as connection:
                new = [row[0] for row in read_states(connection, study_id, since, ())]
                for found in read_trials(connection, study_id, new, {}):
                    if _is_held_by(found, worker) and found.datetime_start == trial.datetime_start:
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
        is_waiting = (trials.c.trial_id == trial_id) & (trials.c.state == TrialState.WAITING)
        change = (
            sa.update(trials).where(is_waiting).values(state=TrialState.RUNNING, datetime_start=_utc(start))
        )

        def take() -> BufferedTrial | None:
            with transaction(self.engine) as connection:
                if connection.execute(change).rowcount == 1:
                    _write_worker(connection, trial_id, worker)
                    return buffered(connection)
                found = read_trial(connection, trial_id)
                if found.state.is_finished():
                    raise UpdateFinishedTrialError(_why_not_ours(found))
                return None

        def arrived() -> BufferedTrial | None:
            with reading(self.engine) as connection:
                found = read_trial(connection, trial_id)
                is_ours = found.state == TrialState.RUNNING and _is_held_by(found, worker)
                return buffered(connection) if is_ours and found.datetime_start == start else None

        def buffered(connection: sa.Connection) -> BufferedTrial:
            study_id = sa.select(trials.c.study_id).where(trials.c.trial_id == trial_id)
            return BufferedTrial(read_trial(connection, trial_id), connection.execute(study_id).scalar_one())

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

        def settle() -> bool:
            with reading(self.engine) as connection:
                if self._find_distribution(connection, study_id, name):
                    return False
            with transaction(self.engine) as connection:
                lock_study(connection, study_id)
                if self._find_distribution(connection, study_id, name):
                    return False
                buffered.set_param(name, value, distribution, text)
                # Those set before it are among them: the order of the rows is the order of the parameters.
                write_rows(connection, trial_params, buffered.unwritten[trial_params].values())
            return True

        if not patiently(self.engine, settle):
            return False
        buffered.unwritten[trial_params].clear()
        self._distributions[study_id, name] = distribution, text
        return True

    def _find_distribution(self, connection: sa.Connection, study_id: int, name: str) -> bool:
        """Return whether the study has a parameter, and keep its distribution then."""
        text = connection.execute(
            sa.select(trial_params.c.distribution_json)
            .join(trials, trials.c.trial_id == trial_params.c.trial_id)
            .where(trials.c.study_id == study_id, trial_params.c.param_name == name)
            .limit(1)
        ).scalar()
        if text is None:
            return False
        distribution = json_to_distribution(text)
        self._distributions[study_id, name] = distribution, distribution_to_json(distribution)
        return True

    def publish(self, buffered: BufferedTrial) -> None:
        """Write what the database has not got; the trial stays RUNNING.

        Raises:
            KeyError: If the trial is gone.
            UpdateFinishedTrialError: If someone else finished the trial, or it was given to another worker.
        """

        def write() -> None:
            with transaction(self.engine) as connection:
                found = read_trial(connection, buffered.trial_id)
                if found.state != TrialState.RUNNING or not _is_held_by(found, buffered.worker):
                    raise UpdateFinishedTrialError(_why_not_ours(found))
                for table, rows in buffered.unwritten.items():
                    write_rows(connection, table, rows.values())

        if any(buffered.unwritten.values()):
            patiently(self.engine, write)
            for rows in buffered.unwritten.values():
                rows.clear()

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

        def write(singly: bool) -> list[str]:
            with transaction(self.engine) as connection:
                if connection.execute(_finish, finish).rowcount != 1:
                    raise UpdateFinishedTrialError(_why_not_ours(read_trial(connection, buffered.trial_id)))
                return _write_singly(connection, buffered) if singly else _write(connection, buffered)

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

        def add() -> None:
            with transaction(self.engine) as connection:
                # If it was run anew, what is known here is of a run that does not count.
                if _is_held_by(read_trial(connection, buffered.trial_id), buffered.worker):
                    for table, rows in buffered.unwritten.items():
                        if table is not trial_values:
                            write_rows(connection, table, rows.values(), replace=False)

        if any(buffered.unwritten.values()):
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


def _utc(local: datetime | None) -> datetime | None:
    """Return a naive local time as the tables keep it: in naive UTC."""
    return None if local is None else local.astimezone(timezone.utc).replace(tzinfo=None)


def _is_held_by(found: FrozenTrial, worker: str) -> bool:
    return found.user_attrs.get(WORKER_KEY) == worker


def _why_not_ours(found: FrozenTrial) -> str:
    if found.state.is_finished():
        return f"Trial#{found.number} has already finished and can not be updated."
    return (
        f"Trial#{found.number} was taken from this worker, which had shown no sign of life, and is "
        f"{found.state.name} ({found.user_attrs.get(WORKER_KEY)})."
    )


def _write_worker(connection: sa.Connection, trial_id: int, worker: str) -> None:
    row = {"trial_id": trial_id, "key": WORKER_KEY, "value_json": json.dumps(worker)}
    write_rows(connection, user_attrs, [row])


def _write(connection: sa.Connection, buffered: BufferedTrial) -> list[str]:
    for table, rows in buffered.unwritten.items():
        write_rows(connection, table, rows.values())
    return []


def _write_singly(connection: sa.Connection, buffered: BufferedTrial) -> list[str]:
    """Write rows each in a savepoint of its own; return what was refused, in words, with the reason."""
    refused = []
    for table, rows in buffered.unwritten.items():
        for unique, row in rows.items():
            try:
                with connection.begin_nested():
                    write_rows(connection, table, [row])
            except REFUSALS as error:
                if isinstance(error, sqlalchemy.exc.DBAPIError) and error.connection_invalidated:
                    raise
                reason = " ".join(str(getattr(error, "orig", None) or error).split())
                refused.append(f"{f'{KINDS[table]} {unique!r}'[:80]} ({reason[:200]})")
    return refused
