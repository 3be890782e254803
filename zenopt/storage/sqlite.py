"""SQLite connections: tuned for many workers, rescuing a file that vanishes, reading on any medium."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import time
from urllib.parse import quote

from zenopt.storage.files import file_identity, one_at_a_time, rescue

SYNCHRONOUS = ("NORMAL", "FULL")
BUSY_TIMEOUT_S = 60.0
# Longest wait of a checkpoint for other workers, s: what it leaves behind, the last of them moves.
_CHECKPOINT_WAIT_S = 0.5


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
        read_only:
            Whether the file is only read, and may be where nothing can be written.
    """

    def __init__(self, path: str, synchronous: str = "NORMAL", *, read_only: bool = False) -> None:
        # The process may move to another folder; the file stays where it is.
        self.path = os.path.abspath(path)
        self.synchronous = synchronous
        self.read_only = read_only
        self.identity: tuple[int, int] | None = None
        self.is_lost = False

    def __call__(self) -> SqliteConnection:
        if self.read_only:
            return self._open_for_reading()
        if self.identity is None:
            self._remove_logs()
        # Once known, the file is not made anew: an empty one would take the place of a file that was deleted.
        connection = self._connect(self.path, "rw" if self.identity else "rwc")
        try:
            mode = _enter_wal(connection)
            # Outside WAL mode (file systems without shared memory) NORMAL could corrupt the file on power loss.
            level = self.synchronous if mode == "wal" else "FULL"
            connection.execute(f"PRAGMA synchronous={level}")
            self.identity = self.identity or file_identity(self.path)
            connection.check_file()
        except BaseException:
            connection.close()
            raise
        return connection

    def _remove_logs(self) -> None:
        """Remove logs of a database that is gone: a process that has it open must not share them with the new one."""
        logs = [name for name in (f"{self.path}-wal", f"{self.path}-shm") if os.path.exists(name)]
        # Logs first: where another process makes the database at this very moment, they are its own.
        if not logs or os.path.exists(self.path):
            return
        with one_at_a_time(f"{self.path}.lock"):
            if not os.path.exists(self.path):
                for name in logs:
                    with contextlib.suppress(FileNotFoundError):
                        os.remove(name)
                open(self.path, "xb").close()

    def _connect(self, path: str, mode: str) -> SqliteConnection:
        # The pool hands one connection to one thread at a time, but not always to the thread that opened it.
        connection = sqlite3.connect(
            f"file:{quote(os.path.abspath(path))}?mode={mode}",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            check_same_thread=False,
            factory=SqliteConnection,
        )
        connection.connector = self
        return connection

    def _open_for_reading(self) -> SqliteConnection:
        try:
            # Beside a worker that is writing, this sees what it commits.
            return _probed(self._connect(self.path, "ro"))
        except sqlite3.OperationalError:
            log = self.path + "-wal"
            if not os.path.exists(log) or os.path.getsize(log) == 0:
                return _probed(self._connect(self.path, "ro&immutable=1"))
        # A killed worker left its log, and SQLite can take it in only where it can write.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            copied = os.path.join(folder, "study.db")
            for suffix in ("", "-wal"):
                shutil.copyfile(self.path + suffix, copied + suffix)
            _probed(self._connect(copied, "rw")).close()
            return _probed(self._connect(copied, "ro&immutable=1"))


class SqliteConnection(sqlite3.Connection):
    """A connection that notices when its file is no longer the one at its path, and rescues what it holds."""

    connector: SqliteConnector

    def commit(self) -> None:
        """Commit; a commit into a deleted file would be lost, so it counts only where the file still is."""
        super().commit()
        self.check_file()

    def check_file(self) -> None:
        """Check that the database file is the one that was opened.

        Raises:
            StorageLostError: If it was deleted, replaced or emptied; all that was committed is in a rescue file.
        """
        connector = self.connector
        if connector.identity is None or file_identity(connector.path) == connector.identity:
            return
        connector.is_lost = True
        # An open file outlives its name: this connection, and those of other workers, still have all of it.
        rescue(f"sqlite:///{connector.path}", connector.path, connector.identity, self._copy)

    def _copy(self, partial: str, rescued: str) -> None:
        with contextlib.closing(sqlite3.connect(partial)) as target:
            self.backup(target)

    def checkpoint(self) -> None:
        """Move what is in the write-ahead log into the database file, which then is whole by itself."""
        self.execute(f"PRAGMA busy_timeout={int(_CHECKPOINT_WAIT_S * 1000)}")
        try:
            self.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            self.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_S * 1000)}")


def _probed(connection: SqliteConnection) -> SqliteConnection:
    try:
        connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
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
