"""Whole trials read in bulk from Optuna's tables, without its ORM."""

from __future__ import annotations

import datetime
import json
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages._rdb.models import TrialIntermediateValueModel, TrialValueModel
from optuna.trial import FrozenTrial

from zenopt.storage.sqlcore import (
    intermediate_values,
    system_attrs,
    trial_params,
    trial_values,
    trials,
    user_attrs,
)

# More ids than this are read as one range: shorter statements, and no limit on variables to respect.
_MANY = 500


def read_trials(
    connection: sa.Connection,
    study_id: int | None,
    trial_ids: Collection[int],
    distributions: dict[str, BaseDistribution],
) -> list[FrozenTrial]:
    """Return the trials with the given ids, by ascending id; ids that the study does not have are left out.

    Args:
        connection:
            Open connection.
        study_id:
            The study, or None for any.
        trial_ids:
            Ids of the trials.
        distributions:
            Distributions by their JSON text, shared by all trials read: parsing each once saves most of the time,
            and keeping one object of each most of the memory. Extended here.

    Returns:
        The trials.
    """
    wanted = set(trial_ids)
    if not wanted:
        return []
    if len(wanted) <= _MANY:
        ids = sorted(wanted)
        return _read(connection, study_id, lambda column: column.in_(ids), wanted, distributions)
    low, high = min(wanted), max(wanted)
    return _read(connection, study_id, lambda column: column.between(low, high), wanted, distributions)


def _read(
    connection: sa.Connection,
    study_id: int | None,
    condition: Callable[[Any], sa.ColumnElement[bool]],
    wanted: set[int],
    distributions: dict[str, BaseDistribution],
) -> list[FrozenTrial]:
    in_study = condition(trials.c.trial_id)
    if study_id is not None:
        in_study = in_study & (trials.c.study_id == study_id)
    columns = (
        trials.c.trial_id,
        trials.c.number,
        trials.c.state,
        trials.c.datetime_start,
        trials.c.datetime_complete,
    )
    rows = connection.execute(sa.select(*columns).where(in_study).order_by(trials.c.trial_id)).all()

    def of_study(table: sa.Table, order: Any, *columns: Any) -> Any:
        query = sa.select(table.c.trial_id, *columns).join(trials, trials.c.trial_id == table.c.trial_id)
        return connection.execute(query.where(in_study).order_by(order))

    params: dict[int, dict[str, Any]] = defaultdict(dict)
    spaces: dict[int, dict[str, BaseDistribution]] = defaultdict(dict)
    p = trial_params.c
    for trial_id, name, value, text in of_study(
        trial_params, p.param_id, p.param_name, p.param_value, p.distribution_json
    ):
        if trial_id not in wanted:
            continue
        distribution = distributions.get(text)
        if distribution is None:
            distribution = distributions[text] = json_to_distribution(text)
        params[trial_id][name] = distribution.to_external_repr(value)
        spaces[trial_id][name] = distribution
    values: dict[int, list[float]] = defaultdict(list)
    v = trial_values.c
    for trial_id, stored, kind in of_study(trial_values, v.objective, v.value, v.value_type):
        values[trial_id].append(TrialValueModel.stored_repr_to_value(stored, kind))
    steps: dict[int, dict[int, float]] = defaultdict(dict)
    i = intermediate_values.c
    for trial_id, step, stored, kind in of_study(
        intermediate_values,
        i.trial_intermediate_value_id,
        i.step,
        i.intermediate_value,
        i.intermediate_value_type,
    ):
        steps[trial_id][step] = TrialIntermediateValueModel.stored_repr_to_intermediate_value(stored, kind)
    attrs = []
    for table in (user_attrs, system_attrs):
        of_trial: dict[int, dict[str, Any]] = defaultdict(dict)
        order = next(iter(table.primary_key.columns))
        for trial_id, key, text in of_study(table, order, table.c.key, table.c.value_json):
            of_trial[trial_id][key] = json.loads(text)
        attrs.append(of_trial)
    return [
        FrozenTrial(
            number=number,
            state=state,
            value=None,
            values=values.get(trial_id),
            datetime_start=to_local(start),
            datetime_complete=to_local(complete),
            params=params.get(trial_id, {}),
            distributions=spaces.get(trial_id, {}),
            user_attrs=attrs[0].get(trial_id, {}),
            system_attrs=attrs[1].get(trial_id, {}),
            intermediate_values=steps.get(trial_id, {}),
            trial_id=trial_id,
        )
        for trial_id, number, state, start, complete in rows
        if trial_id in wanted
    ]


def to_local(utc: datetime.datetime | None) -> datetime.datetime | None:
    """Return a naive UTC time of the tables as the naive local time of Optuna's trials."""
    if utc is None:
        return None
    return utc.replace(tzinfo=datetime.timezone.utc).astimezone().replace(tzinfo=None)
