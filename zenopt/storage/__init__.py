"""The database of a study: opened from a URL, shared by many workers, and the only state there is."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zenopt.storage.urls import StorageURL, default_storage, mask_password, parse_url

if TYPE_CHECKING:
    from zenopt.storage.factory import JOIN_PATIENCE_S, open_storage
    from zenopt.storage.history import StudyHistory, count_by_state, top
    from zenopt.storage.orphans import requeue_orphans
    from zenopt.storage.rdb import checkpoint
    from zenopt.storage.records import (
        STRUCTURE_KEY,
        TrialRecord,
        constraints_of,
        is_feasible,
        record_constraints,
    )
    from zenopt.storage.serving import serve
    from zenopt.storage.workers import WORKER_KEY, Worker, current_worker
    from zenopt.storage.write_behind import WriteBehindStorage

__all__ = [
    "JOIN_PATIENCE_S",
    "STRUCTURE_KEY",
    "WORKER_KEY",
    "StorageURL",
    "StudyHistory",
    "TrialRecord",
    "Worker",
    "WriteBehindStorage",
    "checkpoint",
    "constraints_of",
    "count_by_state",
    "current_worker",
    "default_storage",
    "is_feasible",
    "mask_password",
    "open_storage",
    "parse_url",
    "record_constraints",
    "requeue_orphans",
    "serve",
    "top",
]

# Loaded on first use: they import Optuna and SQLAlchemy, and a command that only masks a password is to be quick.
_LAZY = {
    "factory": ("JOIN_PATIENCE_S", "open_storage"),
    "history": ("StudyHistory", "count_by_state", "top"),
    "orphans": ("requeue_orphans",),
    "rdb": ("checkpoint",),
    "records": ("STRUCTURE_KEY", "TrialRecord", "constraints_of", "is_feasible", "record_constraints"),
    "serving": ("serve",),
    "workers": ("WORKER_KEY", "Worker", "current_worker"),
    "write_behind": ("WriteBehindStorage",),
}


def __getattr__(name: str) -> Any:
    for module, names in _LAZY.items():
        if name in names:
            return getattr(import_module(f"zenopt.storage.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
