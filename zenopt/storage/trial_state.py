"""Who holds a trial, as its row says: asked when a write did not find what it expected."""

from __future__ import annotations

import json
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from optuna.trial import TrialState

from zenopt.storage.sqlcore import trials, user_attrs
from zenopt.storage.workers import WORKER_KEY


class FoundTrial(NamedTuple):
    """A trial's row.

    Args:
        state:
            Its state.
        start:
            When it was last taken, naive UTC.
        owner:
            The worker attribute as JSON, or None.
    """

    state: TrialState
    start: datetime | None
    owner: str | None

    def why_not_ours(self, number: int) -> str:
        """Return in words why the worker that held the trial ``number`` cannot write to it."""
        if self.state.is_finished():
            return f"Trial#{number} has already finished and can not be updated."
        return (
            f"Trial#{number} was taken from this worker, which had shown no sign of life, and is {self.state.name} "
            f"({self.owner})."
        )


def find_trial(connection: sa.Connection, trial_id: int) -> FoundTrial:
    """Return state, start and owner of a trial.

    Raises:
        KeyError: If there is no such trial.
    """
    mine = (user_attrs.c.trial_id == trials.c.trial_id) & (user_attrs.c.key == WORKER_KEY)
    query = (
        sa.select(trials.c.state, trials.c.datetime_start, user_attrs.c.value_json)
        .outerjoin(user_attrs, mine)
        .where(trials.c.trial_id == trial_id)
    )
    row = connection.execute(query).first()
    if row is None:
        raise KeyError(f"No trial with trial_id {trial_id} exists.")
    return FoundTrial(row[0], row[1], row[2])


def find_created(
    connection: sa.Connection, study_id: int, after: int, worker: str, start: datetime
) -> tuple[int, int] | None:
    """Return id and number of the RUNNING trial that ``worker`` created at ``start``, if that arrived.

    Args:
        connection:
            Open connection.
        study_id:
            The study.
        after:
            The trial's id is above this one.
        worker:
            The worker.
        start:
            When it was created, naive UTC as the table keeps it.
    """
    mine = (user_attrs.c.trial_id == trials.c.trial_id) & (user_attrs.c.key == WORKER_KEY)
    query = (
        sa.select(trials.c.trial_id, trials.c.number)
        .join(user_attrs, mine)
        .where(
            trials.c.study_id == study_id,
            trials.c.trial_id > after,
            trials.c.state == TrialState.RUNNING,
            trials.c.datetime_start == start,
            user_attrs.c.value_json == json.dumps(worker),
        )
    )
    row = connection.execute(query).first()
    return None if row is None else (row[0], row[1])
