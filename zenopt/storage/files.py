"""The files of storages: checked before use, told from others, rescued when they vanish."""

from __future__ import annotations

import contextlib
import glob
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import NoReturn
from urllib.parse import quote

from optuna.storages.journal import JournalFileOpenLock

from zenopt.core.errors import StorageError, StorageLostError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_PARTIAL_SUFFIX = ".partial"


def check_file(path: str, display: str, *, create: bool, is_sqlite: bool) -> bool:
    """Check that a file can be the storage that is asked for.

    Args:
        path:
            The file.
        display:
            The storage URL to name in the error.
        create:
            Whether it may be made, and must be writable.
        is_sqlite:
            Whether it is to be a SQLite database.

    Returns:
        Whether it can be written.

    Raises:
        StorageError: If the folder or file is missing, cannot be read or written, or is something else; the message
            names the remedy.
    """
    where = f"storage {display!r}"
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise StorageError(f"{where}: the folder {folder!r} does not exist; create it first")
    if os.path.isdir(path):
        raise StorageError(f"{where}: {path!r} is a folder; name a file in it")
    exists = os.path.exists(path)
    if not create and not exists:
        raise StorageError(f"{where}: the file does not exist; run zenopt optimize first")
    if exists and not os.access(path, os.R_OK):
        raise StorageError(f"{where}: the file cannot be read; run: chmod u+r {path!r}")
    # Logs and locks are files of their own next to the storage: the folder must be writable too.
    is_folder_writable = os.access(folder, os.W_OK | os.X_OK)
    is_file_writable = not exists or os.access(path, os.W_OK)
    if create and not is_folder_writable:
        raise StorageError(f"{where}: the folder {folder!r} is read-only; make it writable")
    if create and not is_file_writable:
        raise StorageError(f"{where}: the file is read-only; run: chmod u+rw {path!r}")
    if is_sqlite and exists and os.path.getsize(path) > 0 and not _is_database(path):
        raise StorageError(f"{where}: the file is damaged or no SQLite database; name another file")
    if is_sqlite and exists and _is_foreign(path):
        # Optuna would make its tables beside those of the other program, for a mere look too.
        raise StorageError(f"{where}: the file is the database of another program; name another file")
    return is_folder_writable and is_file_writable


def _is_database(path: str) -> bool:
    # SQLite itself looks. POSIX takes all locks of a process on a file away as soon as the process closes it anywhere:
    # opened and closed here, the file would look unused to other processes while connections of this one use it, and
    # the next that ends would delete the log in which their commits are.
    with contextlib.closing(_glance(path)) as connection:
        try:
            connection.execute("PRAGMA schema_version").fetchone()
        except sqlite3.DatabaseError as error:
            return "not a database" not in str(error)
    return True


def _is_foreign(path: str) -> bool:
    # One that is empty, or that Optuna makes its tables in at this moment, is not foreign.
    with contextlib.closing(_glance(path)) as connection:
        try:
            tables = {
                name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            }
            columns = {row[1] for row in connection.execute("PRAGMA table_info(studies)")}
        except sqlite3.DatabaseError:
            # Opening it says what is wrong with it.
            return False
    return bool(tables and not tables & _FIRST_TABLES) or bool(columns and "study_name" not in columns)


#: Tables of Optuna that depend on no other one, so that one of them is there as soon as any is.
_FIRST_TABLES = {"studies", "version_info", "alembic_version"}


def _glance(path: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(os.path.abspath(path))}?mode=ro&immutable=1", uri=True)


def file_identity(path: str) -> tuple[int, int] | None:
    """Return what tells a file from every other on this machine, or None where there is none, or an empty one."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status.st_size else None


def rescue(url: str, path: str, identity: tuple[int, int], write: Callable[[str, str], None]) -> NoReturn:
    """Save what a lost file held, and tell people where it is.

    Args:
        url:
            The storage URL.
        path:
            Where the file was.
        identity:
            Its :func:`file_identity`.
        write:
            Called with the name of the file to write, and that of the rescue file, which may exist: other workers
            rescue the same file to the same place, one after another.

    Raises:
        StorageLostError: In any case.
    """
    folder, name = os.path.split(os.path.abspath(path))
    if not os.path.isdir(folder):
        folder = tempfile.gettempdir()
    stem, suffix = os.path.splitext(name)
    rescued = os.path.join(folder, f"{stem}.rescued-{identity[1]}{suffix}")
    where = f"storage {url!r}: the file was deleted or replaced while in use"
    try:
        with one_at_a_time(f"{rescued}.lock"):
            _replace(rescued, write)
    except (OSError, sqlite3.Error) as error:
        raise StorageLostError(f"{where}; what it held could not be saved ({error})") from error
    raise StorageLostError(
        f"{where}; all trials told are in {rescued}; put it in the old place and resume the study"
    )


@contextlib.contextmanager
def one_at_a_time(path: str) -> Iterator[None]:
    """Hold a lock that ends with its process: a worker may be ended while it rescues, and others wait for it."""
    if fcntl is None:
        lock = JournalFileOpenLock(path.removesuffix(".lock"))
        lock.acquire()
        try:
            yield
        finally:
            lock.release()
        return
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            # Whoever had it has removed the file, and another process may hold a new one.
            if not _is_at(path, handle):
                continue
            try:
                yield
            finally:
                os.remove(path)
            return
        finally:
            os.close(handle)


def _is_at(path: str, handle: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _replace(path: str, write: Callable[[str, str], None]) -> None:
    folder, name = os.path.split(path)
    handle, partial = tempfile.mkstemp(suffix=_PARTIAL_SUFFIX, prefix=f"{name}.", dir=folder)
    os.close(handle)
    try:
        write(partial, path)
        os.replace(partial, path)
    except BaseException:
        os.remove(partial)
        raise


def remove_leftovers(path: str, lock_suffixes: tuple[str, ...], age_s: float) -> None:
    """Remove what killed processes have left beside a storage's file.

    Args:
        path:
            The file.
        lock_suffixes:
            What the names of its lock files end with.
        age_s:
            Seconds since their last change beyond which nobody uses them.
    """
    path = glob.escape(path)
    patterns = [f"{os.path.splitext(path)[0]}.rescued-*{_PARTIAL_SUFFIX}"]
    for suffix in lock_suffixes:
        # Optuna renames a lock before it removes it.
        patterns += [path + suffix, f"{path}{suffix}*.rename"]
    for pattern in patterns:
        for name in glob.glob(pattern):
            _remove_old(name, age_s)


def _remove_old(name: str, age_s: float) -> None:
    try:
        if time.time() - os.lstat(name).st_mtime > age_s:
            os.remove(name)
    except FileNotFoundError:
        # Another process was quicker.
        pass
