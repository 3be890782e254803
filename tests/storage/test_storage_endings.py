"""How storages end: whole files left behind, lost files rescued, trials told by others, media that are read-only."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import yaml
from optuna.storages import BaseStorage
from optuna.trial import TrialState

import zenopt
from zenopt.core.errors import StorageError, StorageLostError
from zenopt.storage import StudyHistory, checkpoint, open_storage
from zenopt.storage.files import one_at_a_time
from zenopt.study.study import load_study, open_existing

Opener = Callable[..., Callable[[], BaseStorage]]
POSIX = pytest.mark.skipif(os.name == "nt", reason="needs POSIX files and signals")
SPEC = {
    "name": "tiny",
    "space": {"name": "superres"},
    "resolution": 32,
    "num_classes": 10,
    "budget": {"params": 1e6, "layers": 40},
    "proxy": {"name": "zen-closed-form"},
    "sampler": {"name": "zen", "screening": "off"},
    "trials": 6,
}


def _told(path: Path | str) -> list[float]:
    """Return the values in a copy of the one file, as somebody who was sent it would see them."""
    copied = Path(f"{path}.copy")
    shutil.copyfile(path, copied)
    with sqlite3.connect(copied) as connection:
        rows = connection.execute("SELECT value FROM trial_values ORDER BY trial_id").fetchall()
    return [row[0] for row in rows]


def _study(storage: BaseStorage) -> optuna.Study:
    sampler = optuna.samplers.RandomSampler(seed=0)
    return optuna.create_study(storage=storage, study_name="s", sampler=sampler, load_if_exists=True)


def _tell(study: optuna.Study, value: float) -> None:
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    study.tell(trial, value)


@pytest.fixture
def search(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a search in a process group of its own; what it says is in ``out`` and ``err``. None is left behind."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC))
        command = [sys.executable, "-m", "zenopt", "optimize", "--study", "spec.yaml", *arguments]
        with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
            started.append(
                subprocess.Popen(command, cwd=tmp_path, stdout=out, stderr=err, start_new_session=True)
            )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(happened: Callable[[], object], process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 300
    while not happened():
        assert time.monotonic() < deadline and process.poll() is None, (folder / "err").read_text()
        time.sleep(0.05)


def _has_much(log: Path) -> bool:
    return log.exists() and log.stat().st_size >= 1_000_000


def _python(script: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, **options)


# A file that is whole when a run ends.

SCRIPT = """
import sys
import optuna
from zenopt.storage import open_storage
storage = open_storage(sys.argv[1])
study = optuna.create_study(storage=storage, study_name="s", load_if_exists=True)
for value in range(3):
    study.tell(study.ask(), value)
