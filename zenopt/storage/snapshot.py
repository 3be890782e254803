"""What one process knows of a study's trials, and the cheap question that keeps it current."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from zenopt.storage.buffer import BufferedTrial
from zenopt.storage.queries import read_states, read_trials


@dataclass
class StudySnapshot:
    """The trials of a study as last seen.

    Args:
        study_id:
            The study.
        newest:
            Highest trial id seen so far.
        unfinished:
            The trials that were unfinished when last seen, by id.
    """

    study_id: int
    newest: int = -1
    unfinished: dict[int, TrialState] = field(default_factory=dict)
    # Finished trials are read once somebody asks for them; until then their ids are kept.
    _keeps_finished: bool = False
    _unread: set[int] = field(default_factory=set)
    _finished: dict[int, FrozenTrial] = field(default_factory=dict)
    _waiting: dict[int, FrozenTrial] = field(default_factory=dict)
    _distributions: dict[str, BaseDistribution] = field(default_factory=dict)

    def refresh(self, connection: sa.Connection) -> list[int]:
        """Learn which trials are new and which states have changed; return the ids of those that have finished."""
        finished = []
        for trial_id, _, state in read_states(connection, self.study_id, self.newest, self.unfinished):
            self.newest = max(self.newest, trial_id)
            if state != TrialState.WAITING:
                self._waiting.pop(trial_id, None)
            if not state.is_finished():
                self.unfinished[trial_id] = state
                continue
            finished.append(trial_id)
            self.unfinished.pop(trial_id, None)
            if trial_id not in self._finished:
                self._unread.add(trial_id)
        return finished

    def add_finished(self, trial: FrozenTrial) -> None:
        """Take over a trial that this process has finished."""
        if self.unfinished.pop(trial._trial_id, None) is None:
            # Not seen yet: the next refresh will find it.
            return
        if self._keeps_finished:
            self._finished[trial._trial_id] = trial
        else:
            self._unread.add(trial._trial_id)

    def read(
        self, connection: sa.Connection, states: set[TrialState], buffered: Mapping[int, BufferedTrial]
    ) -> list[FrozenTrial]:
        """Return the trials in one of ``states``, by number; those in ``buffered`` from memory."""
        found: list[FrozenTrial] = []
        if any(state.is_finished() for state in states):
            self._keeps_finished = True
            for trial in read_trials(connection, self.study_id, self._unread, self._distributions):
                self._finished[trial._trial_id] = trial
            self._unread.clear()
            found += self._finished.values()
        # Asked for WAITING trials alone, as before every trial, it reads each only once: Optuna allows no change to
        # them but that of their state, and a long queue would otherwise be read again and again.
        known = self._waiting if states == {TrialState.WAITING} else {}
        missing = set()
        for trial_id, state in self.unfinished.items():
            if state not in states:
                continue
            if trial_id in buffered:
                found.append(buffered[trial_id].freeze())
            elif trial_id in known:
                found.append(known[trial_id])
            else:
                missing.add(trial_id)
        for trial in read_trials(connection, self.study_id, missing, self._distributions):
            if trial.state == TrialState.WAITING:
                self._waiting[trial._trial_id] = trial
            found.append(trial)
        # One may have changed since the states were read.
        return sorted((trial for trial in found if trial.state in states), key=lambda trial: trial.number)
