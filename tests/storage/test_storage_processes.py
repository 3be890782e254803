"""Nothing told is lost: real worker processes, killed, cut off from their database, crowded on one file."""

from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from zenopt.storage import open_storage, requeue_orphans

sys.path.insert(0, str(Path(__file__).parent))
import storage_worker

# One process imports everything and forks the workers: starting one takes a moment instead of seconds.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["storage_worker", "psycopg"])
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")


class Crew:
    """Workers on one study, and what they told."""

    def __init__(self, url: str, folder: Path, target: int, seconds: float, own: int = 0) -> None:
        self.url, self.folder, self.target, self.seconds, self.own = url, folder, target, seconds, own
        self.options = {"heartbeat_interval": 0.3}
        self.processes: list[BaseProcess] = []
        self.started = 0
        optuna.create_study(storage=open_storage(url), study_name="s")

    def start(self, count: int = 1) -> None:
        for _ in range(count):
            self.started += 1
            arguments = (self.url, str(self.folder / f"worker{self.started}.log"), self.target, self.seconds)
            process = CONTEXT.Process(
                target=storage_worker.run,
                args=arguments,
                kwargs={"options": self.options, "own": self.own},
                daemon=True,
            )
            process.start()
            self.processes.append(process)

    def kill_one(self, chance: random.Random) -> None:
        process = chance.choice([p for p in self.processes if p.is_alive()] or self.processes)
        process.kill()
        process.join()
        self.processes.remove(process)

    def told(self) -> list[tuple[int, float]]:
        lines = [line for log in self.folder.glob("worker*.log") for line in log.read_text().splitlines()]
        return [(int(number), float(value)) for number, value in (line.split() for line in lines)]

    def wait_until_told(self, count: int, timeout_s: float = 600.0) -> None:
        deadline = time.monotonic() + timeout_s
        while len(self.told()) < count:
            assert time.monotonic() < deadline, f"only {len(self.told())} of {count} trials were told"
            if not any(p.is_alive() for p in self.processes):
                assert len(self.told()) >= count, "all workers ended"
            time.sleep(0.02)

    def join(self, timeout_s: float = 600.0) -> None:
        for process in self.processes:
            process.join(timeout_s)
            assert process.exitcode == 0, f"a worker ended with {process.exitcode}"

    def check(self) -> list[optuna.trial.FrozenTrial]:
        """Everything told is there, once, whole, and the numbers have no gaps."""
        study = optuna.load_study(storage=open_storage(self.url), study_name="s")
        requeue_orphans(study)
        trials = study.get_trials()
        assert [t.number for t in trials] == list(range(len(trials)))
        told = self.told()
        numbers = [number for number, _ in told]
        assert len(set(numbers)) == len(numbers), "a trial was told twice"
        for number, value in told:
            trial = trials[number]
            assert (trial.state, trial.value) == (TrialState.COMPLETE, value)
        for trial in trials:
            assert trial.state in (TrialState.COMPLETE, TrialState.WAITING)
            if trial.state == TrialState.COMPLETE:
                assert trial.value == pytest.approx(sum(trial.params.values()))
                assert len(trial.params) == 6 and trial.user_attrs["structure"] == f"S{trial.number}"
                assert trial.constraints == {"params": -0.5}
        assert sum(t.state == TrialState.COMPLETE for t in trials) >= self.target
        return trials

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()


@pytest.fixture
def new_crew(new_url: Callable[[str], str], tmp_path: Path) -> Iterator[Callable[..., Crew]]:
    crews = []

    def create(kind: str, **options: float) -> Crew:
        crews.append(Crew(new_url(kind), tmp_path, **options))
        return crews[-1]

    yield create
    for crew in crews:
        crew.stop()


def _kill_and_resume(crew: Crew, rounds: int) -> None:
    chance = random.Random(rounds)
    crew.start(3)
    crew.wait_until_told(3)
    for _ in range(rounds):
        time.sleep(chance.uniform(0.0, 0.25))
        crew.kill_one(chance)
        crew.start()
    crew.join()
    crew.check()


