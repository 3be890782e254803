"""Writing single facts of a running trial straight into Optuna's tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from zenopt.storage.sqlcore import user_attrs

if TYPE_CHECKING:
    from sqlalchemy import Connection


def insert_user_attr(connection: Connection, trial_id: int, key: str, value: Any) -> None:
    """Write a trial user attribute, replacing an earlier value.

    Delete and insert, not an upsert, because that is the same on every database; the caller holds the lock.
    """
    connection.execute(
        sa.delete(user_attrs).where(user_attrs.c.trial_id == trial_id, user_attrs.c.key == key)
    )
    connection.execute(sa.insert(user_attrs).values(trial_id=trial_id, key=key, value_json=json.dumps(value)))
