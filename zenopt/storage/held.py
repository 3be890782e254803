"""A RUNNING trial held by this process: what is known of it, and what the database has not got yet."""

from __future__ import annotations

import datetime
import json
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState


class HeldTrial:
    """A RUNNING trial whose parameters and attributes are kept in memory until it is told.

    Args:
        trial:
            The trial as it is in the database.
        study_id:
            Its study.
        worker:
            The worker attribute in its row, by which a later write makes sure that the trial is still ours.
    """

    def __init__(self, trial: FrozenTrial, study_id: int, worker: str) -> None:
        self.trial_id = trial._trial_id
        self.number = trial.number
        self.study_id = study_id
        self.worker = worker
        self.datetime_start = trial.datetime_start
        self.values = trial.values
        self.params = dict(trial.params)
        self.distributions = dict(trial.distributions)
        self.user_attrs = dict(trial.user_attrs)
        self.system_attrs = dict(trial.system_attrs)
        self.intermediate_values = dict(trial.intermediate_values)
        # Rows still to be written, in the form in which they are written.
        self.new_params: list[tuple[str, float, str]] = []
        self.new_user_attrs: dict[str, str] = {}
        self.new_system_attrs: dict[str, str] = {}
        self.new_intermediate_values: dict[int, float] = {}

    def set_param(self, name: str, value: float, distribution: BaseDistribution, text: str) -> None:
        """Keep a parameter; ``value`` is its internal representation and ``text`` its distribution as JSON."""
        self.params[name] = distribution.to_external_repr(value)
        self.distributions[name] = distribution
        # PostgreSQL takes a column of numbers as one array, which must be of one type.
        self.new_params.append((name, float(value), text))

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keep a user attribute.

        Raises:
            TypeError: If the value is not JSON serializable.
        """
        text = json.dumps(value)
        self.user_attrs[key] = _as_stored(value, text)
        self.new_user_attrs[key] = text

    def set_system_attr(self, key: str, value: Any) -> None:
        """Keep a system attribute.

        Raises:
            TypeError: If the value is not JSON serializable.
        """
        text = json.dumps(value)
        self.system_attrs[key] = _as_stored(value, text)
        self.new_system_attrs[key] = text

    def set_intermediate_value(self, step: int, value: float) -> None:
        """Keep an intermediate value."""
        self.intermediate_values[step] = value
        self.new_intermediate_values[step] = value

    def forget_new(self) -> None:
        """Note that everything new is in the database now."""
        self.new_params = []
        self.new_user_attrs = {}
        self.new_system_attrs = {}
        self.new_intermediate_values = {}

    def freeze(
        self,
        state: TrialState = TrialState.RUNNING,
        values: list[float] | None = None,
        datetime_complete: datetime.datetime | None = None,
    ) -> FrozenTrial:
        """Return the trial as of now; later changes do not reach the returned object."""
        return FrozenTrial(
            number=self.number,
            state=state,
            value=None,
            values=values if values is not None else self.values,
            datetime_start=self.datetime_start,
            datetime_complete=datetime_complete,
            params=dict(self.params),
            distributions=dict(self.distributions),
            user_attrs=dict(self.user_attrs),
            system_attrs=dict(self.system_attrs),
            intermediate_values=dict(self.intermediate_values),
            trial_id=self.trial_id,
        )


def _as_stored(value: Any, text: str) -> Any:
    # What the database gives back: tuples become lists, integer keys become text. Plain scalars stay themselves.
    return value if type(value) in (str, int, float, bool, type(None)) else json.loads(text)
