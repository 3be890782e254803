"""The SQL that writes a trial, in the three dialects: few statements, no ORM.

Most of the time of the stock storage is SQLAlchemy's ORM, not the database. Here each statement is fixed text
handed to the driver, and all rows of a kind go in one call.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from optuna.storages._rdb.models import TrialIntermediateValueModel, TrialValueModel
from optuna.trial import TrialState

from zenopt.storage.held import HeldTrial
from zenopt.storage.workers import WORKER_KEY

MAX_NAME = 512
"""Length of the columns for parameter names and attribute keys."""

_STATES = TrialState.__members__
Rows = Sequence[tuple[Any, ...]]


class Writer:
    """Writes for SQLite; the subclasses change what differs elsewhere.

    All methods take a connection inside a transaction.
    """

    mark = "?"
    upsert = "ON CONFLICT ({keys}) DO UPDATE SET {changes}"
    excluded = "excluded.{column}"
    # SQLite has no row locks; its write transaction is alone anyway.
    for_update = ""

    def __init__(self) -> None:
        self._texts: dict[Any, str] = {}

    def _text(self, template: str) -> str:
        text = self._texts.get(template)
        if text is None:
            # A literal % would be read as a placeholder by the drivers that mark with %s.
            assert "%" not in template
            text = self._texts[template] = template.replace("?", self.mark)
        return text

    def execute(
        self, connection: sa.Connection, template: str, values: tuple[Any, ...]
    ) -> sa.CursorResult[Any]:
        """Run one statement whose parameters are written as ``?``."""
        return connection.exec_driver_sql(self._text(template), values)

    def study_exists(self, connection: sa.Connection, study_id: int) -> bool:
        """Look a study up, and lock its row where the database has row locks."""
        query = f"SELECT study_id FROM studies WHERE study_id = ?{self.for_update}"
        return self.execute(connection, query, (study_id,)).first() is not None

    def last_number(self, connection: sa.Connection, study_id: int, trial_id: int) -> int:
        """Return the number of the study's newest trial, -1 without any; all below ``trial_id`` are older."""
        query = (
            "SELECT number FROM trials WHERE study_id = ? AND trial_id >= ? ORDER BY trial_id DESC LIMIT 1"
        )
        row = self.execute(connection, query, (study_id, trial_id)).first()
        return -1 if row is None else row[0]

    def new_states(
        self, connection: sa.Connection, study_id: int, after: int, including: Collection[int]
    ) -> list[tuple[int, TrialState]]:
        """Return id and state of the study's trials with an id above ``after``, and of those in ``including``."""
        # Two queries in one: joined by OR, they would make some databases scan the study.
        query = "SELECT trial_id, state FROM trials WHERE study_id = ? AND trial_id > ?"
        if including:
            # Plain integers of our own, written out: the number of marks would make each text a new one.
            ids = ", ".join(map(str, including))
            query += f" UNION ALL SELECT trial_id, state FROM trials WHERE trial_id IN ({ids})"
        rows = connection.exec_driver_sql(query.replace("?", self.mark), (study_id, after))
        return [(row[0], _STATES[row[1]]) for row in rows]

    def insert_trial(
        self,
        connection: sa.Connection,
        study_id: int,
        number: int,
        state: TrialState,
        start: datetime.datetime | None,
        complete: datetime.datetime | None,
    ) -> int:
        """Insert a row into ``trials`` and return its id."""
        columns = "study_id, number, state, datetime_start, datetime_complete"
        statement = f"INSERT INTO trials ({columns}) VALUES (?, ?, ?, ?, ?)"
        values = (study_id, number, state.name, self.to_utc(start), self.to_utc(complete))
        return int(self.execute(connection, statement, values).lastrowid)

    def finish(
        self,
        connection: sa.Connection,
        trial_id: int,
        worker: str,
        state: TrialState,
        complete: datetime.datetime,
    ) -> bool:
        """Set the final state of a RUNNING trial of ``worker``; return whether there was such a trial."""
        statement = (
            "UPDATE trials SET state = ?, datetime_complete = ? WHERE trial_id = ? AND state = 'RUNNING' AND EXISTS "
            "(SELECT 1 FROM trial_user_attributes AS a WHERE a.trial_id = ? AND a.{key} = ? AND a.value_json = ?)"
        )
        values = (state.name, self.to_utc(complete), trial_id, trial_id, WORKER_KEY, worker)
        return self.execute(connection, self._quoted(statement), values).rowcount == 1

    def take(self, connection: sa.Connection, trial_id: int, start: datetime.datetime) -> bool:
        """Set a WAITING trial RUNNING; return whether it was still WAITING."""
        statement = (
            "UPDATE trials SET state = 'RUNNING', datetime_start = ? WHERE trial_id = ? AND state = 'WAITING'"
        )
        return self.execute(connection, statement, (self.to_utc(start), trial_id)).rowcount == 1

    def upsert_params(self, connection: sa.Connection, trial_id: int, rows: Rows) -> None:
        """Write ``(name, internal value, distribution as JSON)`` rows."""
        self._write(
            connection, "trial_params", ("param_name", "param_value", "distribution_json"), trial_id, rows
        )

    def upsert_user_attrs(
        self, connection: sa.Connection, trial_id: int, rows: Iterable[tuple[str, str]]
    ) -> None:
        """Write ``(key, value as JSON)`` rows."""
        self._write(connection, "trial_user_attributes", ("key", "value_json"), trial_id, list(rows))

    def upsert_system_attrs(
        self, connection: sa.Connection, trial_id: int, rows: Iterable[tuple[str, str]]
    ) -> None:
        """Write ``(key, value as JSON)`` rows."""
        self._write(connection, "trial_system_attributes", ("key", "value_json"), trial_id, list(rows))

    def upsert_values(self, connection: sa.Connection, trial_id: int, values: Collection[float]) -> None:
        """Write the objective values."""
        rows = []
        for objective, value in enumerate(values):
            stored, kind = TrialValueModel.value_to_stored_repr(float(value))
            rows.append((objective, stored, kind.name))
        self._write(connection, "trial_values", ("objective", "value", "value_type"), trial_id, rows)

    def upsert_intermediate_values(
        self, connection: sa.Connection, trial_id: int, values: Iterable[tuple[int, float]]
    ) -> None:
        """Write ``(step, value)`` rows."""
        rows = []
        for step, value in values:
            stored, kind = TrialIntermediateValueModel.intermediate_value_to_stored_repr(float(value))
            rows.append((step, stored, kind.name))
        columns = ("step", "intermediate_value", "intermediate_value_type")
        self._write(connection, "trial_intermediate_values", columns, trial_id, rows)

    def write_new(self, connection: sa.Connection, held: HeldTrial) -> None:
        """Write everything of ``held`` that the database has not got."""
        self.upsert_params(connection, held.trial_id, held.new_params)
        self.upsert_user_attrs(connection, held.trial_id, held.new_user_attrs.items())
        self.upsert_system_attrs(connection, held.trial_id, held.new_system_attrs.items())
        self.upsert_intermediate_values(connection, held.trial_id, held.new_intermediate_values.items())

    def to_utc(self, local: datetime.datetime | None) -> Any:
        """Return a naive local time as the naive UTC that the tables hold."""
        if local is None:
            return None
        # The text form that SQLAlchemy's SQLite dialect reads back.
        return self.stored_time(local).strftime("%Y-%m-%d %H:%M:%S.%f")

    def stored_time(self, local: datetime.datetime) -> datetime.datetime:
        """Return a naive local time as the tables give it back: in naive UTC, as precise as they keep it."""
        return local.astimezone(datetime.timezone.utc).replace(tzinfo=None)

    def _write(
        self, connection: sa.Connection, table: str, columns: tuple[str, ...], trial_id: int, rows: Rows
    ) -> None:
        """Write rows of one trial; the first column and the trial identify a row to replace."""
        if rows:
            statement = self._upsert(table, columns)
            connection.exec_driver_sql(statement, [(trial_id, *row) for row in rows])

    def _upsert(self, table: str, columns: tuple[str, ...]) -> str:
        text = self._texts.get((table,))
        if text is None:
            names = ", ".join(self._quoted("{key}") if c == "key" else c for c in ("trial_id", *columns))
            marks = ", ".join([self.mark] * (len(columns) + 1))
            text = f"INSERT INTO {table} ({names}) VALUES ({marks}){self._on_conflict(columns)}"
            self._texts[(table,)] = text
        return text

    def _on_conflict(self, columns: tuple[str, ...]) -> str:
        changes = ", ".join(f"{c} = {self.excluded.format(column=c)}" for c in columns[1:])
        return " " + self.upsert.format(keys=f"trial_id, {columns[0]}", changes=changes)

    def _quoted(self, template: str) -> str:
        return template.replace("{key}", "key")


