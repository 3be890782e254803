"""What is new in a study, in one to four small statements: asked before every score, so it must cost nothing."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa

from zenopt.storage.constraints import constraints_of
from zenopt.storage.records import TrialRecord
from zenopt.storage.slim import read_records
from zenopt.storage.writers import Writer

# With more new trials than this, one pass over the tables is cheaper than looking each up.
_MANY = 200


def read_changes(
    connection: sa.Connection,
    writer: Writer,
    study_id: int,
    keys: Collection[str],
    watermark: int,
    unfinished: Mapping[int, TrialRecord],
) -> list[TrialRecord]:
    """Return the trials that are new or have changed, by ascending id.

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
        Records without parameters. Constraints are read of finished trials only.
    """
    if watermark < 0:
        return read_records(connection, study_id, keys)
    states = writer.new_states(connection, study_id, watermark, unfinished)
    changed = []
    for trial_id, number, state in states:
        before = unfinished.get(trial_id)
        # A trial that goes on running, and has published its structure, shows nothing new before it finishes.
        if before is None or before.state != state or before.structure is None:
            changed.append((trial_id, number, state))
    if not changed:
        return []
    if len(changed) > _MANY:
        return read_records(connection, study_id, keys, after=watermark, including=unfinished)
    attrs = _read_attrs(connection, writer, keys, [trial_id for trial_id, _, _ in changed])
    finished = [trial_id for trial_id, _, state in changed if state.is_finished()]
    values = _read_values(connection, writer, finished) if finished else {}
    constraints = _read_constraints(connection, writer, finished) if finished else {}
    return [
        TrialRecord(
            number=number,
            trial_id=trial_id,
            state=state,
            values=tuple(values[trial_id]) if trial_id in values else None,
            user_attrs=attrs.get(trial_id, {}),
            constraints=constraints_of(constraints.get(trial_id, {})),
        )
        for trial_id, number, state in sorted(changed)
    ]


def _read_attrs(
    connection: sa.Connection, writer: Writer, keys: Collection[str], trial_ids: list[int]
) -> dict[int, dict[str, Any]]:
    marks = ", ".join("?" * len(keys))
    query = (
        "SELECT trial_id, {key}, value_json FROM trial_user_attributes "
        f"WHERE trial_id IN ({_joined(trial_ids)}) AND {{key}} IN ({marks})"
    )
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for trial_id, key, text in writer.fetch_once(connection, query, tuple(keys)):
        found[trial_id][key] = json.loads(text)
    return found


def _read_values(connection: sa.Connection, writer: Writer, trial_ids: list[int]) -> dict[int, list[float]]:
    query = (
        f"SELECT trial_id, value, value_type FROM trial_values WHERE trial_id IN ({_joined(trial_ids)}) "
        "ORDER BY trial_id, objective"
    )
    infinite = {"INF_POS": float("inf"), "INF_NEG": float("-inf")}
    found: dict[int, list[float]] = defaultdict(list)
    for trial_id, value, kind in writer.fetch_once(connection, query, ()):
        found[trial_id].append(infinite.get(kind, value))
    return found


def _read_constraints(
    connection: sa.Connection, writer: Writer, trial_ids: list[int]
) -> dict[int, dict[str, Any]]:
    query = (
        "SELECT trial_id, {key}, value_json FROM trial_system_attributes "
        f"WHERE trial_id IN ({_joined(trial_ids)}) AND SUBSTR({{key}}, 1, 11) = 'constraints'"
    )
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for trial_id, key, text in writer.fetch_once(connection, query, ()):
        found[trial_id][key] = json.loads(text)
    return found


def _joined(trial_ids: list[int]) -> str:
    return ", ".join(map(str, trial_ids))
