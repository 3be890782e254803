"""A storage over Optuna's own tables that writes a trial in two transactions: one when asked, one when told.

The stock storage sends every parameter and attribute on its own, over a hundred statements for a trial of 40
parameters. Here asking inserts the RUNNING row, and everything else waits in memory until the trial is told: then
state, values, parameters and attributes go in one transaction, and are on disk when ``tell`` returns.

What differs from the stock storage, on purpose:

- Other processes see the parameters of a RUNNING trial only once it is told (or published with :meth:`publish`).
- A worker that dies loses what it had not told; its RUNNING trial goes back to WAITING and is run again.
- Finished trials are read into memory only when somebody asks for them.
- A database that is away is waited for; one that cannot be written raises :class:`~zenopt.core.errors.StorageError`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from zenopt.storage.heart import Heart
from zenopt.storage.held import HeldTrial
from zenopt.storage.orphans import DEFAULT_GRACE_S, requeue_in_tables
from zenopt.storage.salvage import RefusedRowsError
from zenopt.storage.trial_reading import TrialReading
from zenopt.storage.view import StudyView
from zenopt.storage.workers import WORKER_KEY

_logger = optuna.logging.get_logger(__name__)


class WriteBehindStorage(TrialReading):
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
        self.heartbeat_interval = heartbeat_interval
        self.grace_s = grace_s
        super().__init__(backend)

    def _begin(self) -> None:
        super()._begin()
        self._heart = Heart(self._backend.record_heartbeat, self.heartbeat_interval)
        self._swept: dict[int, float] = {}

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
        held = self._own(trial_id)
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
        held = self._own(trial_id)
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
        self._remember(held, trial)
        return True

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Set an intermediate value of a trial."""
        held = self._own(trial_id)
        if held is not None:
            held.set_intermediate_value(step, intermediate_value)
            return
        self._patiently(
            lambda: self._backend.set_trial_intermediate_value(trial_id, step, intermediate_value)
        )

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a user attribute of a trial."""
        held = self._own(trial_id)
        if held is not None:
            held.set_user_attr(key, value)
            return
        self._patiently(lambda: self._backend.set_trial_user_attr(trial_id, key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a system attribute of a trial."""
        held = self._own(trial_id)
        if held is not None:
            held.set_system_attr(key, value)
            return
        self._patiently(lambda: self._backend.set_trial_system_attr(trial_id, key, value))

    def publish(self, trial_id: int) -> None:
        """Let other processes see what a held trial has so far; does nothing for a trial that is not held."""
        held = self._own(trial_id)
        if held is not None:
            self._tables.publish(held)

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
