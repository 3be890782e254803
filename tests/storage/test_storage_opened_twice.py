"""A database file that one process has open more than once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import optuna

from zenopt.storage import open_storage

OTHER = """
import sys, optuna
from zenopt.storage import open_storage
study = optuna.load_study(study_name="shared", storage=open_storage(sys.argv[1]))
print(len(study.get_trials(deepcopy=False)))
"""


def trials_seen_elsewhere(url: str) -> int:
    """Return how many trials another process sees, which opens the file and closes it."""
    done = subprocess.run([sys.executable, "-c", OTHER, url], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_other_processes_see_what_is_written_after_they_came_and_went(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(storage=open_storage(url), study_name="shared")
    study.enqueue_trial({})
    again = open_storage(url)
    assert trials_seen_elsewhere(url) == 1
    # The process that came and went took itself for the last one, if this one's locks were lost by opening twice.
    study.enqueue_trial({})
    assert trials_seen_elsewhere(url) == 2
    assert len(optuna.load_study(study_name="shared", storage=again).get_trials()) == 2
