"""Transactions on one trial: created, taken from the queue, published, told.

Each runs under :func:`~zenopt.storage.retry.patiently` and may therefore be started again after a commit whose
confirmation was lost; each finds out whether that commit arrived before it does anything twice.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from zenopt.core.errors import StorageError
from zenopt.storage.held import HeldTrial
from zenopt.storage.reading import read_trials
from zenopt.storage.registry import DistributionRegistry
from zenopt.storage.retry import patiently
from zenopt.storage.salvage import REFUSALS, RefusedRowsError, write_singly
from zenopt.storage.sqlcore import autocommitting, trials, write_transaction
from zenopt.storage.trial_state import find_created, find_trial
from zenopt.storage.workers import WORKER_KEY, current_worker
from zenopt.storage.writers_servers import writer_for


class TrialTables:
    """Writes trials to Optuna's tables.

    Args:
        engine:
            Engine of the database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.registry = DistributionRegistry()
        self.writer = writer_for(engine)
        # Newest trial id seen in each study: where the search for the newest trial's number may begin.
        self._newest: dict[int, int] = {}

    def forget(self, study_id: int) -> None:
        """Forget a deleted study."""
        self.registry.forget(study_id)
        self._newest.pop(study_id, None)

    def create(self, study_id: int, template: FrozenTrial | None) -> FrozenTrial:
        """Insert a trial with all its rows and return it.

        Without a template it is RUNNING and names this process as its worker.

        Raises:
            KeyError: If there is no such study.
            ValueError: If a distribution of the template contradicts the study.
        """
        start = self.writer.now()
        worker = str(current_worker())
        attempts = 0

        def write() -> FrozenTrial:
            nonlocal attempts
            attempts += 1
            with write_transaction(self.engine) as connection:
                if not self.writer.study_exists(connection, study_id):
                    raise KeyError(f"No study with study_id {study_id} exists.")
                if attempts > 1 and template is None:
                    since = self._newest.get(study_id, -1)
                    utc = self.writer.stored_time(start)
                    arrived = find_created(connection, study_id, since, worker, utc)
                    if arrived is not None:
                        return _running(*arrived, start, worker)
                newest = self._newest.get(study_id, -1)
                if template is None:
                    name = json.dumps(worker)
                    trial_id, number = self.writer.create_running(connection, study_id, newest, start, name)
                    return _running(trial_id, number, start, worker)
                number = self.writer.last_number(connection, study_id, newest) + 1
                trial_id = self.writer.insert_trial(
                    connection,
                    study_id,
                    number,
                    template.state,
                    template.datetime_start,
                    template.datetime_complete,
                )
                self._write_template(connection, study_id, trial_id, template)
            trial = copy.deepcopy(template)
            trial.number, trial._trial_id = number, trial_id
            return trial

        trial = patiently(self.engine, write)
        self._newest[study_id] = max(trial._trial_id, self._newest.get(study_id, -1))
        if template is not None:
            for name, distribution in template.distributions.items():
                self.registry.add(study_id, name, distribution)
        return trial

    def take(self, trial_id: int) -> tuple[FrozenTrial, int] | None:
        """Set a WAITING trial RUNNING in the name of this process.

        Returns:
            The trial and its study, or None if it was not WAITING.

        Raises:
            KeyError: If there is no such trial.
            UpdateFinishedTrialError: If it is finished.
        """
        start = self.writer.now()
        worker = json.dumps(str(current_worker()))
        attempts = 0

        def write() -> tuple[FrozenTrial, int] | None:
            nonlocal attempts
            attempts += 1
            with write_transaction(self.engine) as connection:
                if self.writer.take(connection, trial_id, start):
                    self.writer.upsert_user_attrs(connection, trial_id, [(WORKER_KEY, worker)])
                else:
                    found = find_trial(connection, trial_id)
                    if found.state.is_finished():
                        raise UpdateFinishedTrialError(f"Trial id {trial_id} has already finished.")
                    arrived = found.owner == worker and found.start == self.writer.stored_time(start)
                    if attempts == 1 or found.state != TrialState.RUNNING or not arrived:
                        return None
                (trial,) = read_trials(connection, None, [trial_id], {})
                study_id = connection.execute(
                    sa.select(trials.c.study_id).where(trials.c.trial_id == trial_id)
                ).scalar_one()
                return trial, study_id

        return patiently(self.engine, write)

    def set_first_param(
        self, held: HeldTrial, name: str, value: float, distribution: BaseDistribution
    ) -> None:
        """Set a parameter that the study may not have yet.

        The first trial to use a parameter writes it at once, under the study's lock: that settles the
        distribution for every worker, where rows that wait in memory could contradict each other.

        Raises:
            ValueError: If the study has the parameter with an incompatible distribution.
        """
        row = (name, float(value), distribution_to_json(distribution))

        def write() -> bool:
            with autocommitting(self.engine) as connection:
                self.registry.read_latest(connection, held.study_id)
                if not self.registry.check(held.study_id, name, distribution):
                    self.registry.read(connection, held.study_id, name)
            if self.registry.check(held.study_id, name, distribution):
                return False
            with write_transaction(self.engine, held.study_id) as connection:
                self.registry.read(connection, held.study_id, name)
                if self.registry.check(held.study_id, name, distribution):
                    return False
                # Those set before it go first: the order of the rows is the order of the parameters.
                self.writer.upsert_params(connection, held.trial_id, [*held.new_params, row])
            return True

        written = patiently(self.engine, write)
        held.set_param(name, value, distribution, row[2])
        if written:
            held.new_params = []
            self.registry.add(held.study_id, name, distribution)

    def publish(self, held: HeldTrial) -> None:
        """Write what the database has not got; the trial stays RUNNING.

        Raises:
            KeyError: If the trial is gone.
            UpdateFinishedTrialError: If someone else finished the trial, or it was given to another worker.
        """

        def write() -> None:
            with write_transaction(self.engine) as connection:
                found = find_trial(connection, held.trial_id)
                if found.state != TrialState.RUNNING or found.owner != json.dumps(held.worker):
                    raise UpdateFinishedTrialError(found.why_not_ours(held.number))
                self.writer.write_new(connection, held)

        patiently(self.engine, write)
        held.forget_new()

    def tell(self, held: HeldTrial, state: TrialState, values: Sequence[float] | None) -> FrozenTrial:
        """Finish a trial and write all of it.

        Returns:
            The finished trial.

        Raises:
            KeyError: If the trial is gone.
            UpdateFinishedTrialError: If someone else finished the trial, or it was given to another worker.
            RefusedRowsError: If the database refuses single rows: all others are written, the trial is finished.
            StorageError: If the database cannot be written: nothing is, and the call may be repeated.
        """
        complete = self.writer.now()
        worker = json.dumps(held.worker)
        attempts = 0

        refused: list[str] = []

        def check(connection: sa.Connection, is_finished_now: bool) -> None:
            if not is_finished_now:
                found = find_trial(connection, held.trial_id)
                if attempts == 1 or found.state != state or found.owner != worker:
                    raise UpdateFinishedTrialError(found.why_not_ours(held.number))

        def write() -> None:
            nonlocal attempts
            attempts += 1
            with write_transaction(self.engine, at_once=self.writer.finishes_in_one_statement) as connection:
                done = self.writer.finish_whole(connection, held, worker, state, values or (), complete)
                check(connection, done)

        def write_what_is_accepted() -> None:
            with write_transaction(self.engine) as connection:
                done = self.writer.finish(connection, held.trial_id, worker, state, complete)
                check(connection, done)
                if done:
                    refused[:] = write_singly(connection, self.writer, held, values or ())

        try:
            patiently(self.engine, write)
        except StorageError:
            # The database as a whole cannot be written. (It is a ValueError too.)
            raise
        except REFUSALS as error:
            patiently(self.engine, write_what_is_accepted)
            if refused:
                raise RefusedRowsError(
                    f"trial {held.number} was recorded without what the database refused: {', '.join(refused)}"
                ) from error
        return held.freeze(state, None if values is None else list(values), complete)

    def _write_template(
        self, connection: sa.Connection, study_id: int, trial_id: int, template: FrozenTrial
    ) -> None:
        params = []
        for name, value in template.params.items():
            distribution = template.distributions[name]
            if not self.registry.check(study_id, name, distribution):
                self.registry.read(connection, study_id, name)
                self.registry.check(study_id, name, distribution)
            params.append(
                (name, float(distribution.to_internal_repr(value)), distribution_to_json(distribution))
            )
        writer = self.writer
        writer.upsert_params(connection, trial_id, params)
        dumped = [(key, json.dumps(value)) for key, value in template.user_attrs.items()]
        writer.upsert_user_attrs(connection, trial_id, dumped)
        dumped = [(key, json.dumps(value)) for key, value in template.system_attrs.items()]
        writer.upsert_system_attrs(connection, trial_id, dumped)
        writer.upsert_values(connection, trial_id, template.values or ())
        writer.upsert_intermediate_values(connection, trial_id, template.intermediate_values.items())


def _running(trial_id: int, number: int, start: datetime, worker: str) -> FrozenTrial:
    return FrozenTrial(
        number=number,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=start,
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={WORKER_KEY: worker},
        system_attrs={},
        intermediate_values={},
        trial_id=trial_id,
    )
