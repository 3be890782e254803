"""What a trial costs in each storage, and how that grows with the study: ratios against stock Optuna.

    python benchmarks/storage.py                      # SQLite, 100 to 50,000 trials
    python benchmarks/storage.py --postgresql         # a private PostgreSQL server as well

Each figure is taken in a process of its own on a study filled by bulk insert. CPU is that of the client; the medians
of several runs are shown, because the machine may be busy with other things. A trial has 40 parameters from
one relative sampler call, 5 user attributes and a trivial objective; in memory it costs what Optuna itself costs.
Joining is: open, load the study, read all records with their structures, read the best 512 with parameters (stock:
all trials). Peak is of the whole process, Python with Optuna and SQLAlchemy included. The stock storage reads the
whole study on the first ask (minutes at 50,000): it is measured up to 5,000 trials, further with --stock-sizes.
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
from pathlib import Path
from typing import Any

REPEATS = 5


def _measure(url: str, study_name: str, kind: str, count: int) -> dict[str, float]:
    """Join a study, then ask and tell ``count`` trials; returns seconds, MB and ms."""
    sys.path.insert(0, str(Path(__file__).parent))
    import optuna
    from storage_fill import SPACE, structure_of

    from zenopt.storage import StudyHistory, open_storage

    optuna.logging.set_verbosity(optuna.logging.ERROR)

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

    # Imports and the first connection belong to starting a process, not to joining a study.
    if kind != "memory":
        open_storage(url).get_all_studies()
    before_mb = _peak_mb()
    began, began_cpu = time.perf_counter(), time.process_time()
    storage = open_storage(url, write_behind=kind != "stock")
    study = optuna.create_study(
        storage=storage,
        study_name=study_name,
        load_if_exists=True,
        direction="maximize",
        sampler=RelativeSampler(),
    )
    if kind == "stock":
        study.get_trials(deepcopy=False)
    else:
        history = StudyHistory(study)
        history.sync()
        history.top(512)
    result = {
        "join_s": time.perf_counter() - began,
        "join_cpu_s": time.process_time() - began_cpu,
        "join_mb": _peak_mb() - before_mb,
        "peak_mb": _peak_mb(),
    }
    times = []
    for repeat in range(REPEATS + 1):
        began_cpu = time.process_time()
        for _ in range(count):
            trial = study.ask()
            for name, distribution in SPACE.items():
                if isinstance(distribution, optuna.distributions.IntDistribution):
                    trial.suggest_int(name, 8, 512, log=True)
                else:
                    trial.suggest_float(name, 0.0, 1.0)
            trial.set_user_attr("structure", structure_of(trial.number))
            for i in range(4):
                trial.set_user_attr(f"attr{i}", 0.5 * i)
            study.tell(trial, float(trial.number))
        if repeat:  # the first round warms up
            times.append((time.process_time() - began_cpu) / count * 1e3)
    result["ms"] = statistics.median(times)
    result["ms_min"] = min(times)
    return result


def _peak_mb() -> float:
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            peak = next(line for line in file if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 1024
    except (OSError, StopIteration):
        # Elsewhere; on Linux this one also counts what the parent process had before it started us.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _in_process(url: str, study_name: str, kind: str, count: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", url, study_name, kind, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def _report(database: str, url_of: Any, sizes: list[int], stock_sizes: list[int], count: int) -> None:
    import optuna
    from storage_fill import fill

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(f"\n{database}: client CPU per trial, ms (40 parameters, 5 user attributes), and joining the study")
    print(
        f"{'storage':14}{'trials':>8}{'ms':>8}{'least':>8}{'x stock':>9}{'x first':>9}{'join s':>9}{'join MB':>9}"
    )
    memory = _in_process("memory:", "s", "memory", count)
    print(f"{'in memory':14}{'-':>8}{memory['ms']:8.2f}{memory['ms_min']:8.2f}")
    first = None
    for size in sizes:
        url = url_of(size)
        fill(url, "s", size)
        stock = None
        if size in stock_sizes:
            stock = _in_process(url, "s", "stock", max(10, count // 10))
        ours = _in_process(url, "s", "write-behind", count)
        first = first or ours
        for name, row in (("stock", stock), ("write-behind", ours)):
            if row is None:
                continue
            ratio = f"{row['ms'] / stock['ms']:9.3f}" if stock else f"{'-':>9}"
            growth = f"{row['ms'] / first['ms']:9.2f}" if row is ours else f"{'':9}"
            print(
                f"{name:14}{size:8}{row['ms']:8.2f}{row['ms_min']:8.2f}{ratio}{growth}"
                f"{row['join_s']:9.2f}{row['join_cpu_s']:8.2f}{row['join_mb']:7.0f}{row['peak_mb']:9.0f}",
                flush=True,
            )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 5000, 20000, 50000])
    parser.add_argument("--stock-sizes", type=int, nargs="*", default=[100, 5000])
    parser.add_argument("--trials", type=int, default=100, help="trials per timing (default 100)")
    parser.add_argument("--postgresql", action="store_true", help="measure a private PostgreSQL server too")
    parser.add_argument(
        "--measure", nargs=4, metavar=("URL", "STUDY", "KIND", "COUNT"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.measure:
        url, study_name, kind, count = options.measure
        print(json.dumps(_measure(url, study_name, kind, int(count))))
        return
    sys.path.insert(0, str(Path(__file__).parent))
    print(f"Python {platform.python_version()}, {platform.machine()}, {platform.system()}")
    with tempfile.TemporaryDirectory() as folder:
        _report(
            "SQLite (WAL)",
            lambda size: f"sqlite:///{folder}/{size}.db",
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
            _report(
                "PostgreSQL",
                lambda size: server.new_database(),
                options.sizes,
                options.stock_sizes,
                options.trials,
            )
        finally:
            server.close()


if __name__ == "__main__":
    main()
