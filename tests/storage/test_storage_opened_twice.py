"""A database file that one process has open more than once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from zenopt.storage import open_storage

OTHER = """
import sys, optuna
from zenopt.storage import open_storage
study = optuna.load_study(study_name="shared", storage=open_storage(sys.argv[1]))
print(len(study.get_trials(deepcopy=False)))
"""

MAKER = """
import sys, optuna
from zenopt.storage import open_storage
study = optuna.create_study(study_name="shared", storage=open_storage(sys.argv[1]))
study.enqueue_trial({})
print("made", flush=True)
sys.stdin.readline()
study.enqueue_trial({})
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


@pytest.mark.slow
def test_a_database_that_another_process_makes_at_this_moment_keeps_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, look = f"sqlite:///{tmp_path / 'study.db'}", os.path.exists
    makers: list[subprocess.Popen[str]] = []

    def exists(path: str) -> bool:
        found = look(path)
        if not makers and str(path).startswith(str(tmp_path / "study.db")):
            # What was looked at is out of date when the answer comes.
            command = [sys.executable, "-c", MAKER, url]
            makers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            assert makers[0].stdout is not None and makers[0].stdout.readline() == "made\n"
        return found

    monkeypatch.setattr("zenopt.storage.sqlite.os.path.exists", exists)
    monkeypatch.setattr("zenopt.storage.factory.check_file", lambda *_, **__: True)
    study = optuna.load_study(study_name="shared", storage=open_storage(url))
    assert len(study.get_trials()) == 1
    (maker,) = makers
    maker.communicate("go on\n", timeout=600)
    assert maker.returncode == 0 and len(study.get_trials()) == 2


def test_logs_of_a_database_that_is_gone_are_not_read(tmp_path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"study.db{suffix}").write_bytes(b"old")
    storage = open_storage(f"sqlite:///{tmp_path / 'study.db'}")
    optuna.create_study(study_name="new", storage=storage)
    assert [study.study_name for study in storage.get_all_studies()] == ["new"]
    assert not (tmp_path / "study.db.lock").exists()
