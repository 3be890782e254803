"""Files and folders that are written after long work: found out before it whether they can be."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from zenopt.core.errors import OutputError

#: Bytes written on trial: a disk that is full refuses them, a smaller file may still fit into what is left.
_TRIAL_BYTES = 1 << 16


def prepare_output(path: str | Path, endings: tuple[str, ...] = ()) -> Path:
    """Make the folders of a file that is to be written later, and check that it can be.

    Args:
        path:
            The file; what it holds now is kept.
        endings:
            Allowed ends of its name; any if empty.

    Raises:
        OutputError: If its name ends otherwise, it is a folder, or it cannot be written.
    """
    path = Path(path)
    if endings and path.suffix not in endings:
        raise OutputError(f"{path} must end in {' or '.join(endings)}.")
    is_new = not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Opening is the only test that no file system answers wrongly.
        path.open("ab").close()
        if is_new:
            path.unlink()
        _write_on_trial(path.parent)
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror}.") from error
    return path


def check_folder(folder: str | Path) -> Path:
    """Check that files can be written in a folder, which is made if it is missing and removed again.

    Raises:
        OutputError: If it is a file, or cannot be written in.
    """
    folder = Path(folder)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_on_trial(folder)
    except OSError as error:
        raise OutputError(f"Cannot write in {folder}: {error.strerror}.") from error
    finally:
        for path in missing:
            if path.is_dir():
                path.rmdir()
    return folder


def _write_on_trial(folder: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".trial-") as file:
        file.write(b"\0" * _TRIAL_BYTES)
        file.flush()
        os.fsync(file.fileno())