class PostgresWriter(Writer):
    """Writes for PostgreSQL: the rows of a kind travel as one array per column."""

    mark = "%s"
    for_update = " FOR UPDATE"
    # Columns that are not text, and the type of their array.
    _types = {
        "param_value": "float8",
        "value": "float8",
        "intermediate_value": "float8",
        "objective": "int4",
        "step": "int4",
        "value_type": "trialvaluetype",
        "intermediate_value_type": "trialintermediatevaluetype",
    }

    def insert_trial(
        self,
        connection: sa.Connection,
        study_id: int,
        number: int,
        state: TrialState,
        start: datetime.datetime | None,
        complete: datetime.datetime | None,
    ) -> int:
        """Insert a row into ``trials`` and return its id."""
        statement = (
            "INSERT INTO trials (study_id, number, state, datetime_start, datetime_complete) VALUES (?, ?, ?, ?, ?) "
            "RETURNING trial_id"
        )
        values = (study_id, number, state.name, self.to_utc(start), self.to_utc(complete))
        return int(self.execute(connection, statement, values).scalar_one())

    def to_utc(self, local: datetime.datetime | None) -> Any:
        """Return a naive local time as the naive UTC that the tables hold."""
        return None if local is None else self.stored_time(local)

    def _write(
        self, connection: sa.Connection, table: str, columns: tuple[str, ...], trial_id: int, rows: Rows
    ) -> None:
        if rows:
            arrays = tuple([row[i] for row in rows] for i in range(len(columns)))
            connection.exec_driver_sql(self._upsert(table, columns), (trial_id, *arrays))

    def _upsert(self, table: str, columns: tuple[str, ...]) -> str:
        text = self._texts.get((table,))
        if text is None:
            arrays = ", ".join(f"%s::{self._types.get(column, 'text')}[]" for column in columns)
            text = (
                f"INSERT INTO {table} (trial_id, {', '.join(columns)}) SELECT %s::int4, * FROM unnest({arrays})"
                f"{self._on_conflict(columns)}"
            )
            self._texts[(table,)] = text
        return text