"""


@pytest.mark.parametrize("ending", ["", "sys.exit(3)", "raise KeyboardInterrupt", "1 / 0"])
def test_a_script_leaves_one_whole_file(ending: str, tmp_path: Path) -> None:
    _python(SCRIPT + ending, tmp_path / "study.db")
    assert os.listdir(tmp_path) == ["study.db"]
    assert _told(tmp_path / "study.db") == [0, 1, 2]


def test_a_worker_of_multiprocessing_leaves_one_whole_file(tmp_path: Path) -> None:
    for method in ("spawn", "forkserver") if os.name == "posix" else ("spawn",):
        context = multiprocessing.get_context(method)
        process = context.Process(target=_work, args=(f"{tmp_path}/{method}.db",))
        process.start()
        process.join()
        assert process.exitcode == 0
        assert _told(tmp_path / f"{method}.db") == [1.0]
        assert not (tmp_path / f"{method}.db-wal").exists()


def _work(url: str) -> None:
    _tell(_study(open_storage(url)), 1.0)


def test_what_ran_in_a_notebook_can_be_copied_while_it_is_open(tmp_path: Path) -> None:
    study = _study(open_storage(f"{tmp_path}/study.db"))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    assert _told(tmp_path / "study.db") == [trial.value for trial in study.trials]
    _tell(study, 5.0)
    checkpoint(study._storage)
    assert _told(tmp_path / "study.db")[-1] == 5.0
    result = zenopt.optimize(SPEC, f"sqlite:///{tmp_path}/search.db")
    assert len(_told(tmp_path / "search.db")) == result.data.size == 6


def test_a_storage_that_nobody_needs_any_more_is_closed(tmp_path: Path) -> None:
    storage = open_storage(f"{tmp_path}/study.db")
    _tell(_study(storage), 1.0)
    storage.close()
    assert os.listdir(tmp_path) == ["study.db"]
    _tell(_study(storage), 2.0)
    assert _study(storage).trials[-1].value == 2.0, "it connects again"


@POSIX
def test_what_a_kill_leaves_is_swept_at_the_next_start(tmp_path: Path) -> None:
    _python(SCRIPT + "import os; os.kill(os.getpid(), 9)", tmp_path / "study.db")
    assert (tmp_path / "study.db-wal").exists()
    (tmp_path / "study.rescued-7.db.x.partial").write_text("half a copy")
    os.utime(tmp_path / "study.rescued-7.db.x.partial", (0, 0))
    _python(SCRIPT, tmp_path / "study.db")
    assert os.listdir(tmp_path) == ["study.db"]
    assert _told(tmp_path / "study.db") == [0, 1, 2, 0, 1, 2]


def test_locks_of_killed_journal_workers_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "study.log"
    _tell(_study(open_storage(str(path))), 1.0)
    for name in ("study.log.lock", "study.log.sweep.lock", "study.log.lock1f2.rename"):
        os.symlink("study.log", tmp_path / name)
        os.utime(tmp_path / name, (0, 0), follow_symlinks=False)

    def wait(seconds: float) -> None:
        raise AssertionError("Optuna itself waits for 30 s")

    monkeypatch.setattr(
        "optuna.storages.journal._file.time", SimpleNamespace(monotonic=time.monotonic, sleep=wait)
    )
    _tell(_study(open_storage(str(path))), 2.0)
    assert os.listdir(tmp_path) == ["study.log"]


# A file that is deleted or replaced meanwhile.


def _rescued(caught: pytest.ExceptionInfo[StorageLostError], folder: Path) -> Path:
    (rescued,) = folder.glob("study.rescued-*")
    assert str(rescued) in str(caught.value) and "\n" not in str(caught.value)
    return rescued


@POSIX
@pytest.mark.parametrize("kind", ["study.db", "study.log"])
@pytest.mark.parametrize("what", ["deleted", "replaced", "emptied"])
def test_a_lost_file_is_noticed_and_rescued(kind: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / kind
    study, other = (_study(open_storage(str(path))) for _ in range(2))
    for value in range(3):
        _tell(study, value)
    trials = [study.ask(), other.ask()]
    if what == "emptied":
        if kind == "study.log":
            pytest.skip("a journal has no second copy of what was in it")
        path.write_bytes(b"")
    else:
        path.unlink()
    if what == "replaced":
        _tell(_study(open_storage(str(path))), 77.0)
    for mine, trial, value in ((study, trials[0], 3.0), (other, trials[1], 4.0)):
        with pytest.raises(StorageLostError, match="deleted or replaced") as caught:
            mine.tell(trial, value)
    rescued = _rescued(caught, tmp_path)
    again = _study(open_storage(str(rescued)))
    assert [(t.number, t.value) for t in again.trials] == [(n, float(n)) for n in range(5)]
    with pytest.raises(StorageLostError):
        study.ask()
    if what == "replaced":
        assert [t.value for t in _study(open_storage(str(path))).trials] == [77.0], "theirs is left alone"


@POSIX
def test_a_reader_notices_a_lost_file(tmp_path: Path) -> None:
    _tell(_study(open_storage(f"{tmp_path}/study.db")), 1.0)
    history = StudyHistory(load_study(open_existing(f"{tmp_path}/study.db"), "s"))
    assert len(history.sync()) == 1
    (tmp_path / "study.db").unlink()
    with pytest.raises(StorageLostError):
        history.sync()


@POSIX
def test_a_folder_that_is_gone_is_rescued_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, elsewhere = tmp_path / "gone", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    study = _study(open_storage(f"{folder}/study.db"))
    trial = study.ask()
    shutil.rmtree(folder)
    with pytest.raises(StorageLostError) as caught:
        study.tell(trial, 1.0)
    assert [t.value for t in _study(open_storage(str(_rescued(caught, elsewhere)))).trials] == [1.0]


@POSIX
def test_a_process_killed_while_it_rescues_holds_nobody_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Optuna's own lock of files would be forced open half a minute later, with warnings."""
    path = str(tmp_path / "study.rescued-1.db.lock")
    holds = "import sys, time; from zenopt.storage.files import one_at_a_time\n"
    holds += "with one_at_a_time(sys.argv[1]): print(flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", holds, path], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() and Path(path).exists()
    process.kill()
    process.wait()
    with one_at_a_time(path):
        assert Path(path).exists()
    assert not Path(path).exists() and not caplog.messages


