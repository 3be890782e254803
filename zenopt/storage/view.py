"""What one process knows of a study's trials, and the cheap question that keeps it current."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from zenopt.storage.held import HeldTrial
from zenopt.storage.reading import read_trials
from zenopt.storage.writers import Writer


@dataclass
class StudyView:
    """The trials of a study as last seen.

    A finished trial never changes again, so all that can be new has an id above the watermark or was unfinished
    when last seen. That answers exactly, at the price of a primary-key look-up, what would otherwise scan the
    study on every ask: which trials are WAITING.

    Args:
        study_id:
            The study.
    """

    study_id: int
    watermark: int = -1
    unfinished: dict[int, TrialState] = field(default_factory=dict)
    unread: set[int] = field(default_factory=set)
    finished: dict[int, FrozenTrial] = field(default_factory=dict)
    """Finished trials by id: filled only once somebody asks for all trials."""
    keeps_finished: bool = False
    waiting: dict[int, FrozenTrial] = field(default_factory=dict)
    distributions: dict[str, BaseDistribution] = field(default_factory=dict)

    def refresh(self, connection: sa.Connection, writer: Writer, held: Container[int]) -> None:
        """Learn which trials are new and which states have changed; those in ``held`` change only by us."""
        watermark = self.watermark
        changing = [trial_id for trial_id in self.unfinished if trial_id not in held]
        for trial_id, _, state in writer.new_states(connection, self.study_id, watermark, changing):
            watermark = max(watermark, trial_id)
            if state.is_finished():
                self.unfinished.pop(trial_id, None)
                self.waiting.pop(trial_id, None)
                if trial_id not in self.finished:
                    self.unread.add(trial_id)
            else:
                self.unfinished[trial_id] = state
                if state == TrialState.RUNNING:
                    self.waiting.pop(trial_id, None)
        self.watermark = watermark

    def add_running(self, trial_id: int) -> None:
        """Note a waiting trial that this process has taken."""
        if trial_id in self.unfinished:
            self.unfinished[trial_id] = TrialState.RUNNING
            self.waiting.pop(trial_id, None)

    def add_finished(self, trial: FrozenTrial) -> None:
        """Note a trial that this process has finished."""
        if trial._trial_id not in self.unfinished:
            # Not seen yet: the next refresh will find it.
            return
        del self.unfinished[trial._trial_id]
        if self.keeps_finished:
            self.finished[trial._trial_id] = trial
        else:
            self.unread.add(trial._trial_id)

    def read_finished(self, connection: sa.Connection) -> None:
        """Read the finished trials that have not been read yet."""
        self.keeps_finished = True
        for trial in read_trials(connection, self.study_id, self.unread, self.distributions):
            self.finished[trial._trial_id] = trial
        self.unread.clear()

    def read_unfinished(
        self, connection: sa.Connection, states: set[TrialState], held: Mapping[int, HeldTrial]
    ) -> list[FrozenTrial]:
        """Return the unfinished trials in one of ``states``; those in ``held`` from memory.

        Asked for WAITING trials alone, as on every ask, it reads each only once: Optuna allows no change to them
        but that of their state, and a long queue would otherwise be read again for every trial.
        """
        wanted = {trial_id for trial_id, state in self.unfinished.items() if state in states}
        found = [held[trial_id].freeze() for trial_id in wanted if trial_id in held]
        known = self.waiting if states == {TrialState.WAITING} else {}
        found += [known[trial_id] for trial_id in wanted if trial_id in known]
        missing = [trial_id for trial_id in wanted if trial_id not in held and trial_id not in known]
        for trial in read_trials(connection, self.study_id, missing, self.distributions):
            if trial.state == TrialState.WAITING:
                self.waiting[trial._trial_id] = trial
            found.append(trial)
        return found
