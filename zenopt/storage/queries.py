"""What is read from Optuna's tables: only the rows and columns that were asked for, no ORM objects.

Optuna's own storage builds every trial of a study in every process that opens it: 20,000 trials of 40 parameters take
half a minute and over a gigabyte. These read the same facts in under a second.
"""

from __future__ import annotations

import datetime
import functools
import gc
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages._rdb.models import TrialIntermediateValueModel, TrialValueModel
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from zenopt.storage.operations import operation
from zenopt.storage.records import CONSTRAINT_PREFIX, CONSTRAINTS_KEY, TrialRecord
from zenopt.storage.tables import (
    ValueType,
    intermediate_values,
    system_attrs,
    trial_params,
    trial_values,
    trials,
    user_attrs,
)

# Ids listed in one statement; beyond, one pass over the study's rows is cheaper than looking each up.
_MANY = 500
_EPOCH = datetime.datetime(1970, 1, 1)
# Columns that are read of each table.
_TIMES = ("trial_id", "datetime_start", "datetime_complete")
_PARAM = ("trial_id", "param_name", "param_value", "distribution_json")
_VALUE = ("trial_id", "value", "value_type")
_STEP = ("trial_id", "step", "intermediate_value", "intermediate_value_type")
_ATTR = ("trial_id", "key", "value_json")

# Asked before every trial: built once. Two queries in one statement: joined by OR, they would make some databases
# scan the study.
_states = sa.select(trials.c.trial_id, trials.c.number, trials.c.state)
_new_states = _states.where(
    trials.c.study_id == sa.bindparam("study_id"), trials.c.trial_id > sa.bindparam("newest")
)
_state = sa.select(trials.c.state).where(trials.c.trial_id == sa.bindparam("id"))
# Integers of our own, written out: no limit on the number of parameters applies to them.
_listed: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True, literal_execute=True)
_all_states = sa.union_all(_new_states, _states.where(trials.c.trial_id.in_(_listed)))
# What a column of trial ids is to be IN, beyond few.
_range = sa.select(trials.c.trial_id).where(
    trials.c.study_id == sa.bindparam("study_id"),
    trials.c.trial_id.between(sa.bindparam("first"), sa.bindparam("last")),
)


@functools.cache
def _rows_of(table: sa.Table, names: tuple[str, ...], are_few: bool) -> sa.Select[Any]:
    """Return the statement that reads columns of the rows of trials, in the order in which they were written."""
    order = (trial_values.c.trial_id, trial_values.c.objective)
    query = sa.select(*(table.c[name] for name in names)).where(
        table.c.trial_id.in_(_listed if are_few else _range)
    )
    return query.order_by(*(order if table is trial_values else table.primary_key.columns))


@functools.cache
def _attrs_of(are_few: bool) -> sa.Select[Any]:
    """Return the statement that reads some user attributes of trials."""
    c = user_attrs.c
    query = sa.select(c.trial_id, c.key, c.value_json).where(c.key.in_(sa.bindparam("keys", expanding=True)))
    return query.where(c.trial_id.in_(_listed if are_few else _range))


@functools.cache
def _constraints_of(are_few: bool) -> sa.Select[Any]:
    """Return the statement that reads the constraints of trials."""
    c, other = system_attrs.c, system_attrs.alias()
    # The list has all values in one row; where it was written, the rows by name only repeat it.
    is_listed = sa.exists().where(other.c.trial_id == c.trial_id, other.c.key == CONSTRAINTS_KEY)
    is_named = c.key.startswith(CONSTRAINT_PREFIX, autoescape=True) & ~is_listed
    query = sa.select(c.trial_id, c.key, c.value_json).where((c.key == CONSTRAINTS_KEY) | is_named)
    return query.where(c.trial_id.in_(_listed if are_few else _range))