@POSIX
@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_search_whose_file_is_lost_ends_with_code_2(workers: str, search: Callable, tmp_path: Path) -> None:
    process = search("--trials", "100000", "--quiet", "--workers", workers, "--storage", "study.db")
    _wait_for(lambda: _has_much(tmp_path / "study.db-wal"), process, tmp_path)
    (tmp_path / "study.db").unlink()
    code, errors = process.wait(timeout=300), (tmp_path / "err").read_text()
    assert code == 2, errors
    assert len(errors.splitlines()) == 1 and "deleted or replaced" in errors
    (rescued,) = tmp_path.glob("study.rescued-*.db")
    assert load_study(open_existing(str(rescued)), "tiny")._storage.get_n_trials(1, TrialState.COMPLETE) > 5


@pytest.mark.parametrize("url", ["sqlite:///study.db", "journal:///study.log"])
def test_a_relative_file_stays_where_it_is(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    study = _study(open_storage(url))
    _tell(study, 1.0)
    monkeypatch.chdir(tmp_path / "elsewhere")
    _tell(study, 2.0)
    study._storage.remove_session()
    assert os.listdir(tmp_path / "elsewhere") == []
    monkeypatch.chdir(tmp_path)
    assert [trial.value for trial in _study(open_storage(url)).trials] == [1.0, 2.0]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_intermediate_values_are_seen_at_once(kind: str, new_opener: Opener) -> None:
    open_again = new_opener(kind)
    study, other = _study(open_again()), _study(open_again())
    trial = study.ask()
    trial.set_user_attr("key", "value")
    assert "key" not in other.trials[0].user_attrs
    # Pruners of other workers compare with it, and it is what is left of long work whose process is killed.
    trial.report(0.5, step=1)
    assert other.trials[0].intermediate_values == {1: 0.5}
    assert other.trials[0].user_attrs["key"] == "value"


# A trial that is asked in one process and told in another.


def _process_tell(study: optuna.Study, trial: optuna.Trial | int, values: float) -> None:
    study.tell(trial, values)


@POSIX
def test_tell_from_another_process(tmp_path: Path) -> None:
    # Optuna's own test of this name, with parameters and attributes.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        study = _study(open_storage(f"{tmp_path}/study.db"))
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        trial.set_user_attr("key", "value")
        pool.starmap(_process_tell, [(study, trial, 1.2)])
        assert len(study.trials) == 1
        assert study.best_trial.state == TrialState.COMPLETE
        assert (study.best_value, study.best_params) == (1.2, {"x": x})
        assert study.best_trial.user_attrs["key"] == "value"
        trial = study.ask()
        pool.starmap(_process_tell, [(study, trial.number, 1.5)])
        assert [t.value for t in study.trials] == [1.2, 1.5]
        with pytest.raises(ValueError):
            pool.starmap(_process_tell, [(study, 0, 1.2)])


@pytest.mark.parametrize("look", ["trials", "get_trial", "best_trial", "ask", "tell"])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_asker_sees_what_others_told(
    kind: str, look: str, new_opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zenopt.storage.write_behind._MOMENT_S", 0.0)
    open_again = new_opener(kind)
    study, other = _study(open_again()), _study(open_again())
    trial = study.ask()
    x = trial.suggest_float("x", 0, 1)
    y = trial.suggest_float("y", 0, 1)
    study._storage.publish(trial._trial_id)
    trial.set_user_attr("key", "value")
    trial.report(0.25, 3)
    other.tell(trial.number, 1.0)
    if look == "trials":
        assert [t.state for t in study.trials] == [TrialState.COMPLETE]
    elif look == "get_trial":
        assert study._storage.get_trial(trial._trial_id).state == TrialState.COMPLETE
    elif look == "best_trial":
        assert (study.best_trial.state, study.best_value) == (TrialState.COMPLETE, 1.0)
    elif look == "ask":
        assert study.ask().number == 1
    else:
        with pytest.raises(ValueError, match="Cannot tell a COMPLETE trial"):
            study.tell(trial, 2.0)
        assert study.tell(trial, 2.0, skip_if_finished=True).value == 1.0
    stored = _study(open_again()).trials[0]
    assert (stored.state, stored.value, stored.params) == (TrialState.COMPLETE, 1.0, {"x": x, "y": y})
    assert stored.user_attrs["key"] == "value" and stored.intermediate_values == {3: 0.25}


def test_what_was_asked_in_a_process_that_ended_can_be_told(tmp_path: Path) -> None:
    ask = SCRIPT.partition("for value")[0] + "trial = study.ask(); print(trial.suggest_float('x', 0, 1))"
    x = float(_python(ask, tmp_path / "study.db").stdout)
    study = _study(open_storage(f"{tmp_path}/study.db", heartbeat_interval=None))
    study.tell(0, 3.0)
    assert [(t.value, t.params) for t in study.trials] == [(3.0, {"x": x})]


# Media that cannot be written.

READ = """
import os, sys, tempfile
import optuna
from zenopt.core.errors import StorageError
from zenopt.study.study import load_study, open_existing
from zenopt.storage import StudyHistory, open_storage
if os.geteuid() == 0:
    # Root may write anything. Everything is imported before: root's Python is root's alone.
    with tempfile.TemporaryDirectory() as folder:
        any = open_storage(folder + "/any.db")
        optuna.create_study(storage=any).ask()
        any.close()
    os.setgid(65534); os.setuid(65534)
study = load_study(open_existing(sys.argv[1]), "s")
print([(r.number, r.value) for r in StudyHistory(study).sync()], [t.params for t in study.trials])
try:
    study.ask()
except (StorageError, OSError) as error:
    print(error)
"""


@POSIX
@pytest.mark.parametrize(
    ("left", "read_only"),
    [
        ("nothing", "file"),
        ("nothing", "folder"),
        ("nothing", "both"),
        ("log", "both"),
        ("log and index", "both"),
        ("journal", "both"),
    ],
)
def test_a_study_can_be_read_where_nothing_can_be_written(
    left: str, read_only: str, public_folder: Path
) -> None:
    folder = public_folder / "medium"
    folder.mkdir()
    path = folder / ("study.log" if left == "journal" else "study.db")
    _python(SCRIPT + ("import os; os.kill(os.getpid(), 9)" if "log" in left else ""), path)
    if left == "log":
        (folder / "study.db-shm").unlink()
    assert (folder / "study.db-wal").exists() == left.startswith("log")
    before = sorted(os.listdir(folder))
    if read_only != "folder":
        path.chmod(0o444)
    if read_only != "file":
        folder.chmod(0o555)
    try:
        done = _python(READ, path)
        assert done.returncode == 0, done.stderr
        told, refusal = done.stdout.splitlines()
        assert told == "[(0, 0.0), (1, 1.0), (2, 2.0)] [{}, {}, {}]"
        assert "read-only" in refusal or "ermission denied" in refusal
        assert sorted(os.listdir(folder)) == before
    finally:
        folder.chmod(0o755)


def test_a_look_creates_nothing(tmp_path: Path) -> None:
    for name in ("study.db", "study.log"):
        with pytest.raises(StorageError, match="does not exist; run zenopt optimize first"):
            open_existing(str(tmp_path / name))
    assert os.listdir(tmp_path) == []


# Outages.


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize("quiet", [True, False])
def test_a_restart_of_the_database_is_said_once(
    quiet: bool, search: Callable, postgres_server: Any, tmp_path: Path
) -> None:
    url = postgres_server.new_database()
    quietly = ["--quiet"] if quiet else []
    process = search("--trials", "100000", "--workers", "3", "--storage", url, *quietly)
    storage = open_storage(url, heartbeat_interval=None)

    def has_trials(count: int) -> bool:
        return bool(storage.get_all_studies()) and storage.get_n_trials(1) >= count

    def is_said(what: str) -> bool:
        return what in (tmp_path / "err").read_text()

    _wait_for(lambda: has_trials(4), process, tmp_path)
    seen = storage.get_n_trials(1)
    storage.close()
    postgres_server.stop()
    try:
        if quiet:
            time.sleep(6)  # Nothing tells when it is missed; it is to stay silent all the same.
        else:
            _wait_for(lambda: is_said(" is away"), process, tmp_path)
    finally:
        postgres_server.start()
    _wait_for(lambda: has_trials(seen + 5) and (quiet or is_said(" is back")), process, tmp_path)
    process.send_signal(signal.SIGINT)
    code, errors = process.wait(timeout=300), (tmp_path / "err").read_text()
    assert code == 130, errors
    said = [line for line in errors.splitlines() if line.startswith("storage ")]
    assert not quiet or errors == ""
    assert [" is away" in line for line in said] == ([] if quiet else [True, False]), errors


@pytest.mark.slow
def test_a_worker_that_joins_waits_for_a_restart(
    postgres_server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    url = postgres_server.new_database()
    optuna.create_study(storage=open_storage(url), study_name="s")
    postgres_server.stop()
    with pytest.raises(StorageError, match="check that the server runs"):
        open_storage(url)

    # Storages of other tests may miss the server, too.
    own = url.rpartition("%3D")[2]

    def said() -> list[str]:
        return [message for message in caplog.messages if own in message]

    def start_when_missed() -> None:
        deadline = time.monotonic() + 300
        while not said() and time.monotonic() < deadline:
            time.sleep(0.1)
        postgres_server.start()

    start = threading.Thread(target=start_when_missed)
    start.start()
    try:
        storage = open_storage(url, wait_s=600.0)
    finally:
        start.join()
    assert optuna.load_study(study_name="s", storage=storage).trials == []
    assert [" is away, waiting up to 600 s" in line for line in said()] == [True]


def test_an_outage_is_one_warning_and_a_return_another(caplog: pytest.LogCaptureFixture) -> None:
    import sqlalchemy as sa
    import sqlalchemy.exc

    from zenopt.storage.retry import patiently

    class Lost(Exception):
        sqlstate = "08006"

    engine = sa.create_engine("postgresql+psycopg://me:secret@host/db")

    def said() -> list[str]:
        return [message for message in caplog.messages if "@host/db" in message]

    def away() -> int:
        if not said():
            raise sqlalchemy.exc.OperationalError("SELECT", {}, Lost("gone"))
        return 1

    with caplog.at_level(logging.WARNING, logger="zenopt.storage.retry"):
        assert patiently(engine, away) == patiently(engine, away) == 1
    messages = said()
    assert len(messages) == 2 and "is away" in messages[0] and "is back" in messages[1]
    assert "secret" not in "".join(messages)


@pytest.mark.slow
@POSIX
def test_interrupted_searches_leave_one_whole_file(search: Callable, tmp_path: Path) -> None:
    process = search("--trials", "100000", "--workers", "2", "--storage", "study.db")
    _wait_for(lambda: _has_much(tmp_path / "study.db-wal"), process, tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=300) == 130
    assert sorted(os.listdir(tmp_path)) == ["err", "out", "spec.yaml", "study.db"]
    assert len(_told(tmp_path / "study.db")) > 5
