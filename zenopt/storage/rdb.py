"""Optuna's SQL storage that waits for a database that is away, and leaves a whole database behind when it ends."""

from __future__ import annotations

import functools
import logging
import multiprocessing.util
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from optuna.storages import BaseStorage, RDBStorage, _CachedStorage

from zenopt.core.errors import StorageError
from zenopt.storage.operations import Engine
from zenopt.storage.retry import patiently
from zenopt.storage.sqlite import SqliteConnection, SqliteConnector
from zenopt.storage.tables import reading

T = TypeVar("T")

# Nobody wants to wait for a database when a process ends, s.
PATIENCE_AT_END_S = 5.0

_logger = logging.getLogger(__name__)


class PatientRDBStorage(_CachedStorage):
    """Optuna's SQL storage with its cache; closed when the process ends, or nobody uses it any more.

    Args:
        backend:
            Optuna's storage of the database.
    """

    def __init__(self, backend: RDBStorage) -> None:
        super().__init__(backend)
        self._close_at_end()

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        self._close_at_end()

    @property
    def engine(self) -> Engine:
        """What connects to the tables."""
        return self._backend.engine

    def close(self) -> None:
        """Leave a whole database and disconnect; a storage that is used again connects again."""
        _close(self._backend, self._before_closing)

    def remove_session(self) -> None:
        """Called by Optuna at the end of ``study.optimize``."""
        super().remove_session()
        _checkpoint(self._backend)

    def _patiently(self, action: Callable[[], T]) -> T:
        return patiently(self.engine, action)

    def _close_at_end(self) -> None:
        # What is still to be done before the connections are closed; it must not refer to this object.
        self._before_closing: list[Callable[[], None]] = []
        arguments = (self._backend, self._before_closing)
        # Unlike atexit, this also runs at the end of a worker of multiprocessing, however it was started.
        multiprocessing.util.Finalize(self, _close_at_end, arguments, exitpriority=10)


def checkpoint(storage: BaseStorage) -> None:
    """Make a SQLite file whole by itself, so that it can be copied; does nothing for other storages.

    Otherwise the last commits are in a file beside it (``-wal``) until the last process that uses it ends.

    Raises:
        StorageLostError: If the file was deleted or replaced meanwhile.
        StorageError: If the file cannot be written; what was told stays in the file beside it.
    """
    if isinstance(storage, PatientRDBStorage):
        _checkpoint(storage._backend)


def _checkpoint(backend: RDBStorage) -> None:
    connector = backend.engine_kwargs.get("creator")
    if isinstance(connector, SqliteConnector) and not connector.read_only:
        with reading(backend.engine) as connection:
            driver = connection.connection.dbapi_connection
            assert isinstance(driver, SqliteConnection)
            try:
                driver.checkpoint()
            except sqlite3.OperationalError as error:
                remedy = "free some space" if "full" in str(error) else "check the disk"
                raise StorageError(
                    f"storage {f'sqlite:///{connector.path}'!r}: {error}; {remedy}. "
                    "What was told is in its -wal file"
                ) from error


def _close(backend: RDBStorage, before_closing: list[Callable[[], None]]) -> None:
    connector = backend.engine_kwargs.get("creator")
    # Who used a file that was lost has been told so.
    if not (isinstance(connector, SqliteConnector) and connector.is_lost):
        for action in before_closing:
            action()
        _checkpoint(backend)
    backend.remove_session()
    backend.engine.dispose()


def _close_at_end(backend: RDBStorage, before_closing: list[Callable[[], None]]) -> None:
    try:
        patiently(backend.engine, lambda: _close(backend, before_closing), patience_s=PATIENCE_AT_END_S)
    except StorageError as error:
        _logger.warning("%s", error)


def _waiting(name: str) -> Callable[..., Any]:
    method = getattr(_CachedStorage, name)

    @functools.wraps(method)
    def call(self: PatientRDBStorage, *args: Any, **kwargs: Any) -> Any:
        return self._patiently(lambda: method(self, *args, **kwargs))

    return call


for _name in (
    "create_new_study",
    "set_study_user_attr",
    "set_study_system_attr",
    "get_study_id_from_name",
    "get_study_name_from_id",
    "get_study_directions",
    "get_study_user_attrs",
    "get_study_system_attrs",
    "get_all_studies",
    "get_trial_id_from_study_id_trial_number",
    "set_trial_intermediate_value",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "set_trial_state_values",
):
    setattr(PatientRDBStorage, _name, _waiting(_name))
