"""How long a report takes and how large it is, with Optuna's own reading of the same trials as the reference.

    python benchmarks/report_speed.py                                            # makes a study of 50,000 trials first
    python benchmarks/report_speed.py --study big --storage sqlite:///big.db     # of a study that is there

Both run in processes of their own, one after the other, and are measured in CPU seconds, imports included: on a busy
machine wall time says more about the neighbours.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

#: What a report of 50,000 trials should stay below.
WANTED_CPU_S, WANTED_MB = 10.0, 10.0
REPORT = """
import sys, optuna
from zenopt.report import write_report
from zenopt.study.study import load_study, open_existing
(section,) = write_report([load_study(open_existing(sys.argv[1]), sys.argv[2])], sys.argv[3])
print(section.data.size)
"""
STOCK = """
import sys, optuna
from zenopt.storage import parse_url
study = optuna.load_study(study_name=sys.argv[2], storage=parse_url(sys.argv[1]).url)
print(len(study.get_trials(deepcopy=False)))
"""


def measure(code: str, *arguments: str) -> tuple[int, float]:
    """Return what the code prints and the CPU seconds of its process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return int(result.stdout.split()[-1]), seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", default="large")
    parser.add_argument("--storage", help="Where it is; without it a study is made.")
    parser.add_argument("--trials", type=int, default=50_000, help="Of the study that is made.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        storage = options.storage or f"sqlite:///{folder}/{options.study}.db"
        if options.storage is None:
            sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
            from report_studies import make_study

            make_study(storage, options.study, options.trials)
        path = Path(folder) / "report.html"
        trials, ours = measure(REPORT, storage, options.study, str(path))
        size_mb = path.stat().st_size / 1e6
        _, stock = measure(STOCK, storage, options.study)
    content = {
        "trials": trials,
        "report_cpu_s": round(ours, 2),
        "report_mb": round(size_mb, 2),
        "optuna_get_trials_cpu_s": round(stock, 2),
        "ratio": round(ours / stock, 3),
        "wanted": {"report_cpu_s": WANTED_CPU_S, "report_mb": WANTED_MB},
        "is_within": ours <= WANTED_CPU_S and size_mb <= WANTED_MB,
    }
    print(json.dumps(content))


if __name__ == "__main__":
    main()
