"""Scores kept in an SQLite file: a run that was interrupted goes on, and nothing is computed twice."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from zenopt.core.errors import StorageError
from zenopt.core.score import Score

_SCHEMA = """
CREATE TABLE IF NOT EXISTS zenopt_scores (
    settings TEXT NOT NULL, proxy TEXT NOT NULL, structure TEXT NOT NULL,
    value REAL, seconds REAL NOT NULL, error TEXT,
    PRIMARY KEY (settings, proxy, structure)
) WITHOUT ROWID
"""


class ScoreCache:
    """Scores by (settings, proxy, structure).

    Args:
        path:
            The file; made if missing. ``None`` keeps the scores in memory.

    Raises:
        StorageError: If the file cannot be used.

    Example:
        .. code-block:: python

            with ScoreCache("scores.db") as cache:
                cache.put({"seed": 0}, "SuperConv...", {"synflow": Score(1.0, 0.2)})
                cache.get({"seed": 0}, "synflow")
    """

    def __init__(self, path: str | Path | None) -> None:
        self._name = "memory" if path is None else str(path)
        try:
            # A long timeout: several runs may fill one file.
            self._connection = sqlite3.connect(":memory:" if path is None else path, timeout=60)
            self._connection.execute("PRAGMA journal_mode=WAL")
            # A killed process loses nothing; a power cut loses the last scores, which are computed again.
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(_SCHEMA)
            self._connection.commit()
        except sqlite3.Error as error:
            raise StorageError(f"Score cache {self._name} cannot be used: {error}.") from None

    def get(self, settings: Mapping[str, Any], proxy: str) -> dict[str, Score]:
        """Return every score of a proxy under these settings, by structure."""
        try:
            rows = self._connection.execute(
                "SELECT structure, value, seconds, error FROM zenopt_scores WHERE settings = ? AND proxy = ?",
                (_key(settings), proxy),
            ).fetchall()
        except sqlite3.Error as error:
            raise StorageError(f"Score cache {self._name} cannot be read: {error}.") from None
        # SQLite takes any value in any column.
        if not all(map(_is_score, rows)):
            raise StorageError(f"Score cache {self._name} holds something else than scores; remove the file.")
        return {structure: Score(value, seconds, error, proxy) for structure, value, seconds, error in rows}

    def put(self, settings: Mapping[str, Any], structure: str, scores: Mapping[str, Score]) -> None:
        """Store the scores of one structure, by proxy, in one transaction."""
        rows: Iterable[tuple[Any, ...]] = [
            (_key(settings), proxy, structure, score.value, score.seconds, score.error)
            for proxy, score in scores.items()
        ]
        try:
            with self._connection:
                self._connection.executemany(
                    "INSERT OR REPLACE INTO zenopt_scores VALUES (?, ?, ?, ?, ?, ?)", rows
                )
        except sqlite3.Error as error:
            raise StorageError(f"Score cache {self._name} cannot be written: {error}.") from None

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> ScoreCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _key(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


def _is_score(row: tuple[Any, ...]) -> bool:
    structure, value, seconds, error = row
    texts = isinstance(structure, str) and isinstance(error, str | None)
    return texts and isinstance(value, int | float | None) and isinstance(seconds, int | float)
