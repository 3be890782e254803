"""Optuna's tables without its ORM: which engine has them, connections to read and to write, rows to replace."""

from __future__ import annotations

import functools
import json
import weakref
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import sqlalchemy as sa
from optuna.storages import BaseStorage, RDBStorage, _CachedStorage
from optuna.storages._rdb import models
from sqlalchemy.dialects import mysql, postgresql, sqlite

from zenopt.storage.operations import Engine, ServedTables, operation
from zenopt.storage.retry import patiently
from zenopt.storage.sqlite import SqliteConnection

studies: sa.Table = models.StudyModel.__table__
study_directions: sa.Table = models.StudyDirectionModel.__table__
study_user_attrs: sa.Table = models.StudyUserAttributeModel.__table__
study_system_attrs: sa.Table = models.StudySystemAttributeModel.__table__
trials: sa.Table = models.TrialModel.__table__
trial_params: sa.Table = models.TrialParamModel.__table__
trial_values: sa.Table = models.TrialValueModel.__table__
intermediate_values: sa.Table = models.TrialIntermediateValueModel.__table__
user_attrs: sa.Table = models.TrialUserAttributeModel.__table__
system_attrs: sa.Table = models.TrialSystemAttributeModel.__table__
heartbeats: sa.Table = models.TrialHeartbeatModel.__table__
TRIAL_TABLES = (trial_params, trial_values, intermediate_values, user_attrs, system_attrs, heartbeats)
"""Tables whose rows belong to a trial."""

# Of these, every column but the numbers is text.
_TEXT_TABLES = (trial_params, user_attrs, system_attrs)

ValueType = models.TrialValueModel.TrialValueType
KNOWN_SCHEMAS = ("v3.2.0.a",)
"""Versions of Optuna's tables that SQL of ours may touch."""

_has_known_schema: weakref.WeakKeyDictionary[sa.Engine, bool] = weakref.WeakKeyDictionary()
_lock_study = sa.select(studies.c.study_id).where(studies.c.study_id == sa.bindparam("id")).with_for_update()


def engine_of(storage: BaseStorage) -> Engine | None:
    """Return the engine of Optuna's tables behind ``storage``; None where there are none or they are not known here.

    Who gets None uses the storage's own methods, which always agree with the installed Optuna.
    """
    backend = storage._backend if isinstance(storage, _CachedStorage) else storage
    engine = getattr(backend, "engine", None)
    if isinstance(engine, ServedTables):
        return engine
    if not isinstance(backend, RDBStorage) or engine is None:
        return None
    if engine not in _has_known_schema:
        version = patiently(engine, backend.get_current_version)
        _has_known_schema[engine] = version in KNOWN_SCHEMAS
    return engine if _has_known_schema[engine] else None


@contextmanager
def reading(engine: Engine, *, may_be_lost: bool = False) -> Iterator[sa.Connection]:
    """Yield a connection that begins no transaction, which spares a server two exchanges.

    Of served tables it is good for operations alone.

    Args:
        engine:
            Engine of the database.
        may_be_lost:
            Whether to read on when the database file was deleted or replaced, because a commit follows, which will
            rescue what it writes too.
    """
    if isinstance(engine, ServedTables):
        yield cast("sa.Connection", engine)
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        driver = connection.connection.dbapi_connection
        if isinstance(driver, SqliteConnection) and not may_be_lost:
            driver.check_file()
        yield connection


@contextmanager
def transaction(engine: Engine) -> Iterator[sa.Connection]:
    """Yield a connection inside a transaction that writes; committed at the end, rolled back on any exception.

    SQLite takes its one write lock at once: a transaction that begins by reading and then writes would fail, not
    wait, when another worker wrote in between. Of served tables each operation is a transaction by itself.
    """
    if isinstance(engine, ServedTables):
        yield cast("sa.Connection", engine)
        return
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


@operation()
def require_study(connection: sa.Connection, study_id: int) -> None:
    """Raise a KeyError if there is no such study."""
    if not connection.execute(sa.select(studies.c.study_id).where(studies.c.study_id == study_id)).first():
        raise KeyError(f"No study with study_id {study_id} exists.")


def delete_study(connection: sa.Connection, study_id: int) -> None:
    """Delete a study and its trials, without reading them; KeyError if there is no such study."""
    lock_study(connection, study_id)
    of_study = sa.select(trials.c.trial_id).where(trials.c.study_id == study_id)
    for table in TRIAL_TABLES:
        connection.execute(sa.delete(table).where(table.c.trial_id.in_(of_study)))
    for table in (trials, study_user_attrs, study_system_attrs, study_directions, studies):
        connection.execute(sa.delete(table).where(table.c.study_id == study_id))


def lock_study(connection: sa.Connection, study_id: int) -> None:
    """Let no other worker create a trial of the study before the transaction ends.

    Raises:
        KeyError: If there is no such study.
    """
    # Optuna's own lock; SQLite, whose write transaction is alone anyway, leaves FOR UPDATE out.
    if connection.execute(_lock_study, {"id": study_id}).first() is None:
        raise KeyError(f"No study with study_id {study_id} exists.")


def write_rows(
    connection: sa.Connection,
    table: sa.Table,
    rows: Collection[Mapping[str, Any]],
    *,
    replace: bool = True,
) -> None:
    """Insert rows of a trial or study; of those that are there already, replace or leave what they hold."""
    if not rows:
        return
    dialect = connection.dialect.name
    if dialect == "postgresql" and table in _TEXT_TABLES:
        # Psycopg is slow at sending many rows; one JSON text costs it little.
        connection.execute(_insert_json(table, replace), {"rows": json.dumps(list(rows))})
    else:
        connection.execute(_insert(dialect, table, replace), list(rows))


@functools.cache
def _insert(dialect: str, table: sa.Table, replace: bool) -> sa.Insert:
    if dialect in ("mysql", "mariadb"):
        insert = mysql.insert(table)
        if not replace:
            return insert.prefix_with("IGNORE")
        return insert.on_duplicate_key_update({c: insert.inserted[c] for c in _changing(table)})
    return _on_conflict(
        postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table), replace
    )


@functools.cache
def _insert_json(table: sa.Table, replace: bool) -> sa.Insert:
    columns = [column for column in table.columns if not column.primary_key]
    text = sa.cast(sa.bindparam("rows", type_=sa.Text()), postgresql.JSON)
    types = [column.type if column.type.python_type in (int, float) else sa.Text() for column in columns]
    rows = sa.func.json_to_recordset(text).table_valued(
        *(sa.column(column.name, type_) for column, type_ in zip(columns, types, strict=True))
    )
    source = sa.select(*rows.render_derived(with_types=True).c)
    return _on_conflict(postgresql.insert(table).from_select(columns, source), replace)


def _on_conflict(insert: Any, replace: bool) -> sa.Insert:
    keys = keys_of(insert.table)
    if not replace:
        return insert.on_conflict_do_nothing(index_elements=keys)
    return insert.on_conflict_do_update(
        index_elements=keys, set_={name: insert.excluded[name] for name in _changing(insert.table)}
    )


def keys_of(table: sa.Table) -> list[str]:
    """Return the columns that tell the rows of a table apart: the trial, and what is unique in it."""
    unique = next(item for item in table.constraints if isinstance(item, sa.UniqueConstraint))
    return [column.name for column in unique.columns]


def _changing(table: sa.Table) -> list[str]:
    return [c.name for c in table.columns if not c.primary_key and c.name not in keys_of(table)]
