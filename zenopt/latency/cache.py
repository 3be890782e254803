"""Measured latencies in an SQLite database, keyed by everything that matters."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter

from zenopt.core.errors import DeviceError
from zenopt.core.files import LATENCY_CACHE, parse_json, validated
from zenopt.core.text import quoted

_TABLE = "CREATE TABLE IF NOT EXISTS measurements (key TEXT PRIMARY KEY, result TEXT NOT NULL)"


def default_cache_path() -> Path:
    """Return the per-user database: ``$XDG_CACHE_HOME/zenopt/latency.db``."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "zenopt" / "latency.db"


class _Visits(BaseModel):
    visits_ms: list[Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]]


_VISITS = TypeAdapter(_Visits)


class MeasurementCache:
    """A mapping from what was measured to the result, shared by any number of processes.

    Args:
        path:
            Database file; its folder is made when needed.

    Raises:
        DeviceError: If the file is no database or cannot be written.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = Path(path) if path is not None else default_cache_path()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DeviceError(
                f"Cannot make the folder of the latency cache {self.path}: {error.strerror}."
            ) from error
        with self._open() as database:
            database.execute(_TABLE)

    def get(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what was stored under a key, or ``None``."""
        with self._open() as database:
            row = database.execute("SELECT result FROM measurements WHERE key = ?", (_text(key),)).fetchone()
        if row is None:
            return None
        return self._read(row[0])

    def put(self, key: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Store a result; an older one under the same key is replaced."""
        with self._open() as database:
            database.execute(
                "INSERT OR REPLACE INTO measurements (key, result) VALUES (?, ?)",
                (_text(key), json.dumps(result)),
            )

    def extend(self, key: Mapping[str, Any], times: Sequence[float]) -> list[float]:
        """Add to the list of times under a key and return all of it, what other processes added included."""
        with self._open() as database:
            # Taking the lock before reading keeps what another process adds meanwhile.
            database.execute("BEGIN IMMEDIATE")
            row = database.execute("SELECT result FROM measurements WHERE key = ?", (_text(key),)).fetchone()
            known = validated(_VISITS, self._read(row[0]), self.path, LATENCY_CACHE).visits_ms if row else []
            known.extend(times)
            if times:
                database.execute(
                    "INSERT OR REPLACE INTO measurements (key, result) VALUES (?, ?)",
                    (_text(key), json.dumps({"visits_ms": known})),
                )
        return known

    def __len__(self) -> int:
        with self._open() as database:
            return int(database.execute("SELECT COUNT(*) FROM measurements").fetchone()[0])

    def _read(self, text: Any) -> dict[str, Any]:
        content = parse_json(str(text), self.path, LATENCY_CACHE)
        if not isinstance(content, dict):
            raise LATENCY_CACHE.refusal(self.path, f"a result in it is {quoted(content)}; remove the file")
        return content

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # A connection per call: measurements take far longer, and nothing is held across forks.
        try:
            with closing(sqlite3.connect(self.path, timeout=30)) as database, database:
                yield database
        except sqlite3.Error as error:
            raise DeviceError(f"Latency cache {self.path} cannot be used: {error}.") from error


def _text(key: Mapping[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)
