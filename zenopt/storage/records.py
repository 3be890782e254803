"""What a sampler, a report or a status line reads of a trial: a slim record, and whether its constraints hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

    import optuna
    from optuna.trial import FrozenTrial, TrialState

STRUCTURE_KEY = "structure"
"""Trial user attribute with the structure string."""
CONSTRAINTS_KEY = "constraints"
"""Trial system attribute with the unnamed list of constraint values."""
CONSTRAINT_PREFIX = "constraints:"
"""What the trial system attribute of a constraint by name begins with."""


@dataclass(frozen=True, eq=False)
class TrialRecord:
    """One trial, without what was not asked for.

    Args:
        number:
            Trial number in the study.
        trial_id:
            Id in the storage.
        state:
            State when it was read.
        values:
            Objective values; None until the trial has them.
        user_attrs:
            The user attributes that were asked for, of those the trial has.
        constraints:
            Signed violations by name; <= 0 is feasible. Read through SQL, unfinished trials show none,
            and those are unnamed that were written in both forms.
        params:
            Parameters in external representation, or None where they were not asked for.
        started_s:
            When it began to run, Unix time in seconds.
        ended_s:
            When it ended, Unix time in seconds.
    """

    number: int
    trial_id: int
    state: TrialState
    values: tuple[float, ...] | None = None
    user_attrs: Mapping[str, Any] = field(default_factory=dict)
    constraints: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, Any] | None = None
    started_s: float | None = None
    ended_s: float | None = None

    @property
    def value(self) -> float | None:
        """The value of the first objective."""
        return None if self.values is None else self.values[0]

    @property
    def structure(self) -> str | None:
        """The structure string, once the trial has one."""
        return self.user_attrs.get(STRUCTURE_KEY)

    @property
    def is_feasible(self) -> bool:
        """Whether every constraint is <= 0; a trial without constraints is feasible."""
        return all(value <= 0.0 for value in self.constraints.values())

    def is_same_as(self, other: TrialRecord) -> bool:
        """Whether two readings of one trial show the same, parameters and times apart."""
        return (self.state, self.values, self.user_attrs, self.constraints) == (
            other.state,
            other.values,
            other.user_attrs,
            other.constraints,
        )

    def with_params(self, params: Mapping[str, Any]) -> TrialRecord:
        """Return the record with parameters in external representation."""
        return replace(self, params=params)

    @classmethod
    def of(cls, trial: FrozenTrial, keys: Collection[str]) -> TrialRecord:
        """Return the record of ``trial`` with the user attributes ``keys`` and its parameters."""
        started, ended = trial.datetime_start, trial.datetime_complete
        return cls(
            number=trial.number,
            trial_id=trial._trial_id,
            state=trial.state,
            values=None if trial.values is None else tuple(trial.values),
            user_attrs={key: trial.user_attrs[key] for key in keys if key in trial.user_attrs},
            constraints=constraints_of(trial.system_attrs),
            params=trial.params,
            started_s=None if started is None else started.timestamp(),
            ended_s=None if ended is None else ended.timestamp(),
        )


def record_constraints(trial: optuna.Trial, constraints: Mapping[str, float]) -> None:
    """Record constraint values on a running trial; a trial is feasible when all of them are <= 0.

    They are kept twice: by name through ``Trial.set_constraint`` (Optuna 5), and as the unnamed list that
    optuna-dashboard and earlier versions read.

    Args:
        trial:
            A running trial.
        constraints:
            Signed violation by name, e.g. ``{"params": -0.1}``.

    Raises:
        ValueError: If a value is NaN.
    """
    for name, value in constraints.items():
        if math.isnan(value):
            raise ValueError(f"The constraint {name!r} of trial {trial.number} must be a number. Got nan.")
    # A trial that was requeued from a dead worker may carry them already, and Optuna warns on a second call.
    known = trial.storage.get_trial_system_attrs(trial._trial_id)
    for name, value in constraints.items():
        if CONSTRAINT_PREFIX + name not in known:
            trial.set_constraint(name, float(value))
    values = [float(value) for value in constraints.values()]
    if known.get(CONSTRAINTS_KEY) != values:
        trial.storage.set_trial_system_attr(trial._trial_id, CONSTRAINTS_KEY, values)


def constraints_of(system_attrs: Mapping[str, Any]) -> dict[str, float]:
    """Return the constraint values in ``system_attrs`` by name; unnamed ones are named by their position.

    The unnamed list repeats the named values when :func:`record_constraints` wrote them, so it is read only
    where there are no names.
    """
    prefix = CONSTRAINT_PREFIX
    named = {key[len(prefix) :]: value for key, value in system_attrs.items() if key.startswith(prefix)}
    if named:
        return named
    return {str(position): value for position, value in enumerate(system_attrs.get(CONSTRAINTS_KEY) or ())}


def is_feasible(trial: FrozenTrial) -> bool:
    """Return whether every constraint of ``trial`` is <= 0; a trial without constraints is feasible."""
    return all(value <= 0.0 for value in constraints_of(trial.system_attrs).values())
