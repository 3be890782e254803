"""What a trial costs in each storage, and how that grows with the study: ratios against stock Optuna.

    python benchmarks/storage.py                      # SQLite, 100 to 50,000 trials
    python benchmarks/storage.py --postgresql         # a private PostgreSQL server as well

A trial has 40 parameters from one relative sampler call, 5 user attributes and a trivial objective. CPU is that of the
client. The rows in memory and write-behind of a table come from one process that takes turns between the studies, a
batch of trials each, and the medians over the batches are shown: what else the machine does then hits all alike. In
memory a trial costs what Optuna itself costs.

Joining is, in a fresh process: open, load the study, read all records with their structures, read the best 512 with
parameters (stock: all trials). Peak is of the whole process, Python with Optuna and SQLAlchemy included. The stock
storage reads the whole study on the first ask (minutes at 50,000): it is measured up to 5,000 trials, further with
--stock-sizes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROUNDS = 12


def _study(url: str, *, write_behind: bool = True) -> Any:
    import optuna
    from storage_fill import SPACE

    from zenopt.storage import open_storage

    class RelativeSampler(optuna.samplers.BaseSampler):
        """All parameters from one call, as a search over whole architectures draws them."""

        def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
            return SPACE

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            number = trial.number
            return {
                name: (number * 7 + i) % 400 + 8 if name.startswith("int") else ((number + i) % 97) / 97
                for i, name in enumerate(SPACE)
            }

        def sample_independent(self, *args: Any) -> Any:
            raise AssertionError("every parameter is relative")

    return optuna.create_study(
        storage=open_storage(url, write_behind=write_behind),
        study_name="s",
        load_if_exists=True,
        direction="maximize",
        sampler=RelativeSampler(),
    )


def _run(study: Any, count: int) -> float:
    """Ask and tell ``count`` trials; return client CPU ms per trial."""
    from optuna.distributions import IntDistribution
    from storage_fill import SPACE, structure_of

    began = time.process_time()
    for _ in range(count):
        trial = study.ask()
        for name, distribution in SPACE.items():
            if isinstance(distribution, IntDistribution):
                trial.suggest_int(name, 8, 512, log=True)
            else:
                trial.suggest_float(name, 0.0, 1.0)
        trial.set_user_attr("structure", structure_of(trial.number))
        for i in range(4):
            trial.set_user_attr(f"attr{i}", 0.5 * i)
        study.tell(trial, float(trial.number))
    return (time.process_time() - began) / count * 1e3


def measure_trials(urls: list[str], count: int, stock: bool) -> list[float]:
    """Return ms per trial for each study, measured in turns."""
    studies = [_study(url, write_behind=not stock) for url in urls]
    for study in studies:
        _run(study, 5)
    times = [[_run(study, count) for study in studies] for _ in range(3 if stock else ROUNDS)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def measure_join(url: str, stock: bool) -> dict[str, float]:
    """Return what it takes to join a study: seconds, CPU seconds, MB more, MB at the peak."""
    from zenopt.storage import StudyHistory, open_storage

    # Imports and the first connection belong to starting a process, not to joining a study.
    open_storage(url).get_all_studies()
    before_mb, began, began_cpu = _peak_mb(), time.perf_counter(), time.process_time()
    study = _study(url, write_behind=not stock)
    if stock:
        study.get_trials(deepcopy=False)
    else:
        history = StudyHistory(study)
        history.sync()
        history.top(512)
    return {
        "s": time.perf_counter() - began,
        "cpu_s": time.process_time() - began_cpu,
        "more_mb": _peak_mb() - before_mb,
        "peak_mb": _peak_mb(),
    }


def _peak_mb() -> float:
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            peak = next(line for line in file if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024
    except (OSError, StopIteration):
        # Elsewhere; on Linux this one also counts what the parent process had before it started us.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _in_process(what: str, urls: list[str], count: int, stock: bool) -> Any:
    command = [sys.executable, __file__, "--measure", json.dumps([what, urls, count, stock])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def report(
    database: str, new_url: Callable[[], str], sizes: list[int], stock_sizes: list[int], count: int
) -> None:
    """Fill studies, measure, and print the table of one database."""
    from storage_fill import fill

    urls = {size: new_url() for size in sizes}
    for size, url in urls.items():
        fill(url, "s", size)
    memory_ms, *ours = _in_process("trials", ["memory:", *urls.values()], count, False)
    print(f"\n{database}: client CPU per trial, and joining the study")
    print("storage         trials     ms  /in memory  /first  /stock    join s   CPU s   +MB  peak MB")
    print(f"{'in memory':14}{'-':>8}{memory_ms:7.2f}{1.0:12.2f}", flush=True)
    for (size, url), ms in zip(urls.items(), ours, strict=True):
        join = _in_process("join", [url], count, False)
        stock_ms = stock_join = None
        if size in stock_sizes:
            stock_join = _in_process("join", [url], count, True)
            (stock_ms,) = _in_process("trials", [url], max(5, count // 10), True)
            _print("stock", size, stock_ms, memory_ms, f"{'':8}{1.0:8.3f}", stock_join)
        ratio = f"{ms / stock_ms:8.3f}" if stock_ms else f"{'-':>8}"
        _print("write-behind", size, ms, memory_ms, f"{ms / ours[0]:8.2f}{ratio}", join)


def _print(name: str, size: int, ms: float, memory_ms: float, ratios: str, join: dict[str, float]) -> None:
    print(
        f"{name:14}{size:8}{ms:7.2f}{ms / memory_ms:12.2f}{ratios}"
        f"{join['s']:10.2f}{join['cpu_s']:8.2f}{join['more_mb']:6.0f}{join['peak_mb']:9.0f}",
        flush=True,
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 5000, 20000, 50000])
    parser.add_argument("--stock-sizes", type=int, nargs="*", default=[100, 5000])
    parser.add_argument("--trials", type=int, default=40, help="trials in a batch (default 40)")
    parser.add_argument("--postgresql", action="store_true", help="measure a private PostgreSQL server too")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if options.measure:
        what, urls, count, stock = json.loads(options.measure)
        result = measure_trials(urls, count, stock) if what == "trials" else measure_join(urls[0], stock)
        print(json.dumps(result))
        return
    print(f"Python {platform.python_version()}, {platform.machine()}, {platform.system()}")
    with tempfile.TemporaryDirectory() as folder:
        numbers = iter(range(1000))
        report(
            "SQLite (WAL, synchronous=NORMAL)",
            lambda: f"sqlite:///{folder}/{next(numbers)}.db",
            options.sizes,
            options.stock_sizes,
            options.trials,
        )
    if options.postgresql:
        path = Path(__file__).resolve().parents[1] / "tests" / "postgres_server.py"
        spec = importlib.util.spec_from_file_location("postgres_server", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        server = module.PostgresServer()
        try:
            report("PostgreSQL", server.new_database, options.sizes, options.stock_sizes, options.trials)
        finally:
            server.close()


if __name__ == "__main__":
    main()
