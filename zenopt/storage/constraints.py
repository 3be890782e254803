"""Constraint values of a trial: written so that Optuna 5 and optuna-dashboard both see them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

LEGACY_KEY = "constraints"
PREFIX = "constraints:"


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
        if PREFIX + name not in known:
            trial.set_constraint(name, float(value))
    values = [float(value) for value in constraints.values()]
    if known.get(LEGACY_KEY) != values:
        trial.storage.set_trial_system_attr(trial._trial_id, LEGACY_KEY, values)


def constraints_of(system_attrs: Mapping[str, Any]) -> dict[str, float]:
    """Return the constraint values in ``system_attrs`` by name; unnamed ones are named by their position.

    The unnamed list repeats the named values when :func:`record_constraints` wrote them, so it is read only
    where there are no names.
    """
    named = {key[len(PREFIX) :]: value for key, value in system_attrs.items() if key.startswith(PREFIX)}
    if named:
        return named
    return {str(position): value for position, value in enumerate(system_attrs.get(LEGACY_KEY) or ())}


def is_feasible(trial: FrozenTrial) -> bool:
    """Return whether every constraint of ``trial`` is <= 0; a trial without constraints is feasible."""
    return all(value <= 0.0 for value in constraints_of(trial.system_attrs).values())
