"""What to do when the database says no: wait for one that is away, explain one that cannot be written."""

from __future__ import annotations

import logging
import random
import threading
import time
import weakref
from collections.abc import Callable
from typing import TypeVar

import optuna
import sqlalchemy.exc

from zenopt.core.errors import StorageError
from zenopt.storage.operations import Engine
from zenopt.storage.urls import mask_password

T = TypeVar("T")

PATIENCE_S = 600.0
"""How long a worker waits for a database that is away, s: a restart or a failover, not a lost evening."""
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0
# An outage shorter than this is nobody's business.
_SILENT_S = 1.0

_logger = logging.getLogger(__name__)
# Since when the database of an engine has been away: said once by whichever thread meets it first, and once when it
# is back.
_outages: weakref.WeakKeyDictionary[Engine, float] = weakref.WeakKeyDictionary()
_outages_lock = threading.Lock()

# PostgreSQL: connection exceptions (class 08), shutdown, crash recovery, too many clients.
_AWAY_STATES = ("08", "57P01", "57P02", "57P03", "53300")
_CONFLICT_STATES = ("40001", "40P01", "55P03")
_UNWRITABLE_STATES = {"53100": "the disk is full; free some space", "25006": "the database is read-only"}
# MySQL and MariaDB error numbers.
_AWAY_NUMBERS = (1040, 1053, 2002, 2003, 2006, 2013, 2055)
_CONFLICT_NUMBERS = (1205, 1213)
_UNWRITABLE_NUMBERS = {
    1021: "the disk is full; free some space",
    1114: "the disk is full; free some space",
    1290: "the database is read-only",
    1836: "the database is read-only",
}
_SQLITE_UNWRITABLE = {
    "disk is full": "the disk is full; free some space",
    "disk i/o error": "the file cannot be written; check the disk and its free space",
    "readonly database": "the file is read-only; make it and its folder writable",
    "unable to open": "the file cannot be opened; check the file and its folder",
    "malformed": "the file is damaged; restore it from a copy",
    "not a database": "the file is damaged; restore it from a copy",
    "no such table": "the file was replaced; restore it from a copy",
}


def patiently(
    engine: Engine,
    action: Callable[[], T],
    *,
    arrived: Callable[[], T | None] = lambda: None,
    patience_s: float | None = None,
) -> T:
    """Call ``action`` until it succeeds, waiting while the database is away or busy.

    Args:
        engine:
            Engine of the database; its idle connections are dropped when one turns out to be dead.
        action:
            Runs whole transactions; called again from the start.
        arrived:
            Asked before another try when the connection was lost, since the commit may have arrived although its
            confirmation did not: returns what ``action`` would have, or None if it did not arrive.
        patience_s:
            Longest wait in seconds; :data:`PATIENCE_S` if None.

    Returns:
        What ``action`` returns.

    Raises:
        StorageError: If the database stays away, or cannot be written (full disk, read-only file). Nothing that
            was recorded is lost, and what was to be written is still in memory.
    """
    began = time.monotonic()
    limit_s = PATIENCE_S if patience_s is None else patience_s
    pause_s = _FIRST_PAUSE_S
    is_doubtful = False
    while True:
        try:
            found = arrived() if is_doubtful else None
            result = action() if found is None else found
        except (sqlalchemy.exc.DBAPIError, optuna.exceptions.StorageInternalError) as error:
            cause = driver_error(error)
            if cause is None:
                raise
            where = _name(engine)
            reason = why_unwritable(cause)
            if reason is not None:
                raise StorageError(f"{where}: {reason} ({_line(cause.orig)})") from error
            away = is_away(cause)
            if not away and not is_conflict(cause):
                raise
            waited_s = time.monotonic() - began
            if waited_s > limit_s:
                raise StorageError(
                    f"{where}: no answer for {waited_s:.0f} s ({_line(cause.orig)}); start it and resume the study"
                ) from error
            if away:
                is_doubtful = True
                # The other pooled connections most likely died with this one.
                engine.dispose()
                if waited_s > _SILENT_S:
                    _announce_outage(engine, began, cause, limit_s)
            # Full jitter, so that the workers of a study do not all come back in the same instant.
            time.sleep(random.uniform(0.5, 1.0) * pause_s)
            pause_s = min(pause_s * 2.0, _LONGEST_PAUSE_S)
        else:
            if engine in _outages:
                _announce_return(engine)
            return result


def _announce_outage(engine: Engine, began: float, cause: sqlalchemy.exc.DBAPIError, limit_s: float) -> None:
    with _outages_lock:
        if engine in _outages:
            return
        _outages[engine] = began
    announce_absence(_name(engine), limit_s, cause)


def announce_absence(where: str, limit_s: float, cause: sqlalchemy.exc.DBAPIError) -> None:
    """Say that a database does not answer, and for how long it is waited for."""
    _logger.warning("%s is away, waiting up to %.0f s: %s", where, limit_s, _line(cause.orig))


def _announce_return(engine: Engine) -> None:
    with _outages_lock:
        began = _outages.pop(engine, None)
    if began is not None:
        _logger.warning("%s is back after %.0f s", _name(engine), time.monotonic() - began)


def driver_error(error: BaseException | None) -> sqlalchemy.exc.DBAPIError | None:
    """Return what the driver raised; Optuna's own storage wraps it."""
    while error is not None and not isinstance(error, sqlalchemy.exc.DBAPIError):
        error = error.__cause__
    return error


def is_away(error: sqlalchemy.exc.DBAPIError) -> bool:
    """Return whether the database did not answer."""
    if _is_sqlite(error):
        return False
    if error.connection_invalidated or _number(error) in _AWAY_NUMBERS:
        return True
    state = _sql_state(error)
    if state:
        return state.startswith(_AWAY_STATES)
    # A PostgreSQL connection attempt that fails has no state yet.
    connecting = isinstance(error, (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError))
    return connecting and _number(error) == 0


def is_conflict(error: sqlalchemy.exc.DBAPIError) -> bool:
    """Return whether another transaction was in the way."""
    if _is_sqlite(error):
        return "is locked" in str(error.orig)
    return _sql_state(error) in _CONFLICT_STATES or _number(error) in _CONFLICT_NUMBERS


def why_unwritable(error: sqlalchemy.exc.DBAPIError) -> str | None:
    """Return why the database cannot be written, with the remedy; None if that is not what the error says."""
    if _is_sqlite(error):
        message = str(error.orig).lower()
        return next((reason for part, reason in _SQLITE_UNWRITABLE.items() if part in message), None)
    return _UNWRITABLE_STATES.get(_sql_state(error)) or _UNWRITABLE_NUMBERS.get(_number(error))


def _sql_state(error: sqlalchemy.exc.DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None) or ""


def _number(error: sqlalchemy.exc.DBAPIError) -> int:
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments and isinstance(arguments[0], int) else 0


def _is_sqlite(error: sqlalchemy.exc.DBAPIError) -> bool:
    return type(error.orig).__module__ == "sqlite3"


def _name(engine: Engine) -> str:
    return f"storage {mask_password(engine.url.render_as_string(hide_password=True))!r}"


def _line(error: BaseException | None) -> str:
    return " ".join(str(error).split()).rstrip(".")
