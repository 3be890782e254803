"""The reading half of the write-behind storage: own running trials from memory, the rest from the database."""

from __future__ import annotations

import copy
import os
import threading
from collections import OrderedDict
from collections.abc import Container
from typing import Any

import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from zenopt.storage.held import HeldTrial
from zenopt.storage.reading import read_trials
from zenopt.storage.slim import best_trial_id
from zenopt.storage.sqlcore import autocommitting, trials
from zenopt.storage.study_level import StudyLevel
from zenopt.storage.trial_tables import TrialTables
from zenopt.storage.view import StudyView

_RECENT = 32
_UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)


class TrialReading(StudyLevel):
    """Trials, read with little effort.

    Args:
        backend:
            Optuna's storage on the same database.
    """

    def __init__(self, backend: RDBStorage) -> None:
        super().__init__(backend)
        self._begin()

    def _begin(self) -> None:
        """Start with nothing but the database."""
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._tables = TrialTables(self.engine)
        self._held: dict[int, HeldTrial] = {}
        self._views: dict[int, StudyView] = {}
        # Own trials told last, which Optuna's callbacks ask for at once.
        self._recent: OrderedDict[int, FrozenTrial] = OrderedDict()

    def _leave_parent(self) -> None:
        """Start afresh in a forked child: connections and held trials belong to the parent."""
        if self._pid != os.getpid():
            self.engine.dispose(close=False)
            self._begin()

    def _own(self, trial_id: int) -> HeldTrial | None:
        """Return a trial held by this process, or None."""
        self._leave_parent()
        return self._held.get(trial_id)

    def _sweep(self, study_id: int) -> None:
        """Called before the queue is looked at."""

    def _remember(self, held: HeldTrial, trial: FrozenTrial) -> None:
        """Note a trial that this process has just finished."""
        with self._lock:
            view = self._views.get(held.study_id)
            if view is not None:
                view.add_finished(trial)
            self._recent[trial._trial_id] = trial
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial; own running trials and those told last come from memory."""
        held = self._own(trial_id)
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
        held = self._own(trial_id)
        return dict(held.user_attrs) if held is not None else self.get_trial(trial_id).user_attrs

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        """Return the system attributes of a trial."""
        held = self._own(trial_id)
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
