"""Supernets and cells of `make gpu-long`: what is run, what is printed of it, and that a killed one goes on."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zenopt.spaces.registry import get_space
from zenopt.train.folder import held

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
ALL_SKIPS = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
TINY = (
    "--resolution", "8", "--supernet-set", "batch_size=32", "--search-set", "batch_size=32", "--sample", "4",
    "--method-set", "network.channels=2", "--method-set", "network.cells=1", "--images", "8", "--settling", "8",
    "--supernets", "nasbench201:fair", "--methods", "darts-v1 with beta decay", "--seeds", "0",
)  # fmt: skip


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_cells

    return gpu_cells


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table of NAS-Bench-201 that lists all cells but that of skip connections alone."""
    folder = tmp_path_factory.mktemp("given") / "tables"
    folder.mkdir()
    rows = ["arch_str,cifar10_test,cifar100_test,imagenet16_test"]
    for cell in map(str, get_space("nasbench201")().architectures()):
        good = cell.count("nor_conv_3x3") + cell.count("skip_connect") / 2
        value = 94.4 if cell == BEST else 88 + good
        if cell != ALL_SKIPS:
            rows.append(f"{cell},{value},{value - 20.95},{value - 47.9}")
    with gzip.open(folder / "nb201_accuracy.csv.gz", "wt") as file:
        file.write("\n".join(rows))
    return folder.parent


@pytest.fixture
def options(tmp_path: Path, tables: Path) -> Callable[..., list[str]]:
    (tmp_path / "images").mkdir()

    def make(*more: object) -> list[str]:
        data = ("--data", f"imagefolder:{tmp_path / 'images'}")
        return [
            *map(str, (*data, "--tables", tables, "--output", tmp_path / "out", "--device", "cpu", *more))
        ]

    return make


def search_result(cell: str, epochs: int = 50) -> dict[str, Any]:
    return {
        "architecture": cell, "epochs": epochs, "epoch": epochs, "was_ended": False, "resolution": 32,
        "network_params": 1, "train_images": 25_000, "held_back_images": 25_000, "changes": [], "seconds": 1.0,
    }  # fmt: skip


TRAINED = {"epochs": 250, "resolution": 32, "train_images": 45_000, "changes": [], "seconds": 9.0}
RANKED = {
    "networks": 500, "images": 1000, "mean_accuracy": 61.25, "seconds": 0.1,
    "supernet": {
        "kendall": {"value": 0.6114, "low": 0.55, "high": 0.66}, "spearman": {"value": 0.8, "low": 0.7, "high": 0.9}
    },
    "macs": {"kendall": {"value": 0.58, "low": 0.52, "high": 0.64}},
}  # fmt: skip


def run(module: ModuleType, words: list[str], monkeypatch: pytest.MonkeyPatch) -> object:
    """Run the benchmark in this process; return what it exits with."""
    monkeypatch.setattr(sys, "argv", ["gpu_cells.py", *words])
    try:
        module.main()
    except SystemExit as end:
        return end.code
    return 0


def rows_of(page: str) -> dict[str, list[str]]:
    """Return the cells of the tables' rows, by the first."""
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    return {line[0]: line for line in lines}