@dataclass(frozen=True)
class _Among:
    """Trials of which rows are read; where they are many, rows of others of the study may come along."""

    are_few: bool
    values: Mapping[str, Any]

    @classmethod
    def of(cls, study_id: int | None, trial_ids: Collection[int]) -> _Among:
        if len(trial_ids) <= _MANY or study_id is None:
            return cls(True, {"ids": sorted(trial_ids)})
        return cls(False, {"study_id": study_id, "first": min(trial_ids), "last": max(trial_ids)})

    def rows(self, connection: sa.Connection, table: sa.Table, *names: str) -> Sequence[Any]:
        """Return columns of rows of the trials."""
        return connection.execute(_rows_of(table, names, self.are_few), self.values).all()


@operation()
def read_states(
    connection: sa.Connection, study_id: int, newest: int, unfinished: Collection[int]
) -> list[tuple[int, int, TrialState]]:
    """Return id, number and state of the trials that may have changed, by ascending id.

    A finished trial never changes again: all that can be new has an id above ``newest`` or was unfinished when last
    seen. That is a look at a primary key, where to ask for WAITING trials would scan the study.

    Args:
        connection:
            Open connection.
        study_id:
            The study.
        newest:
            Highest trial id seen so far; -1 reads all.
        unfinished:
            Ids of the trials that were unfinished when last seen.
    """
    values: dict[str, Any] = {"study_id": study_id, "newest": newest}
    if not unfinished:
        return sorted(connection.execute(_new_states, values).all())
    return sorted(connection.execute(_all_states, {**values, "ids": list(unfinished)}).all())


@operation()
def read_state(connection: sa.Connection, trial_id: int) -> TrialState | None:
    """Return the state of a trial; None if it is gone."""
    return connection.execute(_state, {"id": trial_id}).scalar()


@operation()
def read_changes(
    connection: sa.Connection,
    study_id: int,
    newest: int,
    seen: Mapping[int, TrialState],
    settled: Collection[int],
    keys: Collection[str],
) -> list[TrialRecord]:
    """Return records, without parameters, of the trials that are new or have changed, by ascending id.

    Args:
        connection:
            Open connection.
        study_id:
            The study.
        newest:
            Highest trial id seen so far; -1 reads all.
        seen:
            The trials that were unfinished when last seen, by id.
        settled:
            Those of them that show nothing new before their state changes.
        keys:
            User attributes to read along.
    """
    found = read_states(connection, study_id, newest, seen)
    changed = [row for row in found if row[0] not in settled or row[2] != seen[row[0]]]
    return read_records(connection, study_id, keys, changed)


def read_records(
    connection: sa.Connection,
    study_id: int,
    keys: Collection[str],
    found: Sequence[tuple[int, int, TrialState]],
) -> list[TrialRecord]:
    """Return records, without parameters, of trials given by id, number and state.

    Args:
        connection:
            Open connection.
        study_id:
            The study.
        keys:
            User attributes to read along.
        found:
            The trials, as :func:`read_states` returns them.
    """
    if not found:
        return []
    which = _Among.of(study_id, [trial_id for trial_id, _, _ in found])
    with _collector_paused():
        chosen = {**which.values, "keys": list(keys)}
        attrs = _attrs(connection.execute(_attrs_of(which.are_few), chosen)) if keys else {}
        values: dict[int, list[float]] = {}
        constraints: dict[int, dict[str, float]] = {}
        if any(state.is_finished() for _, _, state in found):
            values = _values(which.rows(connection, trial_values, *_VALUE))
            constraints = _read_constraints(connection, which)
        times = {
            trial_id: (unix_s(start), unix_s(complete))
            for trial_id, start, complete in which.rows(connection, trials, *_TIMES)
        }
        return [
            TrialRecord(
                number=number,
                trial_id=trial_id,
                state=state,
                values=tuple(values[trial_id]) if trial_id in values else None,
                user_attrs=attrs.get(trial_id, {}),
                # Of unfinished trials never, whoever else is read along: what is read twice must look the same.
                constraints=constraints.get(trial_id, {}) if state.is_finished() else {},
                started_s=times[trial_id][0],
                ended_s=times[trial_id][1],
            )
            for trial_id, number, state in found
        ]


