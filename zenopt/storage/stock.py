"""Optuna's own storages, taught to write down which worker runs each trial.

A trial that reads RUNNING after its worker died can be taken up again only when the database says whose it was.
The name is written together with the row (no moment without it) or, for a waiting trial, just before the row is
taken, so that a process killed at any point leaves a row that says who held it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from zenopt.storage.heartbeat import Heartbeat
from zenopt.storage.orphans import SEEN_KEY
from zenopt.storage.rdb import PatientRDBStorage
from zenopt.storage.workers import WORKER_KEY, current_worker

if TYPE_CHECKING:
    _Base = BaseStorage
else:
    _Base = object


class StampsWorker(_Base):
    """Mixin for a :class:`~optuna.storages.BaseStorage`: every RUNNING trial names its worker and shows it lives."""

    _heartbeat: Heartbeat

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Create a trial; without a template it is RUNNING and names this process as its worker."""
        if template_trial is not None:
            return super().create_new_trial(study_id, template_trial)  # type: ignore[safe-super]
        named = create_trial(state=TrialState.RUNNING, user_attrs={WORKER_KEY: str(current_worker())})
        trial_id = super().create_new_trial(study_id, named)  # type: ignore[safe-super]
        self._heartbeat.add(trial_id)
        return trial_id

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Update state and values; who takes a waiting trial is written before and confirmed after."""
        if state != TrialState.RUNNING or self.get_trial(trial_id).state != TrialState.WAITING:
            changed = super().set_trial_state_values(trial_id, state, values)  # type: ignore[safe-super]
            if state != TrialState.RUNNING:
                self._heartbeat.remove(trial_id)
            return changed
        worker = str(current_worker())
        self.set_trial_user_attr(trial_id, WORKER_KEY, worker)
        if not super().set_trial_state_values(trial_id, state, values):  # type: ignore[safe-super]
            return False
        # Another worker that lost the race may have written its name between our two steps.
        if self.get_trial(trial_id).user_attrs.get(WORKER_KEY) != worker:
            self.set_trial_user_attr(trial_id, WORKER_KEY, worker)
        self._heartbeat.add(trial_id)
        return True

    def __getstate__(self) -> dict[Any, Any]:
        parent = getattr(super(), "__getstate__", None)
        state = dict(parent()) if parent is not None else self.__dict__.copy()
        state["_heartbeat"] = self._heartbeat.interval_s
        return state

    def __setstate__(self, state: dict[Any, Any]) -> None:
        state = dict(state)
        self._heartbeat = Heartbeat(self._beat, state.pop("_heartbeat"))
        parent = getattr(super(), "__setstate__", None)
        if parent is not None:
            parent(state)
        else:
            self.__dict__.update(state)

    def _beat(self, trial_id: int) -> None:
        self.set_trial_system_attr(trial_id, SEEN_KEY, time.time())


class StampedRDBStorage(StampsWorker, PatientRDBStorage):
    """Optuna's cached RDB storage with worker names and heartbeats outside ``study.optimize`` too."""

    def __init__(self, backend: RDBStorage, heartbeat_interval: float | None = None) -> None:
        super().__init__(backend)
        self._heartbeat = Heartbeat(self._beat, heartbeat_interval)

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Set a parameter; also of a trial that somebody else has created since trials were read."""
        if trial_id in self._trial_id_to_study_id_and_number:
            super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
            return
        # Optuna's cache takes such a trial for none at all.
        self._patiently(
            lambda: self._backend.set_trial_param(trial_id, param_name, param_value_internal, distribution)
        )

    def _beat(self, trial_id: int) -> None:
        self._backend.record_heartbeat(trial_id)


class StampedJournalStorage(StampsWorker, JournalStorage):
    """Optuna's journal storage with worker names and heartbeats."""

    def __init__(self, backend: BaseJournalBackend, heartbeat_interval: float | None = None) -> None:
        super().__init__(backend)
        self._heartbeat = Heartbeat(self._beat, heartbeat_interval)
