"""The SQL that writes a trial, in the three dialects: few statements, no ORM.

Most of the time of the stock storage is SQLAlchemy's ORM, not the database. Here each statement is fixed text
handed to the driver, and all rows of a kind go in one call.
"""

from __future__ import annotations

import datetime
import sqlite3
from collections.abc import Collection, Iterable
from typing import Any

import sqlalchemy as sa
import sqlalchemy.exc
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

MAX_NAME = 512
"""Length of the columns for parameter names and attribute keys."""

_STATES = TrialState.__members__


class Writer:
    """Writes for SQLite; the subclasses change what differs elsewhere.

    All methods take a connection inside a transaction.
    """

    finishes_in_one_statement = False

    mark = "?"
    upsert = "ON CONFLICT ({keys}) DO UPDATE SET {changes}"
    excluded = "excluded.{column}"
    # SQLite has no row locks; its write transaction is alone anyway.
    for_update = ""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def _text(self, template: str) -> str:
        text = self._texts.get(template)
        if text is None:
            # A literal % would be read as a placeholder by the drivers that mark with %s.
            assert "%" not in template
            text = self._texts[template] = template.replace("?", self.mark)
        return text

    def fetch(
        self, connection: sa.Connection, template: str, values: tuple[Any, ...]
    ) -> list[tuple[Any, ...]]:
        """Run a query whose parameters are written as ``?`` and return its rows."""
        return self._raw(connection, "execute", self._text(template), values).fetchall()

    def change(self, connection: sa.Connection, template: str, values: tuple[Any, ...]) -> int:
        """Run a statement that writes, and return the number of rows it changed."""
        return int(self._raw(connection, "execute", self._text(template), values).rowcount)

    def insert(self, connection: sa.Connection, template: str, values: tuple[Any, ...]) -> int:
        """Insert one row into ``trials`` and return its id."""
        return int(self._raw(connection, "execute", self._text(template), values).lastrowid)

    def change_many(self, connection: sa.Connection, text: str, rows: list[tuple[Any, ...]]) -> None:
        """Run a statement, written for the driver, once for each row."""
        self._raw(connection, "executemany", text, rows)

    def _raw(self, connection: sa.Connection, method: str, text: str, values: Any) -> Any:
        # Past SQLAlchemy: its bookkeeping for a statement costs more than SQLite's work on it.
        driver = connection.connection.dbapi_connection
        try:
            return getattr(driver, method)(text, values)
        except sqlite3.Error as error:
            raise sqlalchemy.exc.DBAPIError.instance(text, values, error, sqlite3.Error) from error

    def study_exists(self, connection: sa.Connection, study_id: int) -> bool:
        """Look a study up, and lock its row where the database has row locks."""
        query = f"SELECT study_id FROM studies WHERE study_id = ?{self.for_update}"
        return bool(self.fetch(connection, query, (study_id,)))

    def last_number(self, connection: sa.Connection, study_id: int, trial_id: int) -> int:
        """Return the number of the study's newest trial, -1 without any; all below ``trial_id`` are older."""
        query = (
            "SELECT number FROM trials WHERE study_id = ? AND trial_id >= ? ORDER BY trial_id DESC LIMIT 1"
        )
        rows = self.fetch(connection, query, (study_id, trial_id))
        return rows[0][0] if rows else -1

    def fetch_once(
        self, connection: sa.Connection, template: str, values: tuple[Any, ...]
    ) -> list[tuple[Any, ...]]:
        """Run a query like :meth:`fetch` whose text, with ids in it, will hardly come again."""
        text = self._quoted(template).replace("?", self.mark)
        return self._raw(connection, "execute", text, values).fetchall()

    def new_states(
        self, connection: sa.Connection, study_id: int, after: int, including: Collection[int]
    ) -> list[tuple[int, int, TrialState]]:
        """Return id, number and state of the trials of a study above id ``after`` and of those in ``including``."""
        # Two queries in one statement: joined by OR, they would make some databases scan the study.
        query = "SELECT trial_id, number, state FROM trials WHERE study_id = ? AND trial_id > ?"
        if including:
            # Plain integers of our own, written out: no limit on the number of marks applies to them.
            ids = ", ".join(map(str, including))
            query += f" UNION ALL SELECT trial_id, number, state FROM trials WHERE trial_id IN ({ids})"
        rows = self.fetch_once(connection, query, (study_id, after))
        return [(row[0], row[1], _STATES[row[2]]) for row in rows]

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
        return self.insert(connection, statement, values)

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
        return self.change(connection, self._quoted(statement), values) == 1

    def create_running(
        self, connection: sa.Connection, study_id: int, newest: int, start: datetime.datetime, worker: str
    ) -> tuple[int, int]:
        """Insert a RUNNING trial of ``worker`` under the study's lock.

        Args:
            connection:
                A connection inside a transaction that holds the lock.
            study_id:
                The study.
            newest:
                An id that is not above that of the study's newest trial.
            start:
                Naive local time.
            worker:
                The worker attribute as JSON.

        Returns:
            Id and number of the trial.
        """
        number = self.last_number(connection, study_id, newest) + 1
        trial_id = self.insert_trial(connection, study_id, number, TrialState.RUNNING, start, None)
        self.upsert_user_attrs(connection, trial_id, [(WORKER_KEY, worker)])
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
        """Finish a trial like :meth:`finish` and, if it was there, write values and all that is new."""
        if not self.finish(connection, held.trial_id, worker, state, complete):
            return False
        self.upsert_values(connection, held.trial_id, values)
        self.write_new(connection, held)
        return True

    def take(self, connection: sa.Connection, trial_id: int, start: datetime.datetime) -> bool:
        """Set a WAITING trial RUNNING; return whether it was still WAITING."""
        statement = (
            "UPDATE trials SET state = 'RUNNING', datetime_start = ? WHERE trial_id = ? AND state = 'WAITING'"
        )
        return self.change(connection, statement, (self.to_utc(start), trial_id)) == 1

    def upsert_params(self, connection: sa.Connection, trial_id: int, rows: Rows) -> None:
        """Write ``(name, internal value, distribution as JSON)`` rows."""
        self._write(connection, PARAMS, trial_id, rows)

    def upsert_user_attrs(
        self, connection: sa.Connection, trial_id: int, rows: Iterable[tuple[str, str]]
    ) -> None:
        """Write ``(key, value as JSON)`` rows."""
        self._write(connection, USER_ATTRS, trial_id, list(rows))

    def upsert_system_attrs(
        self, connection: sa.Connection, trial_id: int, rows: Iterable[tuple[str, str]]
    ) -> None:
        """Write ``(key, value as JSON)`` rows."""
        self._write(connection, SYSTEM_ATTRS, trial_id, list(rows))

    def upsert_values(self, connection: sa.Connection, trial_id: int, values: Collection[float]) -> None:
        """Write the objective values."""
        self._write(connection, VALUES, trial_id, value_rows(values))

    def upsert_intermediate_values(
        self, connection: sa.Connection, trial_id: int, values: Iterable[tuple[int, float]]
    ) -> None:
        """Write ``(step, value)`` rows."""
        self._write(connection, STEPS, trial_id, step_rows(values))

    def write_new(self, connection: sa.Connection, held: HeldTrial) -> None:
        """Write everything of ``held`` that the database has not got."""
        self.upsert_params(connection, held.trial_id, held.new_params)
        self.upsert_user_attrs(connection, held.trial_id, held.new_user_attrs.items())
        self.upsert_system_attrs(connection, held.trial_id, held.new_system_attrs.items())
        self.upsert_intermediate_values(connection, held.trial_id, held.new_intermediate_values.items())

    def now(self) -> datetime.datetime:
        """Return the naive local time, as precise as the tables keep it."""
        return datetime.datetime.now()

    def to_utc(self, local: datetime.datetime | None) -> Any:
        """Return a naive local time as the naive UTC to write."""
        if local is None:
            return None
        # The text form that SQLAlchemy's SQLite dialect reads back.
        return self.stored_time(local).strftime("%Y-%m-%d %H:%M:%S.%f")

    def stored_time(self, local: datetime.datetime) -> datetime.datetime:
        """Return a naive local time as the tables give it back: in naive UTC, as precise as they keep it."""
        return local.astimezone(datetime.timezone.utc).replace(tzinfo=None)

    def _write(self, connection: sa.Connection, kind: RowKind, trial_id: int, rows: Rows) -> None:
        """Write rows of one trial; the first column and the trial identify a row to replace."""
        if rows:
            self.change_many(connection, self._upsert(kind), [(trial_id, *row) for row in rows])

    def _upsert(self, kind: RowKind) -> str:
        text = self._texts.get(kind.table)
        if text is None:
            names = ", ".join(self._quoted("{key}") if c == "key" else c for c in ("trial_id", *kind.columns))
            marks = ", ".join([self.mark] * (len(kind.columns) + 1))
            text = f"INSERT INTO {kind.table} ({names}) VALUES ({marks}){self._on_conflict(kind)}"
            self._texts[kind.table] = text
        return text

    def _on_conflict(self, kind: RowKind) -> str:
        changes = ", ".join(f"{c} = {self.excluded.format(column=c)}" for c in kind.columns[1:])
        return " " + self.upsert.format(keys=f"trial_id, {kind.columns[0]}", changes=changes)

    def _quoted(self, template: str) -> str:
        return template.replace("{key}", "key")
