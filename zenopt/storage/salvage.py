"""A trial of which the database refuses a row: everything else of it is written all the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import sqlalchemy as sa
import sqlalchemy.exc

from zenopt.core.errors import StorageError
from zenopt.storage.held import HeldTrial
from zenopt.storage.writers import Writer


class RefusedRowsError(StorageError):
    """A trial is recorded and finished, but without some rows that the database refused."""


REFUSALS = (sqlalchemy.exc.DBAPIError, OverflowError, ValueError)
"""What drivers raise for a row they or the database cannot take."""


def write_singly(
    connection: sa.Connection, writer: Writer, held: HeldTrial, values: Sequence[float]
) -> list[str]:
    """Write a trial row by row, each in a savepoint of its own.

    Args:
        connection:
            A connection inside the transaction that finishes the trial.
        writer:
            Writer for the database.
        held:
            The trial.
        values:
            Its objective values.

    Returns:
        What was refused, in words, with the reason.
    """
    trial_id = held.trial_id
    steps: list[tuple[str, Callable[[], None]]] = [
        ("the values", partial(writer.upsert_values, connection, trial_id, values))
    ]
    for row in held.new_params:
        steps.append((f"parameter {row[0]!r}", partial(writer.upsert_params, connection, trial_id, [row])))
    for item in held.new_user_attrs.items():
        write = partial(writer.upsert_user_attrs, connection, trial_id, [item])
        steps.append((f"user attribute {item[0]!r}", write))
    for item in held.new_system_attrs.items():
        write = partial(writer.upsert_system_attrs, connection, trial_id, [item])
        steps.append((f"system attribute {item[0]!r}", write))
    for step in held.new_intermediate_values.items():
        write = partial(writer.upsert_intermediate_values, connection, trial_id, [step])
        steps.append((f"the value of step {step[0]}", write))
    refused = []
    for what, action in steps:
        connection.exec_driver_sql("SAVEPOINT zenopt_row")
        try:
            action()
        except REFUSALS as error:
            if isinstance(error, sqlalchemy.exc.DBAPIError) and error.connection_invalidated:
                raise
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT zenopt_row")
            reason = " ".join(str(getattr(error, "orig", None) or error).split())
            refused.append(f"{what[:80]} ({reason[:200]})")
        connection.exec_driver_sql("RELEASE SAVEPOINT zenopt_row")
    return refused
