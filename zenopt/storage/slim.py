"""Slim SQL queries on Optuna's tables: only the columns that were asked for, no ORM objects.

The stock storage builds every trial of a study in every process that opens it: 20,000 trials of 40 parameters
take half a minute and over a gigabyte. These read the same facts in well under a second.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from zenopt.storage.constraints import LEGACY_KEY, PREFIX
from zenopt.storage.records import TrialRecord
from zenopt.storage.sqlcore import ValueType, system_attrs, trial_params, trial_values, trials, user_attrs

# SQLite allows 999 variables in a statement in its older builds.
_CHUNK = 500


def read_records(
    connection: sa.Connection,
    study_id: int,
    keys: Collection[str],
    *,
    after: int = -1,
    including: Collection[int] = (),
    with_params: bool = False,
) -> list[TrialRecord]:
    """Return the trials of a study with an id above ``after``, and those in ``including``, by ascending id."""
    records = []
    if after >= 0 and including:
        wanted = sorted(trial_id for trial_id in including if trial_id <= after)
        for chunk in _chunks(wanted):
            records += _read_where(connection, study_id, keys, _is_in(chunk), with_params)
    records += _read_where(connection, study_id, keys, lambda column: column > after, with_params)
    return records


def read_top(
    connection: sa.Connection, study_id: int, direction: StudyDirection, count: int, keys: Collection[str]
) -> list[TrialRecord]:
    """Return the ``count`` best feasible COMPLETE trials with their parameters, best first.

    Equal values are ordered by trial number.
    """
    best: list[TrialRecord] = []
    ranked = list(connection.execute(_ranked(study_id, direction)).scalars())
    # Whether a trial is feasible is known only after reading its constraints; most of the best ones are.
    for chunk in _chunks(ranked):
        found = {r.trial_id: r for r in _read_where(connection, study_id, keys, _is_in(chunk), False)}
        best += [found[trial_id] for trial_id in chunk if trial_id in found and found[trial_id].is_feasible]
        if len(best) >= count:
            break
    return add_params(connection, best[:count])


def best_trial_id(connection: sa.Connection, study_id: int, direction: StudyDirection) -> int | None:
    """Return the id of the COMPLETE trial with the best value, feasible or not; None without any.

    Of equal values the first trial's counts, as in memory; Optuna's SQL storage leaves that to the database.
    """
    return connection.execute(_ranked(study_id, direction).limit(1)).scalar()


def _ranked(study_id: int, direction: StudyDirection) -> sa.Select[Any]:
    maximize = direction == StudyDirection.MAXIMIZE
    high, low = (ValueType.INF_POS, ValueType.INF_NEG) if maximize else (ValueType.INF_NEG, ValueType.INF_POS)
    kind = trial_values.c.value_type
    rank = sa.case((kind == high, 0), (kind == low, 2), else_=1)
    value = trial_values.c.value
    return (
        sa.select(trials.c.trial_id)
        .join(trial_values, trial_values.c.trial_id == trials.c.trial_id)
        .where(
            trials.c.study_id == study_id,
            trials.c.state == TrialState.COMPLETE,
            trial_values.c.objective == 0,
        )
        .order_by(rank, value.desc() if maximize else value.asc(), trials.c.number)
    )


def count_states(connection: sa.Connection, study_id: int) -> dict[TrialState, int]:
    """Return the number of trials in each state; states without trials are 0."""
    query = sa.select(trials.c.state, sa.func.count()).where(trials.c.study_id == study_id)
    found = {row[0]: row[1] for row in connection.execute(query.group_by(trials.c.state))}
    return {state: found.get(state, 0) for state in TrialState}


def add_params(connection: sa.Connection, records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the records with their parameters read from the database."""
    params: dict[int, dict[str, Any]] = defaultdict(dict)
    for chunk in _chunks([record.trial_id for record in records]):
        for trial_id, name, value in _read_params(connection, trial_params.c.trial_id.in_(chunk)):
            params[trial_id][name] = value
    return [_with_params(record, params[record.trial_id]) for record in records]


def _with_params(record: TrialRecord, params: dict[str, Any]) -> TrialRecord:
    return TrialRecord(
        number=record.number,
        trial_id=record.trial_id,
        state=record.state,
        values=record.values,
        user_attrs=record.user_attrs,
        constraints=record.constraints,
        params=params,
    )