def test_what_is_printed_is_in_the_json(
    cells: ModuleType,
    options: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    results = tmp_path / "out" / "results"
    results.mkdir(parents=True)
    worse = BEST.replace("skip_connect~0", "none~0")
    made = {
        "nasbench201-few-shot-0-trained": TRAINED, "nasbench201-few-shot-0": RANKED,
        "darts-v1-0": search_result(ALL_SKIPS), "darts-v1-1": search_result(worse),
        "darts-v1-2": search_result("not listed"),
        **{f"drnas-{seed}": search_result(BEST, 100) for seed in range(3)},
    }  # fmt: skip
    for name, content in made.items():
        (results / f"{name}.json").write_text(json.dumps(content))
    # Only these searches are asked for; the supernet is of an earlier call.
    words = options("--parts", "cells", "--methods", "darts-v1,drnas", "--seeds", "0,1,2")
    assert run(cells, words, monkeypatch) == 0
    shown = capsys.readouterr().out
    content = json.loads((tmp_path / "out" / "cells.json").read_text())
    assert (tmp_path / "out" / "cells.md").read_text() in shown
    assert "nas_bench_macro_cifar10.csv.gz is not in" in shown
    rows = rows_of(shown)
    (supernet,) = content["supernets"]
    assert rows["nasbench201"][1:4] == ["few-shot", "0", "250"] and supernet["variant"] == "few-shot"
    assert "0.611 [0.550, 0.660]" in rows["nasbench201"] and supernet["kendall"]["value"] == 0.6114
    assert ".55 to .69" in rows["nasbench201"]
    plain = [row for row in content["cells"] if row["method"] == "darts-v1"]
    # The cell of skip connections is not listed here, and has collapsed as published; the next one has 93 %.
    assert [row["is_collapsed"] for row in plain] == [True, False, None]
    assert [row["accuracies"][0] for row in plain] == [None, 93.0, None]
    assert rows["darts-v1"][4:] == [
        "93.00", "72.05", "45.10", "- 93.00 -", "6 0 0", "1 of 2", "2", "54.30 / 15.61 / 16.32"
    ]  # fmt: skip
    assert rows["drnas"][1:7] == ["100", "50,000", "3", "94.40 ± 0.00", "73.45 ± 0.00", "46.50 ± 0.00"]
    assert (
        "94.30 / 73.40 / 46.40 is reached by drnas (3 listed cells); the best of this table have 94.40 / 73.45 / 46.50"
        in shown
    )
    assert "All images, epochs and sizes." in shown and content["done"] == content["of"] == 6


def test_a_part_without_time_says_that_it_is_not_done(
    cells: ModuleType,
    options: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(cells, options(*TINY, "--until", time.time() - 1), monkeypatch) == 3
    shown = capsys.readouterr().out
    assert "2 of 2 are not done yet; run the same command again to go on." in shown
    assert 'Not as published: "resolution": 8, "supernet_set": ["batch_size=32"]' in shown
    assert not list((tmp_path / "out" / "results").iterdir())
    # Figures of other sizes do not come into the same tables.
    assert run(cells, options(*TINY, "--share", "0.5", "--until", 0), monkeypatch) == 2
    assert "holds figures of another --share (1.0)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--methods", "darts"), "--methods: 'darts' is none of darts-v1, darts-v2, gdas"),
        (("--supernets", "nasbench-macro:close"), "--supernets: 'nasbench-macro:close' is none of"),
        (("--parts", "all"), "--parts: 'all' is none of supernets, cells."),
        (("--seeds", "a"), "--seeds and --supernet-seeds are integers separated by commas"),
        (("--data", "imagefolder:/nowhere"), "--data imagefolder:/nowhere: folder /nowhere does not exist."),
        (("--device", "cuda:99"), "Device 'cuda:99' is not available"),
    ],
)
def test_what_is_wrong_is_one_line(
    cells: ModuleType,
    options: Callable[..., list[str]],
    words: tuple[str, str],
    line: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as end:
        cells.parse(options(*words))
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.startswith(line) and said.count("\n") == 1


def test_every_goal_has_its_command(
    cells: ModuleType, options: Callable[..., list[str]], tmp_path: Path
) -> None:
    for name in ("nb201_accuracy.csv.gz", "nas_bench_macro_cifar10.csv.gz"):
        (tmp_path / name).touch()
    tasks = cells.tasks_of(cells.parse(options()), cells.find_tables(tmp_path))
    assert len(tasks) == 7 + 5 * 8 and len({task.name for task in tasks}) == len(tasks)
    words = {task.name: " ".join(task.commands[0].words) for task in tasks}
    few_shot = words["nasbench201-few-shot-0"]
    assert "--split edge03 --schedule few-shot --epochs 250" in few_shot and "--auto-resume" in few_shot
    assert "--schedule sharing-curriculum" in words["nasbench201-close-0"]
    assert "--sampling uniform --epochs 100" in words["nasbench-macro-uniform-0"]
    assert "--method darts-v2 --epochs 50" in words["darts-v2-4"]
    assert "--method darts-v1 --regulariser beta-decay --epochs 100" in words["darts-v1-with-beta-decay-3"]
    # Every method with one seed before any with the next.
    assert [task.seed for task in tasks if task.part == "cells"] == sorted(list(range(5)) * 8)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `make gpu-long` with an interpreter that writes down what it is to run, and ends as it is told."""
    if shutil.which("make") is None:
        pytest.skip("there is no make here")
    interpreter = tmp_path / "python"
    interpreter.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = -c ]; then echo 4711.5; exit 0; fi\n'
        f'echo "$@" >> {tmp_path}/called\n'
        "case $1 in *real_trainings.py) exit $TRAININGS;; *gpu_cells.py) exit $CELLS;; esac\n"
    )
    interpreter.chmod(0o755)

    def run_make(*words: str, trainings: int = 0, cells: int = 0) -> subprocess.CompletedProcess[str]:
        (tmp_path / "called").write_text("")
        return subprocess.run(
            ["make", "gpu-long", f"GPU_PYTHON={interpreter}", "DATA=images", *words],
            cwd=BENCHMARKS.parent, capture_output=True, text=True,
            env={"PATH": os.environ["PATH"], "TRAININGS": str(trainings), "CELLS": str(cells)},
        )  # fmt: skip

    return run_make


def test_parts_of_make_share_the_minutes(
    make: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    whole = make("TABLES=tables", "CELLS_OPTIONS=--share 0.5")
    assert whole.returncode == 0 and whole.stdout == "Done: trainings supernets,cells\n"
    first, second = (tmp_path / "called").read_text().splitlines()
    assert "real_trainings.py" in first and first.endswith("--until 4711.5")
    assert "gpu_cells.py --data imagefolder:images --tables tables" in second
    assert "--parts supernets,cells" in second and second.endswith("--until 4711.5 --share 0.5")
    # The first used all of the time.
    part = make("TABLES=tables", trainings=3)
    assert part.returncode == 0 and part.stdout == "Part done: make gpu-long again.\n"
    assert "gpu_cells.py" not in (tmp_path / "called").read_text()
    assert make("TABLES=tables", cells=3).stdout == "Part done: make gpu-long again.\n"
    assert make("TABLES=tables", "PARTS=cells", trainings=1).stdout == "Done: cells\n"
    assert make("TABLES=tables", cells=1).returncode != 0


def test_make_says_what_it_leaves_out(
    make: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    left = make()
    assert left.returncode == 0
    assert left.stdout.startswith("Left out: supernets,cells. TABLES=FOLDER is needed")
    assert left.stdout.endswith("Done: trainings\n")
    assert "gpu_cells.py" not in (tmp_path / "called").read_text()
    assert make("PARTS=cells").returncode != 0
    wrong = make("PARTS=cell", "TABLES=tables")
    assert wrong.returncode != 0
    assert wrong.stdout == "PARTS has trainings, supernets and cells, not cell\n"
    assert not (tmp_path / "called").read_text()


@pytest.mark.slow
def test_a_killed_one_goes_on(
    cells: ModuleType,
    options: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 10, 8, 8, 8, 3), dtype=np.uint8)
    for part, classes in zip(("train", "test"), images, strict=True):
        for number, own in enumerate(classes):
            folder = tmp_path / "images" / part / f"class{number}"
            folder.mkdir(parents=True)
            for index, image in enumerate(own):
                Image.fromarray(image).save(folder / f"{index}.png")
    monkeypatch.setenv("PYTHONPATH", str(BENCHMARKS.parent), prepend=os.pathsep)
    epochs = ("--supernet-epochs", "12", "--search-epochs", "2")
    words = options(*TINY, *epochs)
    checkpoint = tmp_path / "out" / "runs" / "nasbench201-fair-0" / "last.pt"
    process = subprocess.Popen([sys.executable, str(BENCHMARKS / "gpu_cells.py"), *words])
    while not checkpoint.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    with held(checkpoint.parent, wait=True):
        pass  # what it had started is gone, too
    assert not (tmp_path / "out" / "results" / "nasbench201-fair-0-trained.json").exists()
    assert run(cells, words, monkeypatch) == 0
    rows = rows_of(capsys.readouterr().out)
    log = (tmp_path / "out" / "logs" / "nasbench201-fair-0.log").read_text()
    assert "Resumed after" in log
    # No epoch of the training was done twice, but for the one that was cut off.
    done = [int(epoch) for epoch in re.findall(r"^epoch (\d+)/12", log, re.M)]
    assert set(done) == set(range(1, 13)) and len(done) <= 13
    content = json.loads((tmp_path / "out" / "cells.json").read_text())
    (supernet,), (search,) = content["supernets"], content["cells"]
    assert f"{supernet['mean_accuracy']:.1f}" == rows["nasbench201"][5]
    assert f"{search['accuracies'][0]:.2f}" == rows["darts-v1 with beta decay"][4]
    assert search["cell"] in (tmp_path / "out" / "results" / "darts-v1-with-beta-decay-0.json").read_text()
    # Nothing is done again.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "results").iterdir()}
    assert run(cells, words, monkeypatch) == 0 and rows_of(capsys.readouterr().out) == rows
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "results").iterdir()} == before
