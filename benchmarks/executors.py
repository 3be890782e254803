"""Seconds to the first trial, and CPU per trial, of workers on a warm Ray cluster and as plain processes, in one run.

    python benchmarks/executors.py --trials 60 --rounds 3

The cluster has three nodes of one core, all of this machine; rounds alternate between both executors on fresh SQLite
studies of the same seed, scored by measured Zen (batch 16, 32 px). Seconds to the first trial are those of the command
`zenopt optimize`, from its start until it shows the first finished trial, imports and all. CPU is that of the worker
between its first and its last claim, and with it that of the driver and of the server of the storage, from the first to
the last trial; importing torch is left out. Workers of the driver's machine open the SQLite
file as processes do; with --served they reach it through the driver's gRPC server, as those of other machines.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.cluster_utils import Cluster

import zenopt.study.search as search
from zenopt.executors import Post
from zenopt.executors.proxy import LocalFile
from zenopt.study.spec import StudySpec
from zenopt.study.worker import Search, work

SETTINGS = ("sampler.name=random", "space.bounds=narrow")
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}


def measured(task: Search, post: Post) -> None:
    """Work, and write down CPU seconds and trials."""
    claims: list[float] = []

    def claim() -> bool:
        claims.append(time.process_time())
        return post.claim()

    work(task, replace(post, claim=claim))
    found = {"cpu_s": claims[-1] - claims[0], "trials": len(claims) - 1}
    Path(task.folder, f"cpu-{os.getpid()}.json").write_text(json.dumps(found))


def others_cpu_s(on: str) -> tuple[float, float]:
    """Return CPU seconds of this process with the server of the storage, and of Ray's own processes."""
    own, others = time.process_time(), 0.0
    # Of the executor "processes", all that this process has begun are workers.
    for process in psutil.Process().children(recursive=True) if on != "processes" else ():
        try:
            words = " ".join(process.cmdline())
            seconds = sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
        if "multiprocessing" in words:
            own += seconds
        elif not words.startswith(("ray::zenopt", "ray::Actor")):
            others += seconds
    return own, others


def run(on: str, spec: StudySpec, trials: int) -> tuple[float, float]:
    """Return CPU milliseconds per trial, without and with Ray's own processes."""
    # Left there: the storage is open until this process ends.
    folder = tempfile.mkdtemp()
    first: list[tuple[float, float]] = []
    last: list[tuple[float, float]] = []

    def progress(found: Any) -> None:
        if found.done and not first:
            first.append(others_cpu_s(on))
        last[:] = [others_cpu_s(on)]

    result = search.run_search(
        spec,
        f"sqlite:///{folder}/x.db",
        "benchmark",
        trials=trials,
        workers=2,
        runs=folder,
        on=on,
        on_progress=progress,
    )
    assert result.done == trials, result.failures
    own = [json.loads(path.read_text()) for path in Path(folder).glob("cpu-*.json")]
    done = sum(item["trials"] for item in own)
    ours_s, rays_s = (after - before for before, after in zip(first[0], last[0], strict=True))
    cpu_s = sum(item["cpu_s"] for item in own) + ours_s
    return 1e3 * cpu_s / done, 1e3 * (cpu_s + rays_s) / done


def first_s(on: str) -> float:
    """Return seconds from the start of the command to its first finished trial."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "zenopt", "optimize", "--study", "cifar-params1m", "--on", on]
        command += [part for setting in SETTINGS for part in ("--set", setting)]
        command += ["--trials", "3", "--workers", "3", "--storage", f"sqlite:///{folder}/x.db", "--verbose"]
        began = time.monotonic()
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=folder
        )
        assert process.stderr is not None
        found = [time.monotonic() - began for line in process.stderr if line.startswith("trial ")]
        assert not process.wait() and found
        return found[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--served", action="store_true", help="Serve the SQLite file to Ray's workers by gRPC."
    )
    options = parser.parse_args()
    spec = StudySpec.load("cifar-params1m", list(SETTINGS))
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "_system_config": {"worker_niceness": 0}})
    for _ in range(2):
        cluster.add_node(**NODE)
    search.work = measured
    if options.served:
        file_of = LocalFile.of
        LocalFile.of = lambda url: replace(file_of(url), host="elsewhere")  # type: ignore[method-assign]
    names = {"processes": "processes", "ray": f"ray:{cluster.address}"}
    found: dict[str, dict[str, list[float]]] = {
        on: {"first_s": [], "cpu_ms": [], "all_ms": []} for on in names
    }
    for _ in range(options.rounds):
        for on, name in names.items():
            rows = found[on]
            rows["first_s"].append(first_s(name))
            for key, ms in zip(("cpu_ms", "all_ms"), run(name, spec, options.trials), strict=True):
                rows[key].append(ms)
            print(
                f"{on:9s} first trial {rows['first_s'][-1]:5.1f} s, CPU {rows['cpu_ms'][-1]:7.1f} ms/trial",
                flush=True,
            )
    for key, words in (
        ("first_s", "seconds to the first trial"),
        ("cpu_ms", "CPU per trial"),
        ("all_ms", "the same with Ray's own processes, which run for as long as the cluster is there"),
    ):
        ratios = [one / other for one, other in zip(found["ray"][key], found["processes"][key], strict=True)]
        print(
            f"{words}, Ray / processes: {statistics.median(ratios):.3f} ({', '.join(f'{r:.2f}' for r in ratios)})"
        )
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
