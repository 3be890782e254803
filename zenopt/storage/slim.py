"""Slim SQL queries on Optuna's tables: only the columns that were asked for, no ORM objects.

The stock storage builds every trial of a study in every process that opens it: 20,000 trials of 40 parameters
take half a minute and over a gigabyte. These read the same facts in under a second. They are fixed text handed to
the driver, because SQLAlchemy's handling of a row costs more than the row.
"""

from __future__ import annotations

import gc
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from zenopt.storage.constraints import LEGACY_KEY, PREFIX
from zenopt.storage.records import TrialRecord
from zenopt.storage.sqlcore import ValueType, trial_values, trials
from zenopt.storage.writers import Writer

# Ids listed in one statement.
_CHUNK = 500
# With more new trials than this, one pass over the tables is cheaper than looking each up.
_MANY = 200
_INFINITE = {"INF_POS": float("inf"), "INF_NEG": float("-inf")}


def read_changes(
    connection: sa.Connection,
    writer: Writer,
    study_id: int,
    keys: Collection[str],
    watermark: int = -1,
    unfinished: Mapping[int, TrialRecord] | None = None,
) -> list[TrialRecord]:
    """Return the trials that are new or have changed, by ascending id, without parameters.

    Asked before every score, it is one small statement when nothing is new, and four when something is.

    Args:
        connection:
            Open connection.
        writer:
            Writer for the database, for its way of running statements.
        study_id:
            The study.
        keys:
            User attributes to read along.
        watermark:
            Highest trial id seen so far; -1 reads all.
        unfinished:
            The trials that were unfinished when last seen, by id.

    Returns:
        The records.
    """
    known = unfinished or {}
    changed = []
    for trial_id, number, state in writer.new_states(connection, study_id, watermark, known):
        before = known.get(trial_id)
        # A trial that goes on running, and has published its structure, shows nothing new before it finishes.
        if before is None or before.state != state or before.structure is None:
            changed.append((trial_id, number, state))
    changed.sort()
    if len(changed) <= _MANY:
        return _read_records(connection, writer, keys, changed, _listed(row[0] for row in changed))
    # Trials told since the states were read have no state here; the next call finds them.
    low = changed[0][0]
    where = f"IN (SELECT trial_id FROM trials WHERE study_id = {int(study_id)} AND trial_id >= {low})"
    with _collector_paused():
        return _read_records(connection, writer, keys, changed, where)


def read_top(
    connection: sa.Connection,
    writer: Writer,
    study_id: int,
    direction: StudyDirection,
    count: int,
    keys: Collection[str],
) -> list[TrialRecord]:
    """Return the ``count`` best feasible COMPLETE trials with their parameters, best first.

    Equal values are ordered by trial number.
    """
    best: list[TrialRecord] = []
    ranked = connection.execute(_ranked(study_id, direction)).all()
    # Whether a trial is feasible is known only after reading its constraints; most of the best ones are.
    for start in range(0, len(ranked), _CHUNK):
        rows = [(row[0], row[1], TrialState.COMPLETE) for row in ranked[start : start + _CHUNK]]
        found = _read_records(connection, writer, keys, rows, _listed(row[0] for row in rows))
        best += [record for record in found if record.is_feasible]
        if len(best) >= count:
            break
    return add_params(connection, writer, best[:count])


def best_trial_id(connection: sa.Connection, study_id: int, direction: StudyDirection) -> int | None:
    """Return the id of the COMPLETE trial with the best value, feasible or not; None without any.

    Of equal values the first trial's counts, as in memory; Optuna's SQL storage leaves that to the database.
    """
    return connection.execute(_ranked(study_id, direction).limit(1)).scalar()


def count_states(connection: sa.Connection, study_id: int) -> dict[TrialState, int]:
    """Return the number of trials in each state; states without trials are 0."""
    query = sa.select(trials.c.state, sa.func.count()).where(trials.c.study_id == study_id)
    found = {row[0]: row[1] for row in connection.execute(query.group_by(trials.c.state))}
    return {state: found.get(state, 0) for state in TrialState}


