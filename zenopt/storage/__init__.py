"""The database of a study: opened from a URL, shared by many workers, and the only state there is."""

from zenopt.storage.constraints import constraints_of, is_feasible, record_constraints
from zenopt.storage.factory import open_storage
from zenopt.storage.history import StudyHistory, count_by_state, top
from zenopt.storage.orphans import requeue_orphans
from zenopt.storage.records import STRUCTURE_KEY, TrialRecord
from zenopt.storage.serving import serve
from zenopt.storage.urls import StorageURL, mask_password, parse_url
from zenopt.storage.workers import WORKER_KEY, Worker, current_worker
from zenopt.storage.write_behind import WriteBehindStorage

__all__ = [
    "STRUCTURE_KEY",
    "WORKER_KEY",
    "StorageURL",
    "StudyHistory",
    "TrialRecord",
    "Worker",
    "WriteBehindStorage",
    "constraints_of",
    "count_by_state",
    "current_worker",
    "is_feasible",
    "mask_password",
    "open_storage",
    "parse_url",
    "record_constraints",
    "requeue_orphans",
    "serve",
    "top",
]