def read_params(
    connection: sa.Connection, study_id: int, records: Sequence[TrialRecord]
) -> list[TrialRecord]:
    """Return the records with their parameters."""
    params: dict[int, dict[str, Any]] = {}
    distributions: dict[str, BaseDistribution] = {}
    for start in range(0, len(records), _MANY):
        ids = [record.trial_id for record in records[start : start + _MANY]]
        params.update(_params(read_param_rows(connection, study_id, ids), distributions)[0])
    return [record.with_params(params.get(record.trial_id, {})) for record in records]


def read_top(
    connection: sa.Connection, study_id: int, direction: StudyDirection, count: int, keys: Collection[str]
) -> list[TrialRecord]:
    """Return the ``count`` best feasible COMPLETE trials with their parameters, best first, then by number."""
    return read_params(connection, study_id, read_best(connection, study_id, direction, count, keys))


@operation()
def read_best(
    connection: sa.Connection, study_id: int, direction: StudyDirection, count: int, keys: Collection[str]
) -> list[TrialRecord]:
    """Return what :func:`read_top` does, without parameters."""
    best: list[TrialRecord] = []
    ranked = connection.execute(_ranked(study_id, direction)).all()
    # Whether a trial is feasible is known only after reading its constraints; most of the best ones are.
    for start in range(0, len(ranked), _MANY):
        rows = [(row[0], row[1], TrialState.COMPLETE) for row in ranked[start : start + _MANY]]
        best += [record for record in read_records(connection, study_id, keys, rows) if record.is_feasible]
        if len(best) >= count:
            break
    return best[:count]


@operation()
def read_best_id(connection: sa.Connection, study_id: int, direction: StudyDirection) -> int | None:
    """Return the id of the COMPLETE trial with the best value, feasible or not; None without any.

    Of equal values the first trial's counts, as in memory; Optuna's SQL storage leaves that to the database.
    """
    return connection.execute(_ranked(study_id, direction).limit(1)).scalar()


