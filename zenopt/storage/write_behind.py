"""A storage over Optuna's own tables that writes a trial in two transactions: one when asked, one when told.

Optuna's storage sends every parameter and attribute on its own, over a hundred statements for a trial of 40
parameters. Here asking inserts the RUNNING row, and everything else waits in memory until the trial is told: then
state, values, parameters and attributes go in one transaction, and are on disk when ``tell`` returns.

What differs from Optuna's storage, on purpose:

- Other processes see the parameters of a RUNNING trial only once it is told, is published, claims its evaluation or has
  an intermediate value, or its process has ended.
- A worker that is killed loses what it had not told; its RUNNING trial goes back to WAITING and is run again.
- Finished trials are read into memory only when somebody asks for them.
- A database that is away is waited for; one that cannot be written raises :class:`~zenopt.core.errors.StorageError`.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Container, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from zenopt.core.errors import StorageError
from zenopt.storage.buffer import BufferedTrial, Rows
from zenopt.storage.heartbeat import Heartbeat
from zenopt.storage.operations import ServedTables
from zenopt.storage.orphans import DEFAULT_GRACE_S, requeue_in_tables
from zenopt.storage.queries import count_states, read_best_id, read_state
from zenopt.storage.rdb import PATIENCE_AT_END_S, PatientRDBStorage
from zenopt.storage.snapshot import StudySnapshot
from zenopt.storage.tables import (
    delete_study,
    reading,
    require_study,
    system_attrs,
    transaction,
    user_attrs,
)
from zenopt.storage.writer import REFUSALS, RefusedRowsError, TrialWriter, read_trial

# Own trials told last, which Optuna's callbacks ask for at once.
_RECENT = 32
# Nobody else tells a trial as soon as it was asked for; to ask the database would make short trials dearer, s.
_MOMENT_S = 1.0

_logger = logging.getLogger(__name__)


class WriteBehindStorage(PatientRDBStorage):
    """Optuna's tables with few statements, little memory, and patience.

    Use :func:`~zenopt.storage.open_storage` to get one.

    Args:
        backend:
            Optuna's storage on the same database, of a schema version known here.
        heartbeat_interval:
            Seconds between signs of life of running trials, and between looks for trials whose worker died; None for
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
        self._begin()

    def _begin(self) -> None:
        """Start with nothing but the database."""
        self._pid = os.getpid()
        self._lock = threading.RLock()  # type: ignore[assignment]
        self._writer = TrialWriter(self.engine)
        self._buffered: dict[int, BufferedTrial] = {}
        self._snapshots: dict[int, StudySnapshot] = {}
        self._recent: OrderedDict[int, FrozenTrial] = OrderedDict()
        self._heartbeat = Heartbeat(self._backend.record_heartbeat, self.heartbeat_interval)
        self._swept: dict[int, float] = {}
        publish = functools.partial(_publish_all, self._writer, self._buffered, PATIENCE_AT_END_S)
        self._before_closing[:] = [self._heartbeat.stop, publish]

    def __getstate__(self) -> dict[str, Any]:
        # The other process may tell a trial of ours: it is to have what we know of it.
        if self._pid == os.getpid():
            _publish_all(self._writer, self._buffered)
        return {
            "backend": self._backend,
            "heartbeat_interval": self.heartbeat_interval,
            "grace_s": self.grace_s,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _own(self, trial_id: int) -> BufferedTrial | None:
        """Return a trial that this process runs, or None."""
        if self._pid != os.getpid():
            # In a forked child connections and running trials belong to the parent.
            self.engine.dispose(close=False)
            self._close_at_end()
            self._begin()
        return self._buffered.get(trial_id)

    # Trials: asked, changed, told.

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Create a trial; without a template it is RUNNING and kept in memory by this process until it is told."""
        self._own(-1)
        if template_trial is not None:
            return self._patiently(lambda: self._backend.create_new_trial(study_id, template_trial))
        return self._buffer(self._writer.create(study_id))

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Set a parameter of a trial; see :class:`~optuna.storages.BaseStorage`."""
        buffered = self._own(trial_id)
        if buffered is None:
            self._patiently(
                lambda: self._backend.set_trial_param(
                    trial_id, param_name, param_value_internal, distribution
                )
            )
            return
        with self._lock:
            self._writer.set_param(buffered, param_name, param_value_internal, distribution)

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Set an intermediate value of a trial; others see it at once, and all that is known of the trial with it.

        Pruners of other workers compare with it, and it is what is left of long work when its process is killed.
        """
        buffered = self._own(trial_id)
        if buffered is not None:
            buffered.set_intermediate_value(step, intermediate_value)
            try:
                self._writer.publish(buffered)
            except StorageError:
                raise
            except REFUSALS as error:
                # The trial is told without such a row, and the message then names it.
                _logger.debug("The database refuses a row of trial id %d: %r", trial_id, error)
        else:
            super().set_trial_intermediate_value(trial_id, step, intermediate_value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a user attribute of a trial."""
        buffered = self._own(trial_id)
        if buffered is not None:
            buffered.set_attr(user_attrs, key, value)
        else:
            super().set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a system attribute of a trial."""
        buffered = self._own(trial_id)
        if buffered is not None:
            buffered.set_attr(system_attrs, key, value)
        else:
            super().set_trial_system_attr(trial_id, key, value)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Update state and values; a trial of this process that finishes is written whole before this returns."""
        buffered = self._own(trial_id)
        if buffered is None:
            if state == TrialState.RUNNING and values is None:
                taken = self._writer.take(trial_id)
                if taken is not None:
                    self._buffer(taken)
                return taken is not None
            return super().set_trial_state_values(trial_id, state, values)
        if values is not None:
            buffered.set_values(values)
        if state == TrialState.RUNNING:
            return False
        if not state.is_finished():
            # Back to the queue: another worker may go on with what is known so far.
            self._writer.publish(buffered)
            self._release(buffered)
            return super().set_trial_state_values(trial_id, state, values)
        try:
            trial = self._writer.tell(buffered, state)
        except UpdateFinishedTrialError:
            self._hand_over(buffered)
            raise
        except (KeyError, RefusedRowsError):
            self._release(buffered)
            raise
        with self._lock:
            self._release(buffered)
            if buffered.study_id in self._snapshots:
                self._snapshots[buffered.study_id].add_finished(trial)
            self._recent[trial_id] = trial
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
        return True

    def publish(self, trial_id: int) -> None:
        """Let other processes see what a trial of this one has so far; does nothing for any other trial."""
        buffered = self._own(trial_id)
        if buffered is not None:
            self._writer.publish(buffered)

    def unwritten(self, trial_id: int) -> Rows:
        """Return what the database has not got of a trial of this process; nothing for any other trial."""
        buffered = self._own(trial_id)
        return {} if buffered is None else buffered.rows()

    def written(self, trial_id: int, rows: Rows) -> None:
        """Take note that someone else has written what :meth:`unwritten` has returned."""
        buffered = self._own(trial_id)
        if buffered is not None:
            buffered.written(rows)

    # Trials: read.

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial; those that this process runs, or has told last, come from memory."""
        buffered = self._own(trial_id)
        if buffered is not None and not self._is_finished_elsewhere(buffered):
            return buffered.freeze()
        recent = self._recent.get(trial_id)
        if recent is not None:
            return recent

        def read() -> FrozenTrial:
            with reading(self.engine) as connection:
                return read_trial(connection, trial_id)

        return self._patiently(read)

    def get_trial_user_attrs(self, trial_id: int) -> dict[str, Any]:
        """Return the user attributes of a trial."""
        buffered = self._own(trial_id)
        return dict((buffered.trial if buffered is not None else self.get_trial(trial_id)).user_attrs)

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        """Return the system attributes of a trial."""
        buffered = self._own(trial_id)
        return dict((buffered.trial if buffered is not None else self.get_trial(trial_id)).system_attrs)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials of a study by ascending number.

        Asked for WAITING trials only, as every ``study.ask()`` does, it looks at the few trials that are new or
        unfinished, and now and then puts the trials of dead workers back into the queue.
        """
        self._own(-1)
        wanted = {state for state in TrialState if states is None or state in states}
        if wanted == {TrialState.WAITING}:
            self._sweep(study_id)

        def refresh() -> list[int]:
            with reading(self.engine) as connection:
                if snapshot.newest < 0 or wanted != {TrialState.WAITING}:
                    require_study(connection, study_id)
                return snapshot.refresh(connection)

        def read() -> list[FrozenTrial]:
            with reading(self.engine) as connection:
                return snapshot.read(connection, wanted, self._buffered)

        with self._lock:
            snapshot = self._snapshots.setdefault(study_id, StudySnapshot(study_id))
            for trial_id in self._patiently(refresh):
                buffered = self._buffered.get(trial_id)
                if buffered is not None:
                    self._hand_over(buffered)
            found = self._patiently(read) if wanted & {*snapshot.unfinished.values(), *_FINISHED} else []
        return copy.deepcopy(found) if deepcopy else found

    def get_n_trials(self, study_id: int, state: tuple[TrialState, ...] | TrialState | None = None) -> int:
        """Count the trials of a study."""
        wanted = (
            set(TrialState) if state is None else {state} if isinstance(state, TrialState) else set(state)
        )

        def read() -> int:
            with reading(self.engine) as connection:
                counts = count_states(connection, study_id)
                if not any(counts.values()):
                    require_study(connection, study_id)
                return sum(count for key, count in counts.items() if key in wanted)

        return self._patiently(read)

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """Return the COMPLETE trial with the best value, feasible or not, as Optuna's storages do."""
        directions = self.get_study_directions(study_id)
        if len(directions) > 1:
            raise RuntimeError("Best trial can be obtained only for single-objective optimization.")

        def read() -> int | None:
            with reading(self.engine) as connection:
                return read_best_id(connection, study_id, directions[0])

        trial_id = self._patiently(read)
        if trial_id is None:
            raise ValueError("No trials are completed yet.")
        buffered = self._own(trial_id)
        if buffered is not None:
            # Another process has told it.
            self._hand_over(buffered)
        return self.get_trial(trial_id)

    # Studies: what is not as in Optuna's storage.

    def delete_study(self, study_id: int) -> None:
        """Delete a study and its trials, without reading them."""

        def delete() -> None:
            engine = self.engine
            if isinstance(engine, ServedTables):
                # Its server must know: an id of SQLite may be given again.
                self._backend.delete_study(study_id)
                return
            with transaction(engine) as connection:
                delete_study(connection, study_id)

        self._patiently(delete)
        with self._lock:
            for buffered in [b for b in self._buffered.values() if b.study_id == study_id]:
                self._release(buffered)
            self._studies.pop(study_id, None)
            self._snapshots.pop(study_id, None)
            self._recent.clear()
            self._writer.forget(study_id)

    def _is_finished_elsewhere(self, buffered: BufferedTrial) -> bool:
        """Return whether another process has finished a trial of this one, and let go of it then."""

        def read() -> TrialState | None:
            with reading(self.engine, may_be_lost=True) as connection:
                return read_state(connection, buffered.trial_id)

        if time.monotonic() - buffered.since < _MOMENT_S:
            return False
        state = self._patiently(read)
        if state is None or not state.is_finished():
            return False
        self._hand_over(buffered)
        return True

    def _hand_over(self, buffered: BufferedTrial) -> None:
        """Let go of a trial that another process has finished, and add to it what only this one knows."""
        self._release(buffered)
        # The trial may have been deleted with its study.
        with contextlib.suppress(KeyError):
            self._writer.add_missing(buffered)

    def _buffer(self, buffered: BufferedTrial) -> int:
        self._buffered[buffered.trial_id] = buffered
        self._heartbeat.add(buffered.trial_id)
        return buffered.trial_id

    def _release(self, buffered: BufferedTrial) -> None:
        self._buffered.pop(buffered.trial_id, None)
        self._heartbeat.remove(buffered.trial_id)

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
                "Trials %s of study id %d lost their worker and will be run again.", numbers, study_id
            )


_FINISHED = {state for state in TrialState if state.is_finished()}


def _publish_all(
    writer: TrialWriter, buffered: dict[int, BufferedTrial], patience_s: float | None = None
) -> None:
    for trial in list(buffered.values()):
        # What was told or taken by others meanwhile, or deleted, is settled where this process next uses it.
        with contextlib.suppress(KeyError, UpdateFinishedTrialError):
            writer.publish(trial, patience_s)