def test_a_killed_worker_loses_nothing(new_crew: Callable[..., Crew]) -> None:
    _kill_and_resume(new_crew("sqlite", target=60, seconds=0.01), rounds=3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mysql"])
def test_twenty_kills_lose_nothing(kind: str, new_crew: Callable[..., Crew]) -> None:
    _kill_and_resume(new_crew(kind, target=600, seconds=0.02), rounds=20)


@pytest.mark.slow
def test_journal_survives_kills(new_crew: Callable[..., Crew]) -> None:
    # A killed journal worker may leave the file's lock behind, which the others break after 30 s.
    crew = new_crew("journal", target=40, seconds=0.02)
    crew.start(2)
    crew.wait_until_told(10)
    crew.kill_one(random.Random(1))
    study = optuna.load_study(storage=open_storage(crew.url), study_name="s")
    requeue_orphans(study)
    crew.start()
    crew.join()
    crew.check()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_postgresql_restarts_in_mid_study(mode: str, new_crew: Callable[..., Crew], postgres_server) -> None:
    crew = new_crew("postgresql", target=250, seconds=0.05)
    crew.start(3)
    crew.wait_until_told(20)
    postgres_server.stop(mode)
    try:
        time.sleep(1.5)
        during = len(crew.told())
        assert all(process.is_alive() for process in crew.processes), "workers must wait"
    finally:
        postgres_server.start()
    crew.wait_until_told(min(during + 20, 250))
    postgres_server.stop(mode)
    postgres_server.start()
    crew.join()
    trials = crew.check()
    # No row was written twice for want of a confirmation: only the trials that overshoot the target are left.
    assert len(trials) <= 250 + 3


@pytest.mark.slow
def test_eight_workers_on_one_file(new_crew: Callable[..., Crew]) -> None:
    # However late a worker begins, it has a part.
    crew = new_crew("sqlite", target=400, seconds=0.0, own=1)
    crew.start(8)
    crew.join()
    trials = crew.check()
    assert len({t.user_attrs["worker"] for t in trials}) == 8


def test_a_resumed_search_repeats_the_uninterrupted_one(
    new_url: Callable[[str], str], tmp_path: Path
) -> None:
    # Two places: new_url always names the same file in a test.
    found = []
    for kills in (0, 2):
        folder = tmp_path / f"kills{kills}"
        folder.mkdir()
        crew = Crew(f"sqlite:///{folder}/study.db", folder, target=40, seconds=0.01)
        try:
            crew.start()
            for kill in range(kills):
                crew.wait_until_told(10 * (kill + 1))
                crew.kill_one(random.Random(0))
                crew.start()
            crew.join()
            found.append([(t.number, t.params, t.value) for t in crew.check()])
        finally:
            crew.stop()
    assert found[0] == found[1]


FULL_DISK = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import optuna, storage_worker
from zenopt.core.errors import StorageError
url, log, limit = sys.argv[2], sys.argv[3], int(sys.argv[4])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    storage_worker.run(url, log, 10**6, 0.0)
except StorageError as error:
    print(error)
"""


@pytest.mark.parametrize("how", ["file size limit", "small file system"])
def test_a_full_disk_is_one_clear_line(how: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = False
    if how == "small file system":
        mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("a file system of our own can be mounted only by root")
        mounted = True
    try:
        url = f"sqlite:///{disk}/study.db"
        optuna.create_study(storage=open_storage(url), study_name="s")
        log = tmp_path / "told.log"
        limit = "0" if mounted else "2500000"
        command = [sys.executable, "-c", FULL_DISK, str(Path(__file__).parent), url, str(log), limit]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 1 and "disk" in done.stdout, done.stdout
        told = [(int(n), float(v)) for n, v in (line.split() for line in log.read_text().splitlines())]
        assert len(told) > 20
        if mounted:
            subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
        # With room again the study goes on where it stood.
        study = optuna.load_study(storage=open_storage(url), study_name="s")
        study.tell(study.ask(), 0.0)
        trials = study.get_trials()
        assert [t.number for t in trials] == list(range(len(trials)))
        assert [(n, trials[n].value) for n, _ in told] == told
        assert all(t.state == TrialState.COMPLETE for t in trials)
        assert all(len(trials[n].params) == 6 for n, _ in told)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_fork_does_not_inherit_trials(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=open_storage(url), study_name="s")
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            mine = study.ask()
            code = 0 if mine.number == 1 and mine.suggest_float("x", 0, 1) >= 0 else 2
            study.tell(mine, 1.0)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    study.tell(trial, 2.0)
    found = optuna.load_study(storage=open_storage(url), study_name="s").trials
    assert [(t.value, len(t.params)) for t in found] == [(2.0, 1), (1.0, 1)]
    assert found[0].user_attrs["worker"] != found[1].user_attrs["worker"]
