"""The rows of a trial: which tables they go to, and in which form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.storages._rdb.models import TrialIntermediateValueModel, TrialValueModel

Rows = Sequence[tuple[Any, ...]]


@dataclass(frozen=True)
class RowKind:
    """A table with rows of trials.

    Args:
        table:
            Its name.
        columns:
            The columns that are written beside ``trial_id``; the first is unique within a trial.
        types:
            Their types in PostgreSQL.
    """

    table: str
    columns: tuple[str, ...]
    types: tuple[str, ...]


PARAMS = RowKind(
    "trial_params", ("param_name", "param_value", "distribution_json"), ("text", "float8", "text")
)
USER_ATTRS = RowKind("trial_user_attributes", ("key", "value_json"), ("text", "text"))
SYSTEM_ATTRS = RowKind("trial_system_attributes", ("key", "value_json"), ("text", "text"))
VALUES = RowKind("trial_values", ("objective", "value", "value_type"), ("int4", "float8", "trialvaluetype"))
STEPS = RowKind(
    "trial_intermediate_values",
    ("step", "intermediate_value", "intermediate_value_type"),
    ("int4", "float8", "trialintermediatevaluetype"),
)


def value_rows(values: Iterable[float]) -> list[tuple[Any, ...]]:
    """Return objective values as rows of :data:`VALUES`."""
    rows = []
    for objective, value in enumerate(values):
        stored, kind = TrialValueModel.value_to_stored_repr(float(value))
        rows.append((objective, stored, kind.name))
    return rows


def step_rows(values: Iterable[tuple[int, float]]) -> list[tuple[Any, ...]]:
    """Return ``(step, intermediate value)`` pairs as rows of :data:`STEPS`."""
    rows = []
    for step, value in values:
        stored, kind = TrialIntermediateValueModel.intermediate_value_to_stored_repr(float(value))
        rows.append((step, stored, kind.name))
    return rows
