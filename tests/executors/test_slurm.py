"""Workers as jobs of SLURM: of a cluster that is there, and of one that is made of processes."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import fake_slurm
import jobs
import optuna
import pytest
from optuna.trial import TrialState
from running import Killed, run

from zenopt.cli import main
from zenopt.core.errors import ExecutorError, StorageError
from zenopt.executors import Job, make_executor
from zenopt.executors.runs import RUN_KEY, Run
from zenopt.executors.shift import Shift
from zenopt.executors.slurm import SlurmJobs
from zenopt.executors.slurm_queue import Queue
from zenopt.storage import Worker
from zenopt.study.search import Progress, run_search

pytest.importorskip("submitit", reason="submitit is not installed")


def _code(words: list[str]) -> int | str | None:
    """Return the exit code of a command."""
    try:
        main(words)
    except SystemExit as error:
        return error.code
    return 0


def _finished(study: optuna.Study) -> int:
    return sum(trial.state.is_finished() for trial in study.get_trials())


def _workers(study: optuna.Study) -> set[str]:
    """Return which workers have told a trial."""
    told = [trial.user_attrs[RUN_KEY] for trial in study.get_trials() if trial.state.is_finished()]
    return {mark.partition("/")[2] for mark in told}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The commands of SLURM, and what they keep."""
    folder = tmp_path / "slurm-commands"
    for name, text in fake_slurm.install(folder).items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("PATH", os.pathsep.join([str(folder), os.environ["PATH"]]))
    monkeypatch.setattr("zenopt.executors.slurm._SETTLE_S", 1.0)
    monkeypatch.setattr("zenopt.executors.slurm_queue._SOON_S", 0.5)
    return folder


def _state(cluster: Path, job: str) -> str:
    return (cluster / "jobs" / job).read_text(encoding="utf-8").partition("|")[0]


def test_jobs_that_wait_are_shown_with_the_reason_and_leave_the_queue_with_the_run(
    study: optuna.Study, tmp_path: Path, cluster: Path
) -> None:
    (cluster / "taken").write_text("0")
    stop, said, executor = threading.Event(), [], make_executor("slurm")

    def report(alive: int) -> None:
        said.append(executor.waiting())
        if said[-1] is not None and "(" in said[-1]:
            stop.set()

    ended, _ = run(study, executor, tmp_path, wanted=4, stop=stop, report=report)
    assert "2 jobs (Resources)" in said
    assert [item.reason for item in ended] == ["finished"] * 2
    assert [_state(cluster, job) for job in ("1_0", "1_1")] == ["CANCELLED"] * 2


def test_the_progress_of_a_search_says_what_waits_and_an_interrupt_leaves_no_jobs(
    tiny_spec: Callable, tmp_path: Path, cluster: Path
) -> None:
    (cluster / "taken").write_text("0")

    def interrupt(progress: Progress) -> None:
        if progress.waiting == "2 jobs (Resources)":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_search(
            tiny_spec(),
            f"journal:///{tmp_path}/x.log",
            "s",
            trials=4,
            workers=2,
            on="slurm",
            runs=tmp_path,
            on_progress=interrupt,
        )
    assert [_state(cluster, job) for job in ("1_0", "1_1")] == ["CANCELLED"] * 2


def test_what_slurm_does_not_take_is_said_before_a_study_is_made(
    tmp_path: Path, cluster: Path, capsys: pytest.CaptureFixture
) -> None:
    url = f"journal:///{tmp_path}/x.log"
    words = ["optimize", "--study", "cifar-params1m", "--trials", "2", "--workers", "2", "--storage", url]
    for resources, complaint in (
        (
            "partition=nope",
            "takes no job with --resources partition=nope (invalid partition specified: nope)",
        ),
        ("time=3m", "time must be 4m or more"),
    ):
        assert _code([*words, "--on", "slurm", "--resources", resources]) == 2
        error = capsys.readouterr().err
        assert complaint in " ".join(error.split()) and "Traceback" not in error
    assert not (tmp_path / "x.log").exists()


def test_jobs_that_slurm_refuses_in_the_end_leave_no_traceback(
    study: optuna.Study, tmp_path: Path, cluster: Path
) -> None:
    with pytest.raises(ExecutorError, match=r"SLURM took no jobs \(QOSMaxSubmitJobPerUserLimit\)"):
        run(study, make_executor("slurm", "account=full"), tmp_path, wanted=4)


