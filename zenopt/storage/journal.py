"""Journal files: noticed when they vanish, and cleared of what killed workers left."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any, BinaryIO

from optuna.storages.journal import JournalFileBackend

from zenopt.storage.files import file_identity, remove_leftovers, rescue

SWEEP_SUFFIX = ".sweep"
"""Added to a journal's name for the lock of those who put trials of dead workers back."""
# Optuna breaks a lock that was not released for 30 s; older ones are of workers that were killed.
_STALE_LOCK_S = 60.0


class WatchedJournal(JournalFileBackend):
    """Optuna's journal file that notices when it was deleted or replaced, and rescues what it held.

    Args:
        path:
            The file.
        is_writable:
            Whether it, and its folder, can be written.
    """

    def __init__(self, path: str, *, is_writable: bool = True) -> None:
        # The process may move to another folder; the file stays where it is.
        path = os.path.abspath(path)
        if is_writable:
            remove_leftovers(path, (".lock", f"{SWEEP_SUFFIX}.lock"), _STALE_LOCK_S)
        super().__init__(path)
        self._identity: tuple[int, int] | None = None
        self._has_written = False
        self._open()

    def _open(self) -> None:
        # An open file outlives its name: what it held can be read when it is gone.
        self._content: BinaryIO = open(self._file_path, "rb")  # noqa: SIM115
        self._identity = self._identity or file_identity(self._file_path)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_content"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Yield the logs from a number on; of a lost file, a worker reads none before it writes, which rescues all."""
        if self._has_written and self._is_lost:
            return
        self._check([])
        yield from super().read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append logs; written into a deleted file they would be lost, so they count only where the file still is."""
        self._has_written = True
        self._check(logs)
        super().append_logs(logs)
        self._identity = self._identity or file_identity(self._file_path)
        self._check(logs)

    @property
    def _is_lost(self) -> bool:
        return self._identity is not None and file_identity(self._file_path) != self._identity

    def _check(self, logs: list[dict[str, Any]]) -> None:
        if self._identity is None or not self._is_lost:
            return
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()

        def copy(partial: str, rescued: str) -> None:
            # What other workers have rescued has more than the file had: each adds what only it still has.
            self._content.seek(0)
            content = Path(rescued).read_bytes() if os.path.exists(rescued) else self._content.read()
            Path(partial).write_bytes(content if content.endswith(text) else content + text)

        rescue(f"journal:///{self._file_path}", self._file_path, self._identity, copy)
