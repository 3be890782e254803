"""A storage over Optuna's own tables that writes a trial in two transactions: one when asked, one when told.

The stock storage sends every parameter and attribute on its own, over a hundred statements for a trial of 40
parameters. Here asking inserts the RUNNING row, and everything else waits in memory until the trial is told: then
state, values, parameters and attributes go in one transaction, and are on disk when ``tell`` returns.

What differs from the stock storage, on purpose:

- Other processes see the parameters of a RUNNING trial only once it is told (or published with :meth:`publish`).
- A worker that dies loses what it had not told; its RUNNING trial goes back to WAITING and is run again.
- Finished trials are read into memory only when somebody asks for them.
- A database that is away is waited for; one that cannot be written raises :class:`~zenopt.errors.StorageError`.
"""

from __future__ import annotations

import copy
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Container, Sequence
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from zenopt.storage.heart import Heart
from zenopt.storage.held import HeldTrial
from zenopt.storage.orphans import DEFAULT_GRACE_S, requeue_in_tables
from zenopt.storage.reading import read_trials
from zenopt.storage.salvage import RefusedRowsError
from zenopt.storage.slim import best_trial_id
from zenopt.storage.sqlcore import autocommitting, trials
from zenopt.storage.study_level import StudyLevel
from zenopt.storage.trial_tables import TrialTables
from zenopt.storage.view import StudyView
from zenopt.storage.workers import WORKER_KEY

_RECENT = 32
_UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)
_logger = optuna.logging.get_logger(__name__)


