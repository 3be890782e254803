"""What a sampler, a report or a status line reads of a trial: a slim record instead of a FrozenTrial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from zenopt.storage.constraints import constraints_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from optuna.trial import FrozenTrial, TrialState

STRUCTURE_KEY = "structure"
"""Trial user attribute with the structure string."""


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
    """

    number: int
    trial_id: int
    state: TrialState
    values: tuple[float, ...] | None = None
    user_attrs: Mapping[str, Any] = field(default_factory=dict)
    constraints: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, Any] | None = None

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
        """Whether two readings of one trial show the same, parameters apart."""
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
        return cls(
            number=trial.number,
            trial_id=trial._trial_id,
            state=trial.state,
            values=None if trial.values is None else tuple(trial.values),
            user_attrs={key: trial.user_attrs[key] for key in keys if key in trial.user_attrs},
            constraints=constraints_of(trial.system_attrs),
            params=trial.params,
        )