class MysqlWriter(Writer):
    """Writes for MySQL and MariaDB; PyMySQL sends the rows of a kind as one statement."""

    mark = "%s"
    upsert = "ON DUPLICATE KEY UPDATE {changes}"
    # MySQL 8.0.20 prefers a row alias, which MariaDB does not know.
    excluded = "VALUES({column})"
    for_update = " FOR UPDATE"

    def to_utc(self, local: datetime.datetime | None) -> Any:
        """Return a naive local time as the naive UTC that the tables hold."""
        return None if local is None else self.stored_time(local)

    def stored_time(self, local: datetime.datetime) -> datetime.datetime:
        """Return a naive local time as the tables give it back; their columns have no fractions of a second."""
        # Cut here, or the server would round, and a time it gives back could not be compared with ours.
        return super().stored_time(local).replace(microsecond=0)

    def _quoted(self, template: str) -> str:
        return template.replace("{key}", "`key`")


def writer_for(engine: sa.Engine) -> Writer:
    """Return the writer for the engine's database.

    Raises:
        KeyError: If the database is none of SQLite, PostgreSQL, MySQL, MariaDB.
    """
    writers = {"sqlite": Writer, "postgresql": PostgresWriter, "mysql": MysqlWriter, "mariadb": MysqlWriter}
    return writers[engine.dialect.name]()