class WriteBehindStorage(StudyLevel):
    """Optuna's tables with few statements, little memory, and patience.

    Use :func:`~zenopt.storage.open_storage` to get one.

    Args:
        backend:
            Optuna's storage on the same database, of a schema version known here.
        heartbeat_interval:
            Seconds between signs of life of held trials, and between looks for trials whose worker died; None for
            neither.
        grace_s:
            Age in seconds of the last sign of life beyond which a worker on another machine is taken for dead.
    """

    def __init__(
        self,
        backend: RDBStorage,
        heartbeat_interval: float | None = 60.0,
        grace_s: float = DEFAULT_GRACE_S,
    ) -> None:
        super().__init__(backend)
        self.heartbeat_interval = heartbeat_interval
        self.grace_s = grace_s
        self._set_up()

    def _set_up(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._tables = TrialTables(self.engine)
        self._heart = Heart(self._backend.record_heartbeat, self.heartbeat_interval)
        self._held: dict[int, HeldTrial] = {}
        self._views: dict[int, StudyView] = {}
        self._swept: dict[int, float] = {}
        # Own trials told last, which Optuna's callbacks ask for at once.
        self._recent: OrderedDict[int, FrozenTrial] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        # Another process holds no trials of ours: it starts with nothing but the database.
        return {
            "backend": self._backend,
            "heartbeat_interval": self.heartbeat_interval,
            "grace_s": self.grace_s,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Create a trial; a RUNNING one is held by this process until it is told."""
        self._leave_parent()
        trial = self._tables.create(study_id, template_trial)
        if trial.state == TrialState.RUNNING:
            self._hold(trial, study_id)
        return trial._trial_id

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Set a parameter of a trial; see :class:`~optuna.storages.BaseStorage`."""
        held = self._held.get(trial_id)
        if held is None:
            self._patiently(
                lambda: self._backend.set_trial_param(
                    trial_id, param_name, param_value_internal, distribution
                )
            )
            return
        text = self._tables.registry.known_text(held.study_id, param_name, distribution)
        if text is None:
            with self._lock:
                self._tables.set_first_param(held, param_name, param_value_internal, distribution)
        elif param_name not in held.params:
            # As in Optuna's tables, the first value of a parameter stays.
            held.set_param(param_name, param_value_internal, distribution, text)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Update state and values; a held trial that finishes is written whole before this returns."""
        held = self._held.get(trial_id)
        if held is None:
            if state == TrialState.RUNNING and values is None:
                return self._take(trial_id)
            return self._patiently(lambda: self._backend.set_trial_state_values(trial_id, state, values))
        if state == TrialState.RUNNING:
            if values is not None:
                held.values = list(values)
            return False
        if not state.is_finished():
            # Back to the queue: another worker may go on with what is known so far.
            self._tables.publish(held)
            self._release(held)
            return self._patiently(lambda: self._backend.set_trial_state_values(trial_id, state, values))
        try:
            trial = self._tables.tell(held, state, values if values is not None else held.values)
        except (KeyError, UpdateFinishedTrialError, RefusedRowsError):
            self._release(held)
            raise
        self._release(held)
        with self._lock:
            view = self._views.get(held.study_id)
            if view is not None:
                view.add_finished(trial)
            self._recent[trial_id] = trial
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
        return True

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Set an intermediate value of a trial."""
        held = self._held.get(trial_id)
        if held is not None:
            held.set_intermediate_value(step, intermediate_value)
            return
        self._patiently(
            lambda: self._backend.set_trial_intermediate_value(trial_id, step, intermediate_value)
        )

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a user attribute of a trial."""
        held = self._held.get(trial_id)
        if held is not None:
            held.set_user_attr(key, value)
            return
        self._patiently(lambda: self._backend.set_trial_user_attr(trial_id, key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a system attribute of a trial."""
        held = self._held.get(trial_id)
        if held is not None:
            held.set_system_attr(key, value)
            return
        self._patiently(lambda: self._backend.set_trial_system_attr(trial_id, key, value))

    def publish(self, trial_id: int) -> None:
        """Let other processes see what a held trial has so far; does nothing for a trial that is not held."""
        held = self._held.get(trial_id)
        if held is not None:
            self._tables.publish(held)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial; own running trials and those told last come from memory."""
        held = self._held.get(trial_id)
        if held is not None:
            return held.freeze()
        recent = self._recent.get(trial_id)
        if recent is not None:
            return recent

        def read() -> FrozenTrial:
            with autocommitting(self.engine) as connection:
                found = read_trials(connection, None, [trial_id], {})
            if not found:
                raise KeyError(f"No trial with trial_id {trial_id} exists.")
            return found[0]

        return self._patiently(read)

    def get_trial_user_attrs(self, trial_id: int) -> dict[str, Any]:
        """Return the user attributes of a trial."""
        held = self._held.get(trial_id)
        return dict(held.user_attrs) if held is not None else self.get_trial(trial_id).user_attrs

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        """Return the system attributes of a trial."""
        held = self._held.get(trial_id)
        return dict(held.system_attrs) if held is not None else self.get_trial(trial_id).system_attrs

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """Return the id of a trial from its number."""
        return self._patiently(
            lambda: self._backend.get_trial_id_from_study_id_trial_number(study_id, trial_number)
        )

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials of a study by ascending number.

        Asked for WAITING trials only, as every ``study.ask()`` does, it looks at the few trials that are new or
        unfinished, and now and then puts the trials of dead workers back into the queue.
        """
        self._leave_parent()
        wanted = {state for state in TrialState if states is None or state in states}

        def read() -> list[FrozenTrial]:
            with self._lock, autocommitting(self.engine) as connection:
                view = self._views.setdefault(study_id, StudyView(study_id))
                if view.watermark < 0 or wanted != {TrialState.WAITING}:
                    self._require_study(connection, study_id)
                view.refresh(connection, self._tables.writer, self._held)
                found: list[FrozenTrial] = []
                if any(state.is_finished() for state in wanted):
                    view.read_finished(connection)
                    found += [trial for trial in view.finished.values() if trial.state in wanted]
                for trial in view.read_unfinished(connection, wanted & set(_UNFINISHED), self._held):
                    # One may have changed since the states were read.
                    if trial.state in wanted and trial._trial_id not in view.finished:
                        found.append(trial)
                return sorted(found, key=lambda trial: trial.number)

        if wanted == {TrialState.WAITING}:
            self._sweep(study_id)
        found = self._patiently(read)
        return copy.deepcopy(found) if deepcopy else found

    def get_n_trials(self, study_id: int, state: tuple[TrialState, ...] | TrialState | None = None) -> int:
        """Count the trials of a study."""
        query = sa.select(sa.func.count()).select_from(trials).where(trials.c.study_id == study_id)
        if state is not None:
            query = query.where(trials.c.state.in_((state,) if isinstance(state, TrialState) else state))

        def read() -> int:
            with autocommitting(self.engine) as connection:
                count = connection.execute(query).scalar_one()
                if not count:
                    self._require_study(connection, study_id)
                return int(count)

        return self._patiently(read)

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """Return the COMPLETE trial with the best value, feasible or not, as Optuna's storages do."""
        directions = self.get_study_directions(study_id)
        if len(directions) > 1:
            raise RuntimeError("Best trial can be obtained only for single-objective optimization.")

        def read() -> int | None:
            with autocommitting(self.engine) as connection:
                return best_trial_id(connection, study_id, directions[0])

        trial_id = self._patiently(read)
        if trial_id is None:
            raise ValueError("No trials are completed yet.")
        return self.get_trial(trial_id)

    def delete_study(self, study_id: int) -> None:
        """Delete a study and its trials."""
        super().delete_study(study_id)
        with self._lock:
            self._views.pop(study_id, None)
            self._tables.forget(study_id)
            self._recent.clear()
            for held in [held for held in self._held.values() if held.study_id == study_id]:
                self._release(held)

    def _take(self, trial_id: int) -> bool:
        taken = self._tables.take(trial_id)
        if taken is None:
            return False
        trial, study_id = taken
        with self._lock:
            self._hold(trial, study_id)
            # What is held is not asked for again, so the view must hear of the change from us.
            self._views.setdefault(study_id, StudyView(study_id)).add_running(trial_id)
        return True

    def _hold(self, trial: FrozenTrial, study_id: int) -> None:
        worker = trial.user_attrs.get(WORKER_KEY)
        if isinstance(worker, str):
            self._held[trial._trial_id] = HeldTrial(trial, study_id, worker)
            self._heart.hold(trial._trial_id)

    def _release(self, held: HeldTrial) -> None:
        self._held.pop(held.trial_id, None)
        self._heart.release(held.trial_id)

    def _sweep(self, study_id: int) -> None:
        now = time.monotonic()
        if (
            self.heartbeat_interval is None
            or now - self._swept.get(study_id, float("-inf")) < self.heartbeat_interval
        ):
            return
        self._swept[study_id] = now
        numbers = self._patiently(lambda: requeue_in_tables(self.engine, study_id, self.grace_s))
        if numbers:
            _logger.warning(
                f"Trials {numbers} of study id {study_id} lost their worker and will be run again."
            )

    def _leave_parent(self) -> None:
        """Start afresh in a forked child: connections and held trials belong to the parent."""
        if self._pid != os.getpid():
            self.engine.dispose(close=False)
            self._set_up()
