"""SQLite connections tuned for many workers on one file."""

from __future__ import annotations

import os
import sqlite3
import time

from zenopt.core.errors import StorageError

SYNCHRONOUS = ("NORMAL", "FULL")
BUSY_TIMEOUT_S = 60.0
_HEADER = b"SQLite format 3\0"


class SqliteConnector:
    """Open SQLite connections in WAL mode; passed to SQLAlchemy as the ``creator`` of one engine.

    A ``creator`` sets the pragmas on every connection of its own engine, the very first one included, and unlike
    an event listener it survives pickling of the storage, which keeps only the engine's keyword arguments.

    Args:
        path:
            The database file.
        synchronous:
            ``NORMAL`` does not wait for the disk on each commit: nothing is lost when a process dies, the last
            commits may be when the machine loses power. ``FULL`` waits.
    """

    def __init__(self, path: str, synchronous: str = "NORMAL") -> None:
        self.path = path
        self.synchronous = synchronous

    def __call__(self) -> sqlite3.Connection:
        # The pool hands one connection to one thread at a time, but not always to the thread that opened it.
        connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
        try:
            mode = _enter_wal(connection)
            # Outside WAL mode (file systems without shared memory) NORMAL could corrupt the file on power loss.
            level = self.synchronous if mode == "wal" else "FULL"
            connection.execute(f"PRAGMA synchronous={level}")
        except BaseException:
            connection.close()
            raise
        return connection


def _enter_wal(connection: sqlite3.Connection) -> str:
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        if mode == "wal":
            return mode
        try:
            return connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            # Changing the mode needs the file for itself, and SQLite does not apply the busy timeout to that.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def check_file(path: str, display: str) -> None:
    """Check that ``path`` can be a SQLite database that we can write.

    Args:
        path:
            The database file; it need not exist.
        display:
            The storage URL to name in the error.

    Raises:
        StorageError: If the folder is missing, the file or folder is read-only, or the file is something else.
    """
    check_writable(path, display)
    if os.path.isfile(path) and os.path.getsize(path) > 0:
        with open(path, "rb") as file:
            if file.read(len(_HEADER)) != _HEADER:
                raise StorageError(
                    f"storage {display!r}: the file is not a SQLite database; name another file"
                )


def check_writable(path: str, display: str) -> None:
    """Check that the file ``path`` can be created or written, with its folder.

    Raises:
        StorageError: If it cannot; the message names the remedy.
    """
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise StorageError(f"storage {display!r}: the folder {folder!r} does not exist; create it first")
    if os.path.isdir(path):
        raise StorageError(f"storage {display!r}: {path!r} is a folder; name a file in it")
    # WAL and journal locks are files of their own next to the database: the folder must be writable too.
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(f"storage {display!r}: the folder {folder!r} is read-only; make it writable")
    if os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK):
        raise StorageError(f"storage {display!r}: the file is read-only; run: chmod u+rw {path!r}")
