"""``open_storage``: from a URL to a storage that many workers can share."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable
from typing import Any

import optuna
import sqlalchemy.exc
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage

from zenopt.core.errors import StorageError
from zenopt.storage.files import check_file, remove_leftovers
from zenopt.storage.journal import WatchedJournal
from zenopt.storage.retry import announce_absence, driver_error, is_away
from zenopt.storage.sqlite import SYNCHRONOUS, SqliteConnector
from zenopt.storage.stock import StampedJournalStorage, StampedRDBStorage
from zenopt.storage.tables import KNOWN_SCHEMAS, engine_of
from zenopt.storage.urls import StorageURL, parse_url
from zenopt.storage.write_behind import WriteBehindStorage

CONNECT_TIMEOUT_S = 10
JOIN_PATIENCE_S = 60.0
"""How long a worker that joins a running search waits for its database, s: a restart, not a wrong address."""
_CREATION_ATTEMPTS = 6
# What was rescued takes seconds to write; an older unfinished file is of a process that was killed.
_STALE_S = 3600.0


def open_storage(
    url: str,
    *,
    synchronous: str = "NORMAL",
    heartbeat_interval: float | None = 60.0,
    write_behind: bool = True,
    create: bool = True,
    wait_s: float = 0.0,
) -> BaseStorage:
    """Open the storage at ``url``, creating its tables or file where they are missing.

    A database is left whole when the process ends: the log beside a SQLite file is folded into it.

    Example::

        storage = open_storage("sqlite:///zenopt.db")
        study = optuna.create_study(storage=storage, study_name="demo", load_if_exists=True)

    Args:
        url:
            ``sqlite:///FILE.db`` or a plain ``FILE.db``, ``postgresql://...``, ``mysql://...``,
            ``journal:///FILE.log`` or a plain ``FILE.log``, ``grpc://HOST:PORT``, or ``memory:``.
            A relative file has three slashes and an absolute one four, as in SQLAlchemy.
        synchronous:
            For SQLite: ``NORMAL`` (a killed process loses nothing, a power cut may lose the last commits) or
            ``FULL`` (waits for the disk on every commit).
        heartbeat_interval:
            Seconds between signs of life of a running trial, by which workers on other machines know that
            this one lives; None turns them off.
        write_behind:
            For SQLite, PostgreSQL, MySQL and what ``zenopt serve-storage`` serves: keep a running trial in memory
            and write it whole when it is told, see :mod:`zenopt.storage.write_behind`. False gives Optuna's own
            storage, which writes each parameter at once and reads all trials of a study into memory.
        create:
            False opens a file only if it exists, and where it cannot be written, for reading alone.
        wait_s:
            Seconds to wait for a server that does not answer; a worker that joins a running search may come while its
            database restarts.

    Returns:
        A storage for ``optuna.create_study(storage=...)``.

    Raises:
        StorageError: If the URL is malformed or the database cannot be used; one line with the remedy.
    """
    if synchronous not in SYNCHRONOUS:
        raise StorageError(f"synchronous must be one of {', '.join(SYNCHRONOUS)}. Got {synchronous!r}.")
    if heartbeat_interval is not None and heartbeat_interval <= 0:
        raise StorageError(
            f"heartbeat_interval must be a positive number of seconds. Got {heartbeat_interval}."
        )
    target = parse_url(url)
    if target.kind == "memory":
        return InMemoryStorage()
    if target.kind == "journal":
        return _open_journal(target, heartbeat_interval, create)
    if target.kind == "grpc":
        return _open_grpc(target, heartbeat_interval, max(CONNECT_TIMEOUT_S, wait_s), write_behind)
    backend = _open_rdb(target, synchronous, create, wait_s, pre_ping=not write_behind)
    if not write_behind:
        return StampedRDBStorage(backend, heartbeat_interval)
    if engine_of(backend) is None:
        warnings.warn(
            f"storage {target.display!r} has schema version {backend.get_current_version()}, and the fast storage "
            f"knows only {', '.join(KNOWN_SCHEMAS)}: using Optuna's own storage, which is slower",
            stacklevel=2,
        )
        return StampedRDBStorage(backend, heartbeat_interval)
    return WriteBehindStorage(backend, heartbeat_interval)


def _open_journal(target: StorageURL, heartbeat_interval: float | None, create: bool) -> BaseStorage:
    is_writable = check_file(target.path, target.display, create=create, is_sqlite=False)
    try:
        return StampedJournalStorage(WatchedJournal(target.path, is_writable=is_writable), heartbeat_interval)
    except StorageError:
        raise
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise StorageError(
            f"storage {target.display!r}: the file is not an Optuna journal ({_line(error)}); name another file"
        ) from error
    except OSError as error:
        raise StorageError(f"storage {target.display!r}: {_line(error)}; check the disk") from error


def _open_grpc(
    target: StorageURL, heartbeat_interval: float | None, timeout_s: float, write_behind: bool
) -> BaseStorage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            from zenopt.storage.served import ServedProxy, StampedGrpcStorage

            proxy = ServedProxy(host=target.host, port=target.port)
            proxy.wait_server_ready(timeout=timeout_s)
            if write_behind and proxy.has_tables():
                return WriteBehindStorage(proxy, heartbeat_interval)  # type: ignore[arg-type]  # stands in for it
            return StampedGrpcStorage(
                host=target.host, port=target.port, heartbeat_interval=heartbeat_interval
            )
        except ImportError as error:
            raise StorageError(
                f"storage {target.display!r} needs gRPC, which is not installed; run: pip install 'zenopt[grpc]'"
            ) from error
        except ConnectionError as error:
            raise StorageError(
                f"storage {target.display!r}: no server answers; start one with zenopt serve-storage"
            ) from error


def _open_rdb(
    target: StorageURL, synchronous: str, create: bool, wait_s: float, *, pre_ping: bool
) -> RDBStorage:
    engine_kwargs: dict[str, Any]
    if target.kind == "sqlite":
        is_writable = check_file(target.path, target.display, create=create, is_sqlite=True)
        if is_writable:
            remove_leftovers(target.path, (), _STALE_S)
        engine_kwargs = {"creator": SqliteConnector(target.path, synchronous, read_only=not is_writable)}
    else:
        engine_kwargs = {"pool_pre_ping": pre_ping, "connect_args": {"connect_timeout": CONNECT_TIMEOUT_S}}

    def connect() -> RDBStorage:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return RDBStorage(
                # Optuna fills braces in the URL as a template; a password may hold them.
                target.url.replace("{", "{{").replace("}", "}}"),
                engine_kwargs=dict(engine_kwargs),
            )

    return explain_errors(lambda: _awaited(lambda: _retry_creation(connect), target, wait_s), target)


def _awaited(create: Callable[[], RDBStorage], target: StorageURL, wait_s: float) -> RDBStorage:
    deadline = time.monotonic() + wait_s
    is_said = False
    while True:
        try:
            return create()
        except (sqlalchemy.exc.DBAPIError, optuna.exceptions.StorageInternalError) as error:
            cause = driver_error(error)
            if cause is None or not is_away(cause) or time.monotonic() >= deadline:
                raise
            if not is_said:
                announce_absence(f"storage {target.display!r}", wait_s, cause)
                is_said = True
            time.sleep(random.uniform(0.5, 1.0))


def _retry_creation(create: Callable[[], RDBStorage]) -> RDBStorage:
    # Workers that open a new database at the same moment collide on CREATE TABLE and on the version rows;
    # the loser of the race finds everything there on its next attempt.
    for attempt in range(_CREATION_ATTEMPTS):
        try:
            return create()
        except (sqlalchemy.exc.DBAPIError, optuna.exceptions.StorageInternalError, AssertionError) as error:
            if attempt == _CREATION_ATTEMPTS - 1 or not _is_creation_race(error):
                raise
            time.sleep(random.uniform(0.05, 0.2) * (attempt + 1))
    raise AssertionError("unreachable")


def _is_creation_race(error: Exception) -> bool:
    if isinstance(error, AssertionError):
        # Optuna asserts that the revision row is there, which its creator may not have committed yet.
        return True
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    text = str(cause).lower()
    races = ("already exists", "duplicate", "unique constraint", "database is locked", "no such table")
    return any(race in text for race in races)


def explain_errors(create: Callable[[], RDBStorage], target: StorageURL) -> RDBStorage:
    """Call ``create``; what goes wrong for reasons outside the program becomes one clear line.

    Raises:
        StorageError: If the database cannot be reached, written, read or understood.
    """
    where = f"storage {target.display!r}"
    try:
        return create()
    except RuntimeError as error:
        # Raised for a schema version that the installed Optuna does not know or no longer writes.
        if isinstance(error, sqlalchemy.exc.SQLAlchemyError) or "schema" not in str(error):
            raise
        raise StorageError(f"{where}: {_line(error)}") from error
    except (sqlalchemy.exc.DBAPIError, optuna.exceptions.StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        original = getattr(cause, "orig", None) or cause or error
        raise StorageError(f"{where}: {_line(original)}; {_remedy(str(original), target)}") from error
    except (OSError, sqlalchemy.exc.ArgumentError) as error:
        raise StorageError(f"{where}: {_line(error)}; check the URL") from error
    except Exception as error:
        # The SQLite connector runs outside SQLAlchemy's own wrapping of driver errors.
        import sqlite3

        if not isinstance(error, sqlite3.Error):
            raise
        raise StorageError(f"{where}: {_line(error)}; {_remedy(str(error), target)}") from error


def _remedy(message: str, target: StorageURL) -> str:
    message = message.lower()
    if "not a database" in message or "malformed" in message:
        return "the file is damaged or no SQLite database; name another file"
    if "readonly" in message or "read-only" in message:
        return "make the file and its folder writable"
    if "full" in message or "no space" in message:
        return "free some disk space"
    if "locked" in message:
        return "another program holds the file; close it"
    if "password" in message or "authentication" in message or "access denied" in message:
        return "check user and password"
    if "does not exist" in message or "unknown database" in message:
        return "create the database first"
    if target.kind == "sqlite":
        return "check the file and its folder"
    return "check that the server runs and that host and port are right"


def _line(error: BaseException) -> str:
    """Return the error's message as one line without trailing full stop."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
