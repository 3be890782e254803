"""`make gpu`: what it says without a GPU, what a section that is cut off leaves, and the page."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "gpu", raising=False)  # tests/gpu.py has the name, too
    import importlib.util

    spec = importlib.util.spec_from_file_location("gpu_report", BENCHMARKS / "gpu.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FACTS = {
    "device": "Pretended 100", "memory_gib": 8, "cores": 16, "python": "3.12.3", "torch": "2.11", "cuda": "13.0",
    "date": "2026-11-21",
}  # fmt: skip


def test_without_a_gpu_it_is_one_line(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(
        sys, "argv", ["gpu.py", "--output", str(tmp_path / "out"), "--page", str(tmp_path / "gpu.md")]
    )
    gpu.main()
    assert capsys.readouterr().out.startswith("No CUDA device here")
    assert not list(tmp_path.iterdir())


def test_a_section_that_is_cut_off_leaves_what_it_has(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The section's process: it has something after a moment, and never ends.
    script = tmp_path / "section.py"
    script.write_text(
        "import sys, time, pathlib\n"
        "output, name = pathlib.Path(sys.argv[4]), sys.argv[2]\n"
        '(output / f\'{name}.json\').write_text(\'{"last_line": "7 passed", "failed": []}\')\n'
        "(output / 'written').touch()\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setattr(gpu, "__file__", str(script))
    wait = subprocess.Popen.wait
    ended: list[subprocess.Popen[bytes]] = []

    def wait_when_written(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        ended.append(process)
        while timeout is not None and not (tmp_path / "written").exists():
            assert process.poll() is None
            time.sleep(0.05)
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait_when_written)
    ends = {"tests": gpu.run_section("tests", tmp_path, 1.0)}
    assert ends["tests"] == "cut off after 1 s" and ended[0].returncode == -signal.SIGKILL
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "cells.md").write_text("7 of 47 trainings and searches are done.\n")
    gpu.write_page(tmp_path, tmp_path / "gpu.md", FACTS, ends)
    page = (tmp_path / "gpu.md").read_text()
    assert page.endswith("## Supernets and cells\n\n7 of 47 trainings and searches are done.\n")
    assert "`7 passed`" in page and "This section cut off after 1 s." in page
    assert page.count("Nothing was measured.") == len(gpu.SECTIONS) - 1
    assert (tmp_path / "gpu.json").is_file()


def test_the_page_has_every_section_and_its_ratios(gpu: Any) -> None:
    way = {
        "processes": 1,
        "threads": 1,
        "overrides": [],
        "images_per_cpu_second": 50.0,
        "trainings_per_hour": 30.0,
    }
    rows = [{**way, "name": name, "images_per_second": rate} for name, rate in (("a", 400.0), ("b", 1200.0))]
    scores = {"cuda:0 x 1": 50.0, "cpu x 1": 2.0, "cuda:0 x 8": 200.0}
    rates = {"plain loop, bf16, channels-last": 40_000, "fp32": 20_000}
    measured = {"batch": 1, "dtype": "fp32", "batch_ms": 1.0, "spread": 0.01, "standard_error": 0.001}
    errors = {"spearman": 0.995, "within_10": 0.95, "mape": 0.03}
    compared = {"network": "n", "repeats": 9, "cpu": [1, 2], "gpu": [1, 2], "distance": 0.1, "p": 0.5}
    found = {
        "scores": {"batch": 64, "scores_per_second": scores},
        "training": {"rows": {name: {"images_per_second": rate} for name, rate in rates.items()}},
        "distribution": {"rows": [compared]},
        "small": {"reference": "a", "rows": rows},
        "latency": {
            "measured": [{"network": "n", **measured}],
            "calibrated": [{"preset": "cifar-small", "batch": 64, "errors": errors}],
        },
        "tests": {"last_line": "80 passed in 60 s", "failed": []},
    }
    page = gpu.page(FACTS, {}, found)
    assert set(found) == set(gpu.SECTIONS) == set(gpu.PAGE)
    assert "| cuda:0 x 8 | 200.0 | 4.00 | 100.00 |" in page
    assert "| fp32 | 20,000 | 0.50 |" in page
    assert "| b | 1,200 | 30.0 | 3.00 | 50 | 1.00 |" in page
    assert "| cifar-small | 64 | 0.995 | 95% | 3.0% |" in page
    assert "Nothing was measured." not in page and "Pretended 100" in page


def test_all_sections_fit_into_nine_minutes(gpu: Any) -> None:
    assert sum(limit for _, limit in gpu.SECTIONS.values()) <= 525
