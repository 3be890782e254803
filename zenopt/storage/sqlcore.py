"""Access to Optuna's tables without its ORM: the tables, and transactions that hold a study's lock."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
import sqlalchemy.exc
from optuna.storages import BaseStorage, RDBStorage, _CachedStorage
from optuna.storages._rdb import models

studies: sa.Table = models.StudyModel.__table__
study_directions: sa.Table = models.StudyDirectionModel.__table__
trials: sa.Table = models.TrialModel.__table__
trial_params: sa.Table = models.TrialParamModel.__table__
trial_values: sa.Table = models.TrialValueModel.__table__
user_attrs: sa.Table = models.TrialUserAttributeModel.__table__
system_attrs: sa.Table = models.TrialSystemAttributeModel.__table__
heartbeats: sa.Table = models.TrialHeartbeatModel.__table__
intermediate_values: sa.Table = models.TrialIntermediateValueModel.__table__
study_user_attrs: sa.Table = models.StudyUserAttributeModel.__table__
study_system_attrs: sa.Table = models.StudySystemAttributeModel.__table__
TRIAL_TABLES = (trial_params, trial_values, intermediate_values, user_attrs, system_attrs, heartbeats)
"""Tables whose rows belong to a trial."""

ValueType = models.TrialValueModel.TrialValueType


def engine_of(storage: BaseStorage) -> sa.Engine | None:
    """Return the SQLAlchemy engine behind ``storage``, or None where it keeps no Optuna tables."""
    if isinstance(storage, _CachedStorage):
        storage = storage._backend
    if isinstance(storage, RDBStorage):
        return storage.engine
    engine = getattr(storage, "engine", None)
    return engine if isinstance(engine, sa.Engine) else None


def autocommitting(engine: sa.Engine) -> sa.Connection:
    """Return a connection that begins no transaction, to be used in a ``with`` statement.

    For reading, and for single statements that write: a server is spared two exchanges.
    """
    return engine.connect().execution_options(isolation_level="AUTOCOMMIT")


@contextmanager
def write_transaction(
    engine: sa.Engine, study_id: int | None = None, *, at_once: bool = False
) -> Iterator[sa.Connection]:
    """Run a transaction that writes; with ``study_id`` no other worker can create or take a trial meanwhile.

    SQLite takes its one write lock at once (a transaction that begins by reading and then writes would fail,
    not wait, when another worker wrote in between); the servers lock the study's row, as Optuna does.

    Args:
        engine:
            Engine of the storage.
        study_id:
            The study to lock, or None for no lock beyond the rows that are written.
        at_once:
            Whether a single statement does all the writing: a server then needs no transaction around it.

    Yields:
        A connection inside the transaction, which is committed at the end and rolled back on any exception.
    """
    if engine.dialect.name != "sqlite":
        if at_once:
            with autocommitting(engine) as connection:
                yield connection
            return
        with engine.begin() as connection:
            if study_id is not None:
                lock = f"SELECT study_id FROM studies WHERE study_id = {int(study_id)} FOR UPDATE"
                connection.exec_driver_sql(lock)
            yield connection
        return
    # AUTOCOMMIT keeps both SQLAlchemy and the sqlite3 module from beginning a (deferred) transaction of their own.
    with autocommitting(engine) as connection:
        driver = connection.connection.dbapi_connection
        assert driver is not None
        try:
            driver.execute("BEGIN IMMEDIATE")
            yield connection
            driver.execute("COMMIT")
        except BaseException as error:
            # On some errors, a full disk for one, SQLite has rolled back already and would refuse to do it again.
            if driver.in_transaction:
                driver.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise sqlalchemy.exc.DBAPIError.instance(None, None, error, sqlite3.Error) from error
            raise
