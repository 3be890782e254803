"""The SQL that writes a trial on PostgreSQL, MySQL and MariaDB, as far as it differs from SQLite."""

from __future__ import annotations

import datetime
import json
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from optuna.trial import TrialState

from zenopt.storage.held import HeldTrial
from zenopt.storage.rows import (
    PARAMS,
    STEPS,
    SYSTEM_ATTRS,
    USER_ATTRS,
    VALUES,
    RowKind,
    Rows,
    step_rows,
    value_rows,
)
from zenopt.storage.workers import WORKER_KEY
from zenopt.storage.writers import Writer


class ServerWriter(Writer):
    """Writes through SQLAlchemy, which knows when a driver's error means that the connection is lost."""

    for_update = " FOR UPDATE"

    def to_utc(self, local: datetime.datetime | None) -> Any:
        """Return a naive local time as the naive UTC to write."""
        return None if local is None else self.stored_time(local)

    def _raw(self, connection: sa.Connection, method: str, text: str, values: Any) -> Any:
        # A list of rows is executed as many.
        return connection.exec_driver_sql(text, values)


class PostgresWriter(ServerWriter):
    """Writes for PostgreSQL: all rows of a trial travel as JSON, in one statement when it is told.

    Psycopg is slow at escaping arrays of text and at every exchange with the server; one JSON text costs neither.
    """

    mark = "%s"
    finishes_in_one_statement = True

    def insert(self, connection: sa.Connection, template: str, values: tuple[Any, ...]) -> int:
        """Insert one row into ``trials`` and return its id."""
        return int(self.fetch(connection, template + " RETURNING trial_id", values)[0][0])

    def create_running(
        self, connection: sa.Connection, study_id: int, newest: int, start: datetime.datetime, worker: str
    ) -> tuple[int, int]:
        """Insert a RUNNING trial of ``worker`` under the study's lock; see :class:`Writer`."""
        statement = (
            "WITH created AS (INSERT INTO trials (study_id, number, state, datetime_start) SELECT ?::int4, "
            "1 + COALESCE((SELECT number FROM trials WHERE study_id = ?::int4 AND trial_id >= ?::int4 "
            "ORDER BY trial_id DESC LIMIT 1), -1), 'RUNNING'::trialstate, ?::timestamp "
            "RETURNING trial_id, number), "
            "named AS (INSERT INTO trial_user_attributes (trial_id, key, value_json) "
            "SELECT trial_id, ?::text, ?::text FROM created) "
            "SELECT trial_id, number FROM created"
        )
        values = (study_id, study_id, newest, self.to_utc(start), WORKER_KEY, worker)
        ((trial_id, number),) = self.fetch(connection, statement, values)
        return trial_id, number

    def finish_whole(
        self,
        connection: sa.Connection,
        held: HeldTrial,
        worker: str,
        state: TrialState,
        values: Collection[float],
        complete: datetime.datetime,
    ) -> bool:
        """Finish a trial and write values and all that is new, in one statement."""
        rows: list[tuple[RowKind, Rows]] = [
            (PARAMS, held.new_params),
            (USER_ATTRS, list(held.new_user_attrs.items())),
            (SYSTEM_ATTRS, list(held.new_system_attrs.items())),
            (VALUES, value_rows(values)),
            (STEPS, step_rows(held.new_intermediate_values.items())),
        ]
        rows = [(kind, found) for kind, found in rows if found]
        name = "finish " + " ".join(kind.table for kind, _ in rows)
        text = self._texts.get(name)
        if text is None:
            parts = [
                "finished AS (UPDATE trials SET state = %s::trialstate, datetime_complete = %s::timestamp "
                "WHERE trial_id = %s::int4 AND state = 'RUNNING' AND EXISTS (SELECT 1 FROM trial_user_attributes "
                "AS a WHERE a.trial_id = trials.trial_id AND a.key = %s::text AND a.value_json = %s::text) "
                "RETURNING trial_id)"
            ]
            for kind, _ in rows:
                source = f"SELECT f.trial_id, {_columns(kind)} FROM finished AS f, json_array_elements(%s::json) AS e"
                names = ", ".join(kind.columns)
                parts.append(
                    f"w_{kind.table} AS (INSERT INTO {kind.table} (trial_id, {names}) {source}"
                    f"{self._on_conflict(kind)})"
                )
            text = self._texts[name] = f"WITH {', '.join(parts)} SELECT trial_id FROM finished"
        parameters: list[Any] = [state.name, self.to_utc(complete), held.trial_id, WORKER_KEY, worker]
        parameters += [json.dumps(found) for _, found in rows]
        return connection.exec_driver_sql(text, tuple(parameters)).first() is not None

    def _write(self, connection: sa.Connection, kind: RowKind, trial_id: int, rows: Rows) -> None:
        if rows:
            connection.exec_driver_sql(self._upsert(kind), (trial_id, json.dumps(rows)))

    def _upsert(self, kind: RowKind) -> str:
        text = self._texts.get(kind.table)
        if text is None:
            text = (
                f"INSERT INTO {kind.table} (trial_id, {', '.join(kind.columns)}) SELECT %s::int4, {_columns(kind)} "
                f"FROM json_array_elements(%s::json) AS e{self._on_conflict(kind)}"
            )
            self._texts[kind.table] = text
        return text


def _columns(kind: RowKind) -> str:
    """Return the expressions that take the columns of a row out of a JSON array ``e``."""
    return ", ".join(f"(e ->> {i})::{name}" for i, name in enumerate(kind.types))


class MysqlWriter(ServerWriter):
    """Writes for MySQL and MariaDB; PyMySQL sends the rows of a kind as one statement."""

    mark = "%s"
    upsert = "ON DUPLICATE KEY UPDATE {changes}"
    # MySQL 8.0.20 prefers a row alias, which MariaDB does not know.
    excluded = "VALUES({column})"

    def now(self) -> datetime.datetime:
        """Return the naive local time without fractions of a second, which the columns do not have."""
        # Cut here, or the server would round, and a time it gives back could not be compared with ours.
        return super().now().replace(microsecond=0)

    def _quoted(self, template: str) -> str:
        return template.replace("{key}", "`key`")


def writer_for(engine: sa.Engine) -> Writer:
    """Return the writer for the engine's database.

    Raises:
        KeyError: If the database is none of SQLite, PostgreSQL, MySQL, MariaDB.
    """
    writers = {"sqlite": Writer, "postgresql": PostgresWriter, "mysql": MysqlWriter, "mariadb": MysqlWriter}
    return writers[engine.dialect.name]()
