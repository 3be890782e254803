"""A cluster of SLURM in a folder, of processes of this machine: as much of its commands as submitit and zenopt call.

Every job has a file with its state, its reason, its process and its script. ``taken`` says how many begin at once; the
others wait. A job that is requeued is started again at once.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

HOME = Path(os.environ.get("FAKE_SLURM", "."))
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sacct")


def install(folder: Path) -> dict[str, str]:
    """Put the commands into a folder; return what the environment must have besides ``PATH``."""
    (folder / "jobs").mkdir(parents=True)
    for name in COMMANDS:
        command = folder / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" {name} "$@"\n', encoding="utf-8")
        command.chmod(0o755)
    return {"FAKE_SLURM": str(folder)}


def _state(job: str) -> list[str]:
    return (HOME / "jobs" / job).read_text(encoding="utf-8").split("|")


def _keep(job: str, state: str, reason: str, pid: int, script: str) -> None:
    file = HOME / "jobs" / f".{job}"
    file.write_text(f"{state}|{reason}|{pid}|{script}", encoding="utf-8")
    file.rename(HOME / "jobs" / job)


def _jobs() -> list[str]:
    return sorted(path.name for path in (HOME / "jobs").iterdir() if not path.name.startswith("."))


def _begin(job: str, script: str) -> None:
    silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    keeper = subprocess.Popen(
        [sys.executable, __file__, "keep", job, script], start_new_session=True, **silent
    )
    _keep(job, "RUNNING", "None", keeper.pid, script)


def sbatch(words: list[str]) -> int:
    """Take a job, or refuse what asks for the partition ``nope``."""
    is_test = words == ["--test-only"]
    text = sys.stdin.read() if is_test else Path(words[-1]).read_text(encoding="utf-8")
    if "--partition=nope" in text:
        print("sbatch: error: invalid partition specified: nope", file=sys.stderr)
        return 1
    if "--account=full" in text and not is_test:
        print("sbatch: error: QOSMaxSubmitJobPerUserLimit", file=sys.stderr)
        return 1
    if is_test:
        return 0
    number = str(len({job.partition("_")[0] for job in _jobs()}) + 1)
    array = re.search(r"--array=0-(\d+)", text)
    jobs = [f"{number}_{index}" for index in range(int(array[1]) + 1)] if array else [number]
    taken = int((HOME / "taken").read_text()) if (HOME / "taken").exists() else len(jobs)
    for job in jobs[:taken]:
        _begin(job, words[-1])
    for job in jobs[taken:]:
        _keep(job, "PENDING", "Resources", 0, words[-1])
    print(f"Submitted batch job {number}")
    return 0


def keep(words: list[str]) -> int:
    """Run the script of a job, and say how it ended; a process of its own."""
    job, script = words
    number, _, index = job.partition("_")
    environment = {**os.environ, "SLURM_JOB_ID": number, "SLURM_JOB_NODELIST": "here", "SLURM_PROCID": "0"}
    if index:
        environment |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": index}
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    code = subprocess.run(["bash", script], env=environment, check=False).returncode
    while not (HOME / "jobs" / job).exists():
        time.sleep(0.01)
    state, _, pid, _ = _state(job)
    if state == "REQUEUED":
        _begin(job, script)
    elif state == "RUNNING":
        _keep(job, "FAILED" if code else "COMPLETED", "None", int(pid), script)
    return 0


def srun(words: list[str]) -> int:
    """Be the step of a job: write where it says, and become its command."""
    job = os.environ["SLURM_JOB_ID"] + (
        f"_{os.environ['SLURM_ARRAY_TASK_ID']}" if "SLURM_ARRAY_TASK_ID" in os.environ else ""
    )
    for name, number in (("--output", 1), ("--error", 2)):
        pattern = words[words.index(name) + 1]
        found = pattern.replace("%A_%a", job).replace("%j", job).replace("%t", "0")
        os.dup2(os.open(found, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    command = words[words.index("--error") + 2 :]
    # So that it can be told to end, whatever it becomes.
    (HOME / f"pid-{job}").write_text(str(os.getpid()))
    os.execvp(command[0], command)


def squeue(words: list[str]) -> int:
    """Say how the jobs are, unless the file ``deaf`` is there."""
    if (HOME / "deaf").exists():
        print("slurm_load_jobs error: Unable to contact slurm controller", file=sys.stderr)
        return 1
    for job in _jobs():
        state, reason, _, _ = _state(job)
        print(f"{job}|{state}|{reason}")
    return 0


def scancel(words: list[str]) -> int:
    """End jobs; ``--state=PENDING``: those alone that have not begun. Never, where the file ``hung`` is there."""
    while (HOME / "hung").exists():
        time.sleep(0.1)
    for job in (word for word in words if not word.startswith("-")):
        state, _, pid, script = _state(job)
        if state == "PENDING":
            _keep(job, "CANCELLED", "None", 0, script)
        elif state == "RUNNING" and "--state=PENDING" not in words:
            _keep(job, "CANCELLED", "None", int(pid), script)
            os.kill(int((HOME / f"pid-{job}").read_text()), signal.SIGTERM)
    return 0


def scontrol(words: list[str]) -> int:
    """Queue a job again: ``scontrol requeue JOB``."""
    _, _, pid, script = _state(words[1])
    _keep(words[1], "REQUEUED", "None", int(pid), script)
    return 0


def sacct(words: list[str]) -> int:
    """Keep no accounts, as many a cluster."""
    print("Slurm accounting storage is disabled", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(globals()[sys.argv[1]](sys.argv[2:]))