@operation()
def count_states(connection: sa.Connection, study_id: int) -> dict[TrialState, int]:
    """Return the number of trials in each state; states without trials are 0."""
    query = sa.select(trials.c.state, sa.func.count()).where(trials.c.study_id == study_id)
    found = {row[0]: row[1] for row in connection.execute(query.group_by(trials.c.state))}
    return {state: found.get(state, 0) for state in TrialState}


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
            The study; None for any, where the ids are few.
        trial_ids:
            Ids of the trials.
        distributions:
            Distributions by their JSON text, shared by all trials read: parsing each once saves most of the time,
            and keeping one object of each most of the memory. Extended here.
    """
    if not trial_ids:
        return []
    rows = read_trial_rows(connection, study_id, trial_ids)
    params, spaces = _params(rows["params"], distributions)
    values = _values(rows["values"])
    steps: dict[int, dict[int, float]] = defaultdict(dict)
    to_value = TrialIntermediateValueModel.stored_repr_to_intermediate_value
    for trial_id, step, stored, kind in rows["steps"]:
        steps[trial_id][step] = to_value(stored, kind)
    user, system = _attrs(rows["user_attrs"]), _attrs(rows["system_attrs"])
    return [
        FrozenTrial(
            number=number,
            state=state,
            value=None,
            values=values.get(trial_id),
            datetime_start=_local(start),
            datetime_complete=_local(complete),
            params=params.get(trial_id, {}),
            distributions=spaces.get(trial_id, {}),
            user_attrs=user.get(trial_id, {}),
            system_attrs=system.get(trial_id, {}),
            intermediate_values=steps.get(trial_id, {}),
            trial_id=trial_id,
        )
        for trial_id, number, state, start, complete in rows["trials"]
    ]


@operation()
def read_trial_rows(
    connection: sa.Connection, study_id: int | None, trial_ids: Collection[int]
) -> dict[str, Sequence[Any]]:
    """Return the rows of which :func:`read_trials` makes trials; there may be some of other trials among them."""
    wanted, which = set(trial_ids), _Among.of(study_id, trial_ids)
    found = which.rows(connection, trials, "trial_id", "number", "state", *_TIMES[1:], "study_id")
    return {
        "trials": [row[:-1] for row in found if row[0] in wanted and study_id in (None, row[-1])],
        "params": which.rows(connection, trial_params, *_PARAM),
        "values": which.rows(connection, trial_values, *_VALUE),
        "steps": which.rows(connection, intermediate_values, *_STEP),
        "user_attrs": which.rows(connection, user_attrs, *_ATTR),
        "system_attrs": which.rows(connection, system_attrs, *_ATTR),
    }


@operation()
def read_param_rows(connection: sa.Connection, study_id: int, trial_ids: Collection[int]) -> Sequence[Any]:
    """Return the rows of the parameters of trials; there may be some of other trials among them."""
    return _Among.of(study_id, trial_ids).rows(connection, trial_params, *_PARAM)


def _params(
    rows: Sequence[Any], distributions: dict[str, BaseDistribution]
) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, BaseDistribution]]]:
    params: dict[int, dict[str, Any]] = defaultdict(dict)
    spaces: dict[int, dict[str, BaseDistribution]] = defaultdict(dict)
    for trial_id, name, value, text in rows:
        distribution = distributions.get(text)
        if distribution is None:
            distribution = distributions[text] = json_to_distribution(text)
        params[trial_id][name] = distribution.to_external_repr(value)
        spaces[trial_id][name] = distribution
    return params, spaces


def _attrs(rows: Iterable[Any]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for trial_id, key, text in rows:
        found[trial_id][key] = json.loads(text)
    return found


def _values(rows: Sequence[Any]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = defaultdict(list)
    for trial_id, stored, kind in rows:
        found[trial_id].append(TrialValueModel.stored_repr_to_value(stored, kind))
    return found


def _read_constraints(connection: sa.Connection, which: _Among) -> dict[int, dict[str, float]]:
    """Return constraint values by trial and name; those of the unnamed list by position."""
    found: dict[int, dict[str, float]] = defaultdict(dict)
    for trial_id, key, text in connection.execute(_constraints_of(which.are_few), which.values):
        value = json.loads(text)
        if key == CONSTRAINTS_KEY:
            found[trial_id] = {str(position): item for position, item in enumerate(value or ())}
        else:
            found[trial_id][key[len(CONSTRAINT_PREFIX) :]] = value
    return found


def _ranked(study_id: int, direction: StudyDirection) -> sa.Select[Any]:
    maximize = direction == StudyDirection.MAXIMIZE
    high, low = (ValueType.INF_POS, ValueType.INF_NEG) if maximize else (ValueType.INF_NEG, ValueType.INF_POS)
    kind = trial_values.c.value_type
    rank = sa.case((kind == high, 0), (kind == low, 2), else_=1)
    value = trial_values.c.value
    return (
        sa.select(trials.c.trial_id, trials.c.number)
        .join(trial_values, trial_values.c.trial_id == trials.c.trial_id)
        .where(
            trials.c.study_id == study_id,
            trials.c.state == TrialState.COMPLETE,
            trial_values.c.objective == 0,
        )
        .order_by(rank, value.desc() if maximize else value.asc(), trials.c.number)
    )


def _local(utc: datetime.datetime | None) -> datetime.datetime | None:
    """Return a naive UTC time of the tables as the naive local time of Optuna's trials."""
    if utc is None:
        return None
    return utc.replace(tzinfo=datetime.timezone.utc).astimezone().replace(tzinfo=None)


def unix_s(utc: datetime.datetime | None) -> float | None:
    """Return a naive UTC time of the tables as Unix time in seconds."""
    return None if utc is None else (utc - _EPOCH).total_seconds()


@contextmanager
def _collector_paused() -> Iterator[None]:
    # Nothing read here is garbage, yet the collector would walk all of it again and again: half of the time.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