def test_a_queue_that_does_not_answer_is_said_once(
    cluster: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("zenopt.executors.slurm_queue._SOON_S", 0.0)
    queue = Queue()
    queue.follow(["7_0"])
    (cluster / "deaf").touch()
    with caplog.at_level(logging.WARNING, logger="zenopt"):
        assert [queue.status("7_0").state for _ in range(3)] == ["PENDING"] * 3
    assert [record.message for record in caplog.records] == [
        "SLURM does not say how the jobs are (slurm_load_jobs error: Unable to contact slurm controller); they go on "
        "by themselves."
    ]
    # Then it knows nothing of that job any more.
    (cluster / "deaf").unlink()
    monkeypatch.setattr("zenopt.executors.slurm_queue._LATER_S", 0.0)
    assert queue.status("7_0").is_final


def test_a_queue_that_does_not_answer_is_not_pestered_at_the_end(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cluster / "deaf").touch()
    calls: list[list[str]] = []
    monkeypatch.setattr(
        "zenopt.executors.slurm.cancel", lambda jobs, pending_only: calls.append([*jobs, str(pending_only)])
    )
    monkeypatch.setattr("zenopt.executors.slurm._CANCEL_S", 3600.0)
    # As if nothing had been cancelled for long, whenever this machine was started.
    executor = make_executor("slurm")
    monkeypatch.setattr(executor, "_cancelled_s", -1e6)
    job = SimpleNamespace(
        job_id="7_0", paths=SimpleNamespace(result_pickle=tmp_path / "none", stderr=tmp_path / "none")
    )
    for name, value in (("_notes", None), ("_folder", str(tmp_path)), ("_jobs", {0: job})):
        monkeypatch.setattr(executor, name, value, raising=False)
    executor._queue.follow(["7_0"])
    executor.stop()
    assert [executor.poll(0.0) for _ in range(4)] == [[]] * 4
    assert calls == [["7_0", "True"]]


def test_the_folder_of_a_dry_run_is_that_of_the_jobs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = [
        "optimize",
        "--study",
        "cifar-small",
        "--workers",
        "2",
        "--on",
        "slurm",
        "--dry-run",
        "--runs",
        "r",
    ]
    trained = [
        "--set",
        "objective.kind=train",
        "--set",
        "objective.then=null",
        "--set",
        "training.data=synthetic:8",
    ]
    assert not _code(words)
    assert f"{Path('r').resolve()}/slurm/%A" in capsys.readouterr().out
    assert not _code([*words, *trained])
    assert f"{Path('r').resolve()}/cifar-small/slurm/%A" in capsys.readouterr().out


@pytest.mark.slow
def test_a_job_that_is_cancelled_is_replaced_and_what_workers_say_is_shown(
    study: optuna.Study, tmp_path: Path, cluster: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cancelled = tmp_path / "cancelled"

    def report(alive: int) -> None:
        if not cancelled.exists() and "1" in _workers(study):
            subprocess.run(["scancel", "1_1"], check=True)
            cancelled.touch()

    with caplog.at_level(logging.WARNING, logger="zenopt"):
        ended, _ = run(
            study,
            make_executor("slurm"),
            tmp_path,
            wanted=8,
            seconds=0.3,
            report=report,
            says="[here I am]",
            until=str(cancelled),
        )
    # It put its trial back, or finished it: there are as many as were asked for, and none is left running.
    assert [trial.state for trial in study.get_trials()] == [TrialState.COMPLETE] * 8
    (lost,) = (item for item in ended if item.reason == "lost")
    assert (
        lost.text.startswith("of job 1_1 was lost (CANCELLED; ") and Worker.parse(lost.identity) is not None
    )
    said = [record.getMessage() for record in caplog.records]
    assert "worker 0 (job 1_0): [here I am]" in said
    assert not any("submitit" in text or "sacct" in text for text in said)


@pytest.mark.slow
def test_a_job_whose_time_is_over_queues_itself_again(
    study: optuna.Study, tmp_path: Path, cluster: Path
) -> None:
    told: list[str] = []
    over = tmp_path / "over"

    def report(alive: int) -> None:
        if not told and "0" in _workers(study):
            told.append((cluster / "pid-1_0").read_text())
            os.kill(int(told[0]), signal.SIGUSR2)
            over.touch()

    ended, own = run(
        study, make_executor("slurm"), tmp_path, wanted=9, seconds=0.3, report=report, until=str(over)
    )
    assert [trial.state for trial in study.get_trials()] == [TrialState.COMPLETE] * 9
    assert [item.reason for item in ended] == ["finished"] * 2
    # The same job came again, as another process, and did its share: half of the trials, and one.
    assert (cluster / "pid-1_0").read_text() != told[0]
    assert sum(trial.user_attrs[RUN_KEY] == f"{own.id}/0" for trial in study.get_trials()) == 5


def _wait(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("on", ["slurm", "slurm:local"])
def test_jobs_outlive_their_driver_and_the_next_one_adds_what_is_missing(
    study: optuna.Study, tmp_path: Path, cluster: Path, monkeypatch: pytest.MonkeyPatch, on: str
) -> None:
    followed = tmp_path / "followed"
    with monkeypatch.context() as patch:
        from test_executors import _dead_worker

        patch.setattr("zenopt.executors.runs.current_worker", _dead_worker)
        with pytest.raises(Killed):
            run(
                study,
                make_executor(on),
                tmp_path,
                wanted=10,
                seconds=0.3,
                until=str(followed),
                is_killed=lambda: _finished(study) == 2,
            )
    # One of its jobs ends while nobody looks.
    running = [trial for trial in study.get_trials() if trial.state == TrialState.RUNNING]
    worker = Worker.parse((running or study.get_trials())[0].user_attrs["worker"])
    assert worker is not None
    os.kill(worker.pid, signal.SIGTERM)
    _wait(lambda: not worker.is_alive_here())
    if on == "slurm":
        _wait(lambda: (_state(cluster, "1_0"), _state(cluster, "1_1")) != ("RUNNING", "RUNNING"))
    ended, _ = run(
        study, make_executor(on), tmp_path, wanted=10, seconds=0.3, report=lambda alive: followed.touch()
    )
    assert [trial.state for trial in study.get_trials()] == [TrialState.COMPLETE] * 10
    # What keeps a process may outlive it, so that the next driver still sees its end.
    seen = {"lost"} if on == "slurm:local" else set()
    assert {item.reason for item in ended} - seen == {"finished"}


@pytest.mark.slow
@pytest.mark.parametrize("is_noted", [True, False])
def test_a_driver_that_is_killed_right_after_submitting_leaves_no_share_to_be_done_twice(
    study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_noted: bool
) -> None:
    """Its jobs have not begun to work: they go on if the run knows them; else they leave their shares to others."""
    noted = Run.note

    def note(self: Run, **notes: object) -> None:
        if "jobs" in notes and not is_noted:
            raise Killed
        noted(self, **notes)

    with monkeypatch.context() as patch:
        from test_executors import _dead_worker

        patch.setattr("zenopt.executors.runs.current_worker", _dead_worker)
        patch.setattr(Run, "note", note)
        # No job says so soon which process it is.
        patch.setattr("zenopt.executors.slurm.SlurmJobs._worker", lambda self, job: None)
        with pytest.raises(Killed):
            run(study, make_executor("slurm:local"), tmp_path, wanted=6, is_killed=lambda: True)
    submitted: list[int] = []
    start = SlurmJobs.start
    monkeypatch.setattr(
        SlurmJobs, "start", lambda self, indices: (submitted.extend(indices), start(self, indices))[1]
    )
    ended, _ = run(study, make_executor("slurm:local"), tmp_path, wanted=6, seconds=0.2)
    results = tmp_path / "slurm"
    _wait(lambda: len(list(results.glob("*_result.pkl"))) == (2 if is_noted else 4))
    states = [trial.state for trial in study.get_trials()]
    assert states == [TrialState.COMPLETE] * 6
    assert submitted == ([] if is_noted else [0, 1]) and len(ended) == 2


def test_a_job_hears_that_its_run_is_to_end_after_the_database_was_away(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([StorageError("away"), False, True])

    def asked(*_: object) -> bool:
        found = next(answers)
        if isinstance(found, StorageError):
            raise found
        return found

    monkeypatch.setattr("zenopt.executors.shift.is_stopping", asked)
    monkeypatch.setattr("zenopt.executors.shift._LOOK_S", 0.01)
    shift = Shift(Job(jobs.count, None, "memory:", "s", "run"), 0, None, ".", [])
    shift._stop = threading.Event()
    shift._listen(study)
    assert shift._stop.is_set()


def test_a_cancellation_that_is_not_answered_is_said_once(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (cluster / "hung").touch()
    monkeypatch.setattr("zenopt.executors.slurm_queue._ANSWER_S", 0.2)
    executor = make_executor("slurm")
    waiting = {index: SimpleNamespace(job_id=f"7_{index}") for index in range(2)}
    monkeypatch.setattr(executor, "_jobs", waiting)
    with caplog.at_level(logging.WARNING, logger="zenopt"):
        executor.close()
        executor.close()
    assert [record.message for record in caplog.records] == [
        "SLURM does not end the jobs (scancel: no answer in 0.2 s); when it answers again: scancel 7_0 7_1"
    ]


def _real() -> str | None:
    if shutil.which("sbatch") is None:
        return "SLURM is not installed here (no sbatch)"
    found = subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True)
    return None if not found.returncode else f"no SLURM cluster answers ({found.stderr.strip()[:80]})"


@pytest.mark.slow
def test_a_real_cluster(
    study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reason = _real()
    if reason is not None:
        pytest.skip(reason)
    executor = make_executor("slurm", "cpu=1,time=5m")
    executor.check(f"journal:///{tmp_path}/x.log", ("cpu",))
    with pytest.raises(ExecutorError, match="partition=no-such-partition"):
        make_executor("slurm", "partition=no-such-partition").check(f"journal:///{tmp_path}/x.log", ("cpu",))
    told: list[int] = []

    def report(alive: int) -> None:
        running = [trial for trial in study.get_trials() if trial.state == TrialState.RUNNING]
        if not told and _finished(study) and running:
            worker = Worker.parse(running[0].user_attrs["worker"])
            assert worker is not None
            told.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)

    ended, _ = run(study, executor, tmp_path, wanted=8, seconds=0.3, report=report)
    assert [trial.state for trial in study.get_trials()] == [TrialState.COMPLETE] * 8
    assert sum(item.reason == "lost" for item in ended) == 1 == len(told)