def add_params(
    connection: sa.Connection, writer: Writer, records: Sequence[TrialRecord]
) -> list[TrialRecord]:
    """Return the records with their parameters read from the database."""
    params: dict[int, dict[str, Any]] = defaultdict(dict)
    # A study has a handful of distributions: parsing each text once is most of the speed here.
    known: dict[str, BaseDistribution] = {}
    for where in _chunks([record.trial_id for record in records]):
        query = (
            "SELECT trial_id, param_name, param_value, distribution_json FROM trial_params "
            f"WHERE trial_id {where} ORDER BY param_id"
        )
        for trial_id, name, value, text in writer.fetch_once(connection, query, ()):
            distribution = known.get(text)
            if distribution is None:
                distribution = known[text] = json_to_distribution(text)
            params[trial_id][name] = distribution.to_external_repr(value)
    return [record.with_params(params[record.trial_id]) for record in records]


def _read_records(
    connection: sa.Connection,
    writer: Writer,
    keys: Collection[str],
    rows: list[tuple[int, int, TrialState]],
    where: str,
) -> list[TrialRecord]:
    """Return records of the trials ``rows`` (id, number, state); ``where`` is the condition on their ids."""
    if not rows:
        return []
    attrs = _read_attrs(connection, writer, keys, where) if keys else {}
    values: dict[int, list[float]] = {}
    constraints: dict[int, dict[str, float]] = {}
    if any(state.is_finished() for _, _, state in rows):
        values = _read_values(connection, writer, where)
        constraints = _read_constraints(connection, writer, where)
    return [
        TrialRecord(
            number=number,
            trial_id=trial_id,
            state=state,
            values=tuple(values[trial_id]) if trial_id in values else None,
            user_attrs=attrs.get(trial_id, {}),
            # Of unfinished trials never, whoever else is read along: what is read twice must look the same.
            constraints=constraints.get(trial_id, {}) if state.is_finished() else {},
        )
        for trial_id, number, state in rows
    ]


def _read_attrs(
    connection: sa.Connection, writer: Writer, keys: Collection[str], where: str
) -> dict[int, dict[str, Any]]:
    marks = ", ".join("?" * len(keys))
    query = (
        "SELECT trial_id, {key}, value_json FROM trial_user_attributes "
        f"WHERE trial_id {where} AND {{key}} IN ({marks})"
    )
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for trial_id, key, text in writer.fetch_once(connection, query, tuple(keys)):
        found[trial_id][key] = json.loads(text)
    return found


def _read_values(connection: sa.Connection, writer: Writer, where: str) -> dict[int, list[float]]:
    query = f"SELECT trial_id, value, value_type FROM trial_values WHERE trial_id {where} ORDER BY trial_id, objective"
    found: dict[int, list[float]] = defaultdict(list)
    for trial_id, value, kind in writer.fetch_once(connection, query, ()):
        found[trial_id].append(_INFINITE.get(kind, value))
    return found


def _read_constraints(connection: sa.Connection, writer: Writer, where: str) -> dict[int, dict[str, float]]:
    """Return constraint values by trial and name."""
    columns = "SELECT c.trial_id, c.{key}, c.value_json FROM trial_system_attributes AS c WHERE c.trial_id "
    query = f"{columns}{where} AND c.{{key}} = ?"
    found: dict[int, dict[str, float]] = {}
    for trial_id, _, text in writer.fetch_once(connection, query, (LEGACY_KEY,)):
        values = json.loads(text) or ()
        found[trial_id] = {str(position): value for position, value in enumerate(values)}
    # The list has all values in one row; where it was written, the rows by name only repeat it.
    query = (
        f"{columns}{where} AND SUBSTR(c.{{key}}, 1, {len(PREFIX)}) = ? AND NOT EXISTS "
        "(SELECT 1 FROM trial_system_attributes AS o WHERE o.trial_id = c.trial_id AND o.{key} = ?)"
    )
    for trial_id, key, text in writer.fetch_once(connection, query, (PREFIX, LEGACY_KEY)):
        found.setdefault(trial_id, {})[key[len(PREFIX) :]] = json.loads(text)
    return found


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


def _listed(ids: Iterable[int]) -> str:
    # Plain integers of our own, written out: limits on the number of marks do not apply to them.
    return f"IN ({', '.join(map(str, ids))})"


def _chunks(ids: list[int]) -> Iterator[str]:
    for start in range(0, len(ids), _CHUNK):
        yield _listed(ids[start : start + _CHUNK])
