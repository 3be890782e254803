"""What every executor promises, and how one is named."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jobs
import optuna
import pytest
from optuna.trial import TrialState
from running import run

from zenopt.core.errors import StorageError, ZenoptError
from zenopt.executors import make_executor, read_resources
from zenopt.executors.proxy import LocalFile, absolute_url
from zenopt.executors.resources import bytes_of, minutes_of
from zenopt.executors.runs import RUN_KEY, Run, begin_run, of_run
from zenopt.storage import open_storage
from zenopt.study.search import run_search
from zenopt.study.study import load_study
from zenopt.verify.linked import Candidate, Place, TrainingStudy, training_spec


def _needs(package: str) -> Any:
    return pytest.importorskip(package, reason=f"{package} is not installed")


NAMES = [
    "processes",
    "thread_executor:Threads",
    "slurm:local",
    pytest.param("ray", marks=pytest.mark.slow),
]


def _executor(on: str) -> Any:
    name = on.partition(":")[0]
    if name in ("slurm", "ray"):
        _needs({"slurm": "submitit", "ray": "ray"}[name])
    return make_executor(on)


@pytest.mark.parametrize("on", NAMES)
def test_workers_add_exactly_what_is_asked_for(on: str, study: optuna.Study, tmp_path: Path) -> None:
    # A killed worker's trial is run again, and what it had claimed is not lost.
    killed = "" if on.startswith("thread") else str(tmp_path / "killed")
    ended, own = run(study, _executor(on), tmp_path, wanted=7, killed=killed, seconds=0.05)
    assert [trial.state for trial in study.get_trials()] == [TrialState.COMPLETE] * 7
    assert all(of_run(trial.user_attrs[RUN_KEY], own.id) for trial in study.get_trials())
    assert sum(item.reason == "lost" for item in ended) == bool(killed)
    assert len({item.index for item in ended}) == len(ended)


@pytest.mark.parametrize("on", NAMES)
def test_a_fault_that_a_person_can_mend_reaches_the_driver(
    on: str, study: optuna.Study, tmp_path: Path
) -> None:
    ended, _ = run(study, _executor(on), tmp_path, wanted=2, work=jobs.refuse)
    assert {(item.reason, item.text, item.error) for item in ended} == {
        ("refused", "there is no such thing", "StudyError")
    }
    assert not study.get_trials()


@pytest.mark.parametrize("on", NAMES)
def test_a_run_that_is_stopped_leaves_nothing_running(on: str, study: optuna.Study, tmp_path: Path) -> None:
    stop = threading.Event()

    def report(alive: int) -> None:
        if any(trial.state.is_finished() for trial in study.get_trials()):
            stop.set()

    ended, _ = run(study, _executor(on), tmp_path, wanted=500, seconds=0.2, stop=stop, report=report)
    states = [trial.state for trial in study.get_trials()]
    assert 0 < len(states) < 500 and set(states) == {TrialState.COMPLETE}
    assert {item.reason for item in ended} == {"finished"}


@pytest.mark.parametrize("on", ["processes", pytest.param("ray", marks=pytest.mark.slow)])
def test_calls_are_spread_over_workers(on: str, study: optuna.Study) -> None:
    executor = _executor(on)
    assert dict(executor.map(jobs.double, [1, 2, 3], 2)) == {0: 2, 1: 4, 2: 6}
    with pytest.raises(ZenoptError, match="no double of 13"):
        list(executor.map(jobs.double, [1, 13], 2))


@pytest.mark.slow
def test_a_worker_whose_driver_was_killed_while_it_began_does_nothing(
    study: optuna.Study, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    command = f"import jobs\nif __name__ == '__main__': jobs.begin_and_be_killed({str(said)!r})"
    (tmp_path / "driver.py").write_text(command)
    assert subprocess.run([sys.executable, tmp_path / "driver.py"]).returncode == -signal.SIGKILL
    for _ in range(3000):
        if said.exists():
            break
        time.sleep(0.1)
    assert said.read_text() == "True False"


def test_a_search_on_an_executor_of_ones_own(tiny_spec: Callable, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    result = run_search(tiny_spec(), url, "s", trials=4, workers=2, on="thread_executor:Threads")
    assert result.done == 4 and result.is_complete
    assert {
        trial.user_attrs[RUN_KEY].partition("/")[2] for trial in load_study(result.storage, "s").trials
    } <= {
        "0",
        "1",
    }


def test_trainings_run_where_their_place_says(tiny_spec: Callable, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    spec = training_spec(tiny_spec(), data="synthetic:64", epochs=1)
    place = Place(
        open_storage(url), url, tmp_path / "runs", workers=2, on="thread_executor:Threads", resources=""
    )
    optuna.create_study(study_name="s", storage=place.storage, direction="maximize")
    study = TrainingStudy(spec, place, "s-trained", "s")
    (trained,) = study.train([Candidate("zen", spec.space.initial or "")])
    assert trained.top1 is not None
    assert study.study.trials[0].user_attrs[RUN_KEY].endswith(("/0", "/1"))
    with pytest.raises(ZenoptError, match="Unknown executor 'nobody'"):
        TrainingStudy(spec, replace(place, on="nobody"), "s-trained", "s").train(
            [Candidate("zen", spec.space.initial or "")], seeds=(1,)
        )


@pytest.mark.parametrize(("again", "total"), [(5, 5), (3, 6)])
def test_a_run_whose_driver_was_killed_goes_on(
    tiny_spec: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: int, total: int
) -> None:
    url, said = f"sqlite:///{tmp_path}/x.db", []
    quick = tiny_spec(sampler={"name": "random"})
    with monkeypatch.context() as patch:
        # As after kill -9: nobody says that the run is over, and its driver is no more.
        patch.setattr(Run, "end", lambda self: self._over.set())
        patch.setattr("zenopt.executors.runs.current_worker", _dead_worker)

        def interrupt(progress: Any) -> None:
            if progress.done == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_search(quick, url, "s", trials=5, workers=1, on_progress=interrupt)
    result = run_search(quick, url, "s", trials=again, workers=1, on_ready=said.append)
    assert said[0].carried == (3 if again == 5 else 0)
    assert result.is_complete and len(load_study(result.storage, "s").trials) == total
    # Over is over: the same again adds as many.
    run_search(quick, url, "s", trials=again, workers=1)
    assert len(load_study(result.storage, "s").trials) == total + again


def _dead_worker() -> Any:
    from zenopt.storage import Worker, current_worker

    return Worker(current_worker().host, os.getpid(), "another start")


@pytest.mark.parametrize(
    ("on", "resources", "complaint"),
    [
        ("rai", "", "Unknown executor 'rai'; did you mean 'ray'"),
        ("jobs:count", "", "no class that derives from zenopt.executors.Executor"),
        ("nowhere:Thing", "", "Python finds no such module"),
        ("processes", "cpu=1", "processes knows no 'cpu'; it takes none"),
        ("slurm:here", "", "write slurm, or slurm:local"),
        ("slurm", "gpu=0.5", "whole cores and GPUs"),
        ("slurm", "tpu=1", "slurm knows no 'tpu'; it takes cpu, gpu, time"),
        ("slurm", "time=soon", "a time such as 90m or 4h"),
        ("ray", "gpu=1.5", "a fraction of one GPU or a whole number"),
        ("ray", "cpu", "'cpu' is not NAME=VALUE"),
        ("ray", "cpu=1,cpu=2", "cpu is given twice"),
        ("ray", "memory=lots", "an amount of memory such as 4G"),
        ("ray", "cpu=-1", "cpu must be a number from 0"),
    ],
)
def test_what_cannot_be_is_said(on: str, resources: str, complaint: str) -> None:
    name = on.partition(":")[0]
    if name in ("slurm", "ray"):
        _needs({"slurm": "submitit", "ray": "ray"}[name])
    with pytest.raises(ZenoptError, match=complaint):
        make_executor(on, resources)


def test_without_its_package_an_executor_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for package, name in (("ray", "ray"), ("submitit", "slurm")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ZenoptError, match=rf"pip install 'zenopt\[{name}\]'"):
            make_executor(name)


def test_what_a_storage_or_cluster_cannot_do_is_said_before_a_study_is_made(
    tiny_spec: Callable, tmp_path: Path
) -> None:
    _needs("submitit")
    # Slow tests before this one may have left a connection, which needs no address.
    _needs("ray").shutdown()
    url = f"sqlite:///{tmp_path}/x.db"
    for on, storage, complaint in (
        ("slurm", url, "SQLite is for one machine"),
        ("slurm", "memory:", "in memory has one worker"),
        ("ray", "memory:", "in memory has one worker"),
        ("slurm:local", url, "say with --workers"),
        ("ray:127.0.0.1:1", url, "no Ray cluster at '127.0.0.1:1'"),
        ("ray:127.0.0.1", url, "is no HOST:PORT"),
    ):
        with pytest.raises(ZenoptError, match=complaint):
            run_search(tiny_spec(), storage, "s", trials=2, on=on)
    assert not (tmp_path / "x.db").exists()


def test_a_call_that_fails_does_not_end_the_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    from zenopt.executors import ray
    from zenopt.executors.ray import RayActors, _Hired

    _needs("ray")
    monkeypatch.setattr(ray, "_PING_S", 0.0)
    actors = RayActors()
    asked = []

    def ping(index: int) -> None:
        asked.append(index)
        if index == 0 and len(asked) < 4:
            raise RuntimeError("the actor is gone")
        if len(asked) >= 4:
            actors._over.set()

    for index in range(2):
        handle = SimpleNamespace(ping=SimpleNamespace(remote=partial(ping, index)))
        actors._hired[index] = _Hired(index, handle, None, identity=f"worker {index}")
    actors._ping()
    assert asked == [0, 1, 0, 1]


@pytest.mark.parametrize("package", ["grpc", "google.protobuf"])
def test_a_sqlite_file_that_could_not_be_served_is_refused_before_a_study_is_made(
    tiny_spec: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    """Where the cluster has nodes that are other machines."""
    from zenopt.executors.ray import RayActors

    _needs("ray")
    here, far = (
        {"NodeManagerHostname": name, "NodeManagerAddress": "10.0.0.7", "Resources": {"CPU": 2.0}}
        for name in (socket.gethostname(), "far")
    )
    monkeypatch.setattr(RayActors, "_connect", lambda self: None)
    monkeypatch.setattr(RayActors, "_nodes", lambda self: [here, far])
    monkeypatch.setitem(sys.modules, package, None)
    url = f"sqlite:///{tmp_path}/x.db"
    with pytest.raises(
        StorageError, match=r"by gRPC, which is not installed; run: pip install 'zenopt\[grpc\]'"
    ):
        run_search(tiny_spec(), url, "s", trials=2, on="ray")
    assert not (tmp_path / "x.db").exists()
    make_executor("ray").check("postgresql://user@host/db", ("cpu",))
    monkeypatch.setattr(RayActors, "_nodes", lambda self: [here])
    make_executor("ray").check(url, ("cpu",))


def test_a_sqlite_file_is_opened_on_its_machine_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.touch()
    file = LocalFile.of(f"sqlite:///{path}")
    assert file is not None and file.is_here
    assert not replace(file, host="another machine, or container").is_here
    # Another file of the same name, as in another container; and none.
    path.rename(tmp_path / "y.db")
    assert not file.is_here
    path.touch()
    assert not file.is_here
    assert LocalFile.of("postgresql://user@host/db") is None
    assert absolute_url("postgresql://user@host/db") == "postgresql://user@host/db"
    assert absolute_url("journal:///x.log") == f"journal:///{Path('x.log').resolve()}"


@pytest.mark.slow
def test_an_actor_that_ends_while_it_is_looked_up_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = _needs("ray")
    executor = make_executor("ray")
    executor._connect()
    gone = {"namespace": "zenopt", "name": "zenopt-run-0-gone"}
    monkeypatch.setattr(ray.util, "list_named_actors", lambda all_namespaces: [gone])
    assert executor._end_earlier("run") == []


def test_a_run_gives_signs_of_life_after_a_database_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    study = optuna.create_study()
    calls, lives = [0], threading.Event()

    def attribute(study_id: int, key: str, value: str) -> None:
        calls[0] += 1
        if calls[0] == 2:
            raise StorageError("away")
        if calls[0] > 2:
            lives.set()

    monkeypatch.setattr(study._storage, "set_study_system_attr", attribute)
    monkeypatch.setattr("zenopt.executors.runs._BEAT_S", 0.01)
    own = begin_run(study, 4)
    assert lives.wait(60.0), "the first one that fails is the last one"
    own.end()


def test_resources() -> None:
    found = read_resources("cpu=4, gpu=0.25,memory=2G")
    assert (found.cpu, found.gpu, found.threads, dict(found.others)) == (4, 0.25, 4, {"memory": "2G"})
    assert str(found) == "cpu=4,gpu=0.25,memory=2G" and not read_resources("")
    assert bytes_of("memory", "1.5GiB") == 3 * 2**29
    assert [minutes_of("time", text) for text in ("90m", "4h", "1-00:30:00", "2:30")] == [90, 240, 1470, 150]


def test_what_would_be_submitted() -> None:
    _needs("submitit")
    script = make_executor("slurm", "gpu=1,cpu=8,time=4h,partition=x").describe(6, "runs")
    for line in ("array=0-5%6", "cpus-per-task=8", "gpus-per-node=1", "partition=x", "time=240", "requeue"):
        assert f"#SBATCH --{line}\n" in script
    assert "#SBATCH --signal=USR2@" in script