def _read_where(
    connection: sa.Connection,
    study_id: int,
    keys: Collection[str],
    condition: Callable[[Any], sa.ColumnElement[bool]],
    with_params: bool,
) -> list[TrialRecord]:
    in_study = (trials.c.study_id == study_id) & condition(trials.c.trial_id)
    rows = connection.execute(
        sa.select(trials.c.trial_id, trials.c.number, trials.c.state)
        .where(in_study)
        .order_by(trials.c.trial_id)
    ).all()
    if not rows:
        return []

    def of_study(table: sa.Table, *columns: Any) -> sa.Select[Any]:
        return sa.select(*columns).join(trials, trials.c.trial_id == table.c.trial_id).where(in_study)

    values: dict[int, list[float]] = defaultdict(list)
    columns = (trial_values.c.trial_id, trial_values.c.value, trial_values.c.value_type)
    for trial_id, value, kind in connection.execute(
        of_study(trial_values, *columns).order_by(trial_values.c.trial_id, trial_values.c.objective)
    ).all():
        values[trial_id].append(_to_float(value, kind))
    attrs: dict[int, dict[str, Any]] = defaultdict(dict)
    if keys:
        query = of_study(user_attrs, user_attrs.c.trial_id, user_attrs.c.key, user_attrs.c.value_json)
        for trial_id, key, text in connection.execute(query.where(user_attrs.c.key.in_(list(keys)))).all():
            attrs[trial_id][key] = json.loads(text)
    constraints = _read_constraints(connection, of_study)
    params: dict[int, dict[str, Any]] = defaultdict(dict)
    if with_params:
        ids = [row.trial_id for row in rows]
        for chunk in _chunks(ids):
            for trial_id, name, number in _read_params(connection, trial_params.c.trial_id.in_(chunk)):
                params[trial_id][name] = number
    return [
        TrialRecord(
            number=number,
            trial_id=trial_id,
            state=state,
            values=tuple(values[trial_id]) if trial_id in values else None,
            user_attrs=attrs.get(trial_id, {}),
            constraints=constraints.get(trial_id, {}),
            params=params[trial_id] if with_params else None,
        )
        for trial_id, number, state in rows
    ]


def _read_constraints(
    connection: sa.Connection, of_study: Callable[..., sa.Select[Any]]
) -> dict[int, dict[str, float]]:
    columns = (system_attrs.c.trial_id, system_attrs.c.key, system_attrs.c.value_json)
    found: dict[int, dict[str, float]] = defaultdict(dict)
    # One row holds all values where the unnamed list was written; the named rows of such trials only repeat it.
    for trial_id, _, text in connection.execute(
        of_study(system_attrs, *columns).where(system_attrs.c.key == LEGACY_KEY)
    ).all():
        found[trial_id] = {str(position): value for position, value in enumerate(json.loads(text) or ())}
    unnamed = system_attrs.alias()
    has_list = sa.exists().where(unnamed.c.trial_id == system_attrs.c.trial_id, unnamed.c.key == LEGACY_KEY)
    named = of_study(system_attrs, *columns).where(system_attrs.c.key.like(PREFIX + "%"), ~has_list)
    for trial_id, key, text in connection.execute(named):
        found[trial_id][key[len(PREFIX) :]] = json.loads(text)
    return found


def _read_params(
    connection: sa.Connection, condition: sa.ColumnElement[bool]
) -> Iterator[tuple[int, str, Any]]:
    # A study has a handful of distributions: parsing each text once is most of the speed here.
    known: dict[str, BaseDistribution] = {}
    query = sa.select(
        trial_params.c.trial_id,
        trial_params.c.param_name,
        trial_params.c.param_value,
        trial_params.c.distribution_json,
    )
    for trial_id, name, value, text in connection.execute(
        query.where(condition).order_by(trial_params.c.param_id)
    ):
        distribution = known.get(text)
        if distribution is None:
            distribution = known[text] = json_to_distribution(text)
        yield trial_id, name, distribution.to_external_repr(value)


def _to_float(value: float | None, kind: Any) -> float:
    if kind == ValueType.INF_POS:
        return float("inf")
    if kind == ValueType.INF_NEG:
        return float("-inf")
    assert value is not None
    return value


def _is_in(chunk: list[int]) -> Callable[[Any], sa.ColumnElement[bool]]:
    return lambda column: column.in_(chunk)


def _chunks(ids: Iterable[int]) -> Iterator[list[int]]:
    ids = list(ids)
    for start in range(0, len(ids), _CHUNK):
        yield ids[start : start + _CHUNK]
