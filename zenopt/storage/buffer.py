"""A RUNNING trial of this process: what is known of it, and which rows the database has not got yet."""

from __future__ import annotations

import copy
import datetime
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.storages._rdb.models import TrialIntermediateValueModel, TrialValueModel
from optuna.trial import FrozenTrial, TrialState

from zenopt.storage.tables import (
    intermediate_values,
    system_attrs,
    trial_params,
    trial_values,
    user_attrs,
)
from zenopt.storage.workers import WORKER_KEY

KINDS = {
    trial_values: "value of objective",
    trial_params: "parameter",
    user_attrs: "user attribute",
    system_attrs: "system attribute",
    intermediate_values: "value of step",
}
"""Tables of a trial's rows, with what to call a row when speaking to people."""


Rows: TypeAlias = Mapping[str, Sequence[Mapping[str, Any]]]
"""Rows of a trial by the name of their table."""


class BufferedTrial:
    """A RUNNING trial whose parameters and attributes are kept in memory until it is told.

    Args:
        trial:
            The trial as it is in the database.
        study_id:
            Its study.
    """

    def __init__(self, trial: FrozenTrial, study_id: int) -> None:
        self.trial = trial
        self.trial_id = trial._trial_id
        self.study_id = study_id
        # The worker in its row, by which a later write makes sure that the trial is still ours.
        self.worker: str = trial.user_attrs[WORKER_KEY]
        # Rows by table and by what is unique in it: a name, a key, a step, the number of an objective.
        self.unwritten: dict[sa.Table, dict[Any, dict[str, Any]]] = {table: {} for table in KINDS}
        self.since = time.monotonic()

    def set_values(self, values: Sequence[float]) -> None:
        """Keep the objective values."""
        self.trial.values = list(values)
        for objective, value in enumerate(values):
            stored, kind = TrialValueModel.value_to_stored_repr(float(value))
            self._add(trial_values, objective, objective=objective, value=stored, value_type=kind)

    def set_param(self, name: str, value: float, distribution: BaseDistribution, text: str) -> None:
        """Keep a parameter; ``value`` is its internal representation and ``text`` its distribution as JSON."""
        self.trial.params[name] = distribution.to_external_repr(value)
        self.trial.distributions[name] = distribution
        self.unwritten[trial_params][name] = self.param_row(name, value, text)

    def param_row(self, name: str, value: float, text: str) -> dict[str, Any]:
        """Return the row of a parameter, see :meth:`set_param`."""
        row = {"param_name": name, "param_value": float(value), "distribution_json": text}
        return {"trial_id": self.trial_id, **row}

    def set_attr(self, table: sa.Table, key: str, value: Any) -> None:
        """Keep a user or system attribute, by its table; TypeError if the value is not JSON serializable."""
        text = json.dumps(value)
        # Kept as the database gives it back: tuples become lists, integer keys become text. Scalars stay themselves.
        plain = type(value) in (str, int, float, bool, type(None))
        attrs = self.trial.user_attrs if table is user_attrs else self.trial.system_attrs
        attrs[key] = value if plain else json.loads(text)
        self._add(table, key, key=key, value_json=text)

    def set_intermediate_value(self, step: int, value: float) -> None:
        """Keep an intermediate value."""
        self.trial.intermediate_values[step] = value
        stored, kind = TrialIntermediateValueModel.intermediate_value_to_stored_repr(float(value))
        self._add(
            intermediate_values,
            step,
            step=step,
            intermediate_value=stored,
            intermediate_value_type=kind,
        )

    def _add(self, table: sa.Table, unique: Any, **columns: Any) -> None:
        self.unwritten[table][unique] = {"trial_id": self.trial_id, **columns}

    def rows(self) -> Rows:
        """Return what the database has not got."""
        return {table.name: list(rows.values()) for table, rows in self.unwritten.items() if rows}

    def written(self, rows: Rows) -> None:
        """Take note that the database has got all rows, where there were any."""
        for table in self.unwritten:
            if table.name in rows:
                self.unwritten[table].clear()

    def freeze(
        self, state: TrialState = TrialState.RUNNING, datetime_complete: datetime.datetime | None = None
    ) -> FrozenTrial:
        """Return the trial as of now; later changes do not reach the returned object."""
        trial = copy.copy(self.trial)
        trial.params = dict(trial.params)
        trial.distributions = dict(trial.distributions)
        trial.user_attrs = dict(trial.user_attrs)
        trial.system_attrs = dict(trial.system_attrs)
        trial.intermediate_values = dict(trial.intermediate_values)
        trial.state = state
        trial.datetime_complete = datetime_complete
        return trial
