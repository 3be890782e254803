"""Files that are written after long work: found out before it whether they can be."""

from __future__ import annotations

from pathlib import Path

from zenopt.core.errors import DeviceError


def prepare_output(path: str | Path, endings: tuple[str, ...] = ()) -> Path:
    """Makes the folders of a file that is to be written later, and checks that it can be.

    Args:
        path:
            The file; what it holds now is kept.
        endings:
            Allowed ends of its name; any if empty.

    Raises:
        DeviceError: If its name ends otherwise, it is a folder, or it cannot be written.
    """
    path = Path(path)
    if endings and path.suffix not in endings:
        raise DeviceError(f"{path} must end in {' or '.join(endings)}.")
    is_new = not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Opening is the only test that no file system answers wrongly.
        path.open("ab").close()
    except OSError as error:
        raise DeviceError(f"Cannot write {path}: {error.strerror}.") from error
    if is_new:
        path.unlink()
    return path
