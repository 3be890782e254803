"""The folder of a run: one command at a time writes in it, and what killed ones left half-written goes."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from zenopt.train.checkpoint import LAST
from zenopt.train.errors import CheckpointError, TrainError

LOCK = ".lock"
# What atomic writers leave behind when they are killed: `.last.pt.4711`, `.report.html.x8r2kq`, `.export-a81b/`.
_LEFTOVER = re.compile(
    r"\.((?:last|best|supernet|images|epoch-\d+)\.pt|metrics\.csv|metrics\.json|report\.html|deploy\.json|log\.csv)\.\w+|\.export-\w+"
)
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextmanager
def held(
    folder: Path, *, wait: bool = False, note: Callable[[str], None] = lambda text: None
) -> Iterator[None]:
    """Make a folder, keep other commands from writing in it, and sweep what killed ones left.

    The kernel gives the lock back when a process dies, however it dies.

    Args:
        folder:
            Made if missing.
        wait:
            Wait until another command has ended its work there, instead of refusing.
        note:
            Told where the file system knows no locks, so that nothing is kept from anyone.

    Raises:
        TrainError: Another command is at work there, or the folder cannot be made or written.
    """
    lock = FileLock(folder / LOCK, timeout=-1 if wait else 0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise TrainError(
            f"Another command is at work in {folder}; wait for it, or choose another --output."
        ) from None
    except NotImplementedError:
        note(f"The file system of {folder} has no locks; let no second command write there.")
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise TrainError(f"Cannot make the folder {folder}: {error.strerror or error}.") from None
        note(f"The file system of {folder} has no locks; let no second command write there.")
    try:
        _sweep(folder)
        yield
    finally:
        lock.release()


def check_free(folder: Path, resume: str) -> bool:
    """Return whether a folder holds a run, after checking that this is what was expected of it.

    Args:
        resume:
            `never` refuses a folder that holds a run, `must` one that holds none, `auto` takes both.

    Raises:
        TrainError: There is a run, and nobody asked to go on with it; or the folder is a file.
        CheckpointError: There is no run to go on with.
    """
    path = folder / LAST
    if folder.exists() and not folder.is_dir():
        raise TrainError(f"{folder} is a file; name a folder for the run.")
    if path.exists() and resume == "never":
        raise TrainError(
            f"{folder} already holds a run; continue it with --resume, or choose another --output."
        )
    if not path.exists() and resume == "must":
        raise CheckpointError(f"There is no run to resume: {path} does not exist.")
    return path.exists()


def _sweep(folder: Path) -> None:
    """Remove temporary files of writers that are dead: whoever lives would hold the lock."""
    for path in folder.iterdir():
        if _LEFTOVER.fullmatch(path.name):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
