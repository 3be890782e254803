"""Files that workers read, brought once to every machine that lacks them: data sets, tables, supernets, profiles."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zenopt.core.errors import ExecutorError
from zenopt.core.paths import reason
from zenopt.core.text import shortened_path

#: Bytes that are sent at a time.
CHUNK = 64 * 2**20
_INSIDE = "files"


def lacking(files: Sequence[str]) -> tuple[str, ...]:
    """Return those of some files and folders that are not on this machine."""
    return tuple(text for text in files if not _place(text).exists())


def packed(text: str, chunk: int = CHUNK) -> Iterator[bytes]:
    """Yield a file, or a folder with all that is in it, as parts of a tar archive; links are followed."""
    buffer = io.BytesIO()
    root = _place(text).resolve()
    files = _files_in(root) if root.is_dir() else [root]
    with tarfile.open(fileobj=buffer, mode="w|", dereference=True) as archive:
        for path in files:
            archive.add(path, Path(_INSIDE) / path.relative_to(root), recursive=False)
            if buffer.tell() >= chunk:
                yield from _taken(buffer, chunk)
    yield from _taken(buffer, chunk)


def unpack(text: str, parts: Iterator[bytes]) -> None:
    """Put a file or folder where this machine should have it, unless another process has done so meanwhile.

    Raises:
        ExecutorError: If it cannot be put there.
    """
    from filelock import FileLock

    place = _place(text).absolute()
    name = hashlib.sha256(str(place).encode()).hexdigest()[:16]
    try:
        with FileLock(Path(tempfile.gettempdir()) / f"zenopt-{getattr(os, 'getuid', int)()}-{name}.lock"):
            if place.exists():
                return
            place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as folder:
                with tarfile.open(fileobj=io.BufferedReader(_Joined(parts)), mode="r|") as archive:
                    archive.extractall(folder, filter="data")
                # Whole, or not at all.
                (Path(folder) / _INSIDE).rename(place)
    except (OSError, tarfile.TarError) as error:
        raise ExecutorError(
            f"this node lacks {shortened_path(text)}, and it cannot be put there ({reason(error)}); put it there "
            "yourself"
        ) from None


def _files_in(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    own = folder.resolve()
    # A link to a folder that it is in would lead round for ever.
    for path in () if own in above else sorted(folder.iterdir()):
        if path.is_dir():
            yield from _files_in(path, (*above, own))
        elif path.is_file():
            yield path


def _place(text: str) -> Path:
    return Path(text).expanduser()


def _taken(buffer: io.BytesIO, chunk: int) -> Iterator[bytes]:
    content = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    for start in range(0, len(content), chunk):
        yield content[start : start + chunk]


class _Joined(io.RawIOBase):
    """Parts as one stream; each is looked at where it lies, not copied for every piece that is read of it."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            part = next(self._parts, None)
            if part is None:
                return 0
            self._left = memoryview(part)
        size = min(len(buffer), len(self._left))
        buffer[:size], self._left = self._left[:size], self._left[size:]
        return size
