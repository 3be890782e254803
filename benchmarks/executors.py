"""Seconds to the first trial, and CPU per trial, of workers on a warm Ray cluster and as plain processes, in one run.

    python benchmarks/executors.py --trials 60 --rounds 3

The cluster is of this machine, with its default of one worker at a time on each core; rounds alternate between both
executors on fresh SQLite studies of the same seed, scored by measured Zen (batch 16, 32 px). CPU is that of the worker
between its first and its last claim, and with it that of the driver, of the server of the storage and of Ray's own
processes, from the first to the last trial; importing torch is left out. With --direct Ray's workers open the SQLite
file as processes do; otherwise they reach it through the driver's gRPC server, as on a cluster of several machines.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

import zenopt.executors.ray as ray_executor
import zenopt.study.search as search
from zenopt.executors import Post
from zenopt.study.spec import StudySpec
from zenopt.study.worker import Search, work


def measured(task: Search, post: Post) -> None:
    """Work, and write down CPU seconds and trials."""
    claims: list[float] = []

    def claim() -> bool:
        claims.append(time.process_time())
        return post.claim()

    work(task, replace(post, claim=claim))
    found = {"cpu_s": claims[-1] - claims[0], "trials": len(claims) - 1}
    Path(task.folder, f"cpu-{os.getpid()}.json").write_text(json.dumps(found))


def others_cpu_s(on: str) -> float:
    """Return CPU seconds of this process and of what it began, but not of workers."""
    total = time.process_time()
    for process in psutil.Process().children(recursive=True):
        try:
            words = " ".join(process.cmdline())
            # A spawned process is a worker here, and on Ray the server of the storage.
            if not words.startswith(("ray::zenopt", "ray::Actor")) and not (
                on == "processes" and "spawn_main" in words
            ):
                total += sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return total


def run(on: str, spec: StudySpec, trials: int) -> dict[str, float]:
    """Return seconds to the first trial, and CPU milliseconds per trial."""
    # Left there: the storage is open until this process ends.
    folder = tempfile.mkdtemp()
    began = time.monotonic()
    first: list[tuple[float, float]] = []
    last: list[float] = []

    def progress(found: Any) -> None:
        if found.done and not first:
            first.append((time.monotonic() - began, others_cpu_s(on)))
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
    cpu_s = sum(item["cpu_s"] for item in own) + last[0] - first[0][1]
    return {"first_s": first[0][0], "cpu_ms": 1e3 * cpu_s / sum(item["trials"] for item in own)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--direct", action="store_true", help="Let Ray's workers open the file themselves.")
    options = parser.parse_args()
    spec = StudySpec.load("cifar-params1m", ["sampler.name=random", "space.bounds=narrow"])
    search.work = measured
    executor = ray_executor.RayActors()
    executor._connect()
    ray_executor._began_here = options.direct
    found: dict[str, list[dict[str, float]]] = {"processes": [], "ray": []}
    for _ in range(options.rounds):
        for on, rows in found.items():
            rows.append(run(on, spec, options.trials))
            print(
                f"{on:9s} first trial {rows[-1]['first_s']:5.1f} s, CPU {rows[-1]['cpu_ms']:7.1f} ms/trial",
                flush=True,
            )
    for key, words in (("first_s", "seconds to the first trial"), ("cpu_ms", "CPU per trial")):
        ratios = [one[key] / other[key] for one, other in zip(found["ray"], found["processes"], strict=True)]
        print(
            f"{words}, Ray / processes: {statistics.median(ratios):.3f} ({', '.join(f'{r:.2f}' for r in ratios)})"
        )


if __name__ == "__main__":
    main()
