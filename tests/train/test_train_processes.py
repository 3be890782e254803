"""Runs in processes of their own: two that share a run, and one that is killed."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from structures import TINY_QUARTERED

from zenopt.cli import main

TINY = TINY_QUARTERED
ROOT = Path(__file__).resolve().parents[2]
COMMON = ["-m", "zenopt.train", "--structure", TINY, "--resolution", "32", "--device", "cpu", "--epochs", "2"]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def history(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    options = ["--data", "synthetic:160", "--set", "batch_size=32", "--set", "sync_bn=true"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    together = [*launcher, *COMMON, *options, "--output", str(tmp_path / "two")]
    started = subprocess.Popen(together, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True)
    torch.set_num_threads(1)
    main(["train", *COMMON[2:], *options, "--output", str(tmp_path / "one")])
    _, errors = started.communicate(timeout=900)
    assert started.returncode == 0, errors
    for one, two in zip(history(tmp_path / "one"), history(tmp_path / "two"), strict=True):
        # Only the order of additions differs.
        assert one["train_loss"] == pytest.approx(two["train_loss"], rel=1e-4)
        assert one["test_loss"] == pytest.approx(two["test_loss"], rel=1e-3)
    one, two = weights(tmp_path / "one" / "last.pt"), weights(tmp_path / "two" / "last.pt")
    for key, value in one.items():
        assert torch.allclose(value.float(), two[key].float(), rtol=1e-2, atol=1e-3), key


@pytest.mark.slow
def test_a_killed_run_ends_with_the_weights_of_an_unharmed_one(tmp_path: Path) -> None:
    options = ["--data", "synthetic:320", "--set", "batch_size=16", "--set", "ema_decay=0.99"]
    options += [
        "--set",
        "model.drop_path=0.2",
        "--set",
        "augment.policy=trivialaugment",
        "--checkpoint-steps",
        "3",
    ]
    whole = [sys.executable, *COMMON, *options, "--output", str(tmp_path / "whole"), "--loader-workers", "0"]
    subprocess.run(whole, cwd=ROOT, env=environment(), check=True, capture_output=True, timeout=900)
    cut = [sys.executable, *COMMON, *options, "--output", str(tmp_path / "cut"), "--loader-workers", "0"]
    chance, kills = random.Random(0), 0
    while kills < 3:
        last = tmp_path / "cut" / "last.pt"
        before = last.stat().st_mtime_ns if last.exists() else 0
        run = subprocess.Popen(
            [*cut, "--auto-resume"], cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL
        )
        # Killed a moment after it has written one new checkpoint; later ones wait for more.
        for _ in range(kills + 1):
            while run.poll() is None and not (last.exists() and last.stat().st_mtime_ns != before):
                time.sleep(0.01)
            before = last.stat().st_mtime_ns
        time.sleep(chance.uniform(0, 0.05))
        if run.poll() is not None:
            break
        run.send_signal(signal.SIGKILL)
        run.wait()
        kills += 1
    assert kills >= 1
    subprocess.run(
        [*cut, "--auto-resume"], cwd=ROOT, env=environment(), check=True, timeout=900, capture_output=True
    )
    for name in ("last.pt", "best.pt"):
        one, two = weights(tmp_path / "whole" / name), weights(tmp_path / "cut" / name)
        assert all(torch.equal(value, two[key]) for key, value in one.items())
    assert [row["train_loss"] for row in history(tmp_path / "whole")] == [
        row["train_loss"] for row in history(tmp_path / "cut")
    ]
