"""Helpers of the command-line tests: run in this process, or as a real process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from zenopt.cli import main

TINY_SPEC = """\
name: tiny
description: the smallest search that is a search
space:
  name: superres
  options: {stage_strides: [1, 2], stem_stride: 1}
  initial: "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,8,1,8,1)SuperResK3K3(8,16,2,8,1)SuperConvK1BNRELU(16,16,1,1)"
  narrow: {slots: 2, max_depth: 2, max_width: 32, max_bottleneck: 16, max_head: 32}
resolution: 8
num_classes: 10
budget:
  params: 3.0e+4
  layers: 8
proxy:
  name: zen
  batch_sizes: {cpu: 4, cuda: 8}
sampler:
  name: zen
  screening_candidates: 20
trials: 5
seed: 7
"""


@dataclass
class Result:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def spec_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny spec, with the test's folder as the working folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_SPEC)
    return path


@pytest.fixture
def zenopt(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run a command in this process."""

    def run(*arguments: str) -> Result:
        capfd.readouterr()
        code = 0
        try:
            main(list(arguments))
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command as a process of its own process group; whatever still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def launch(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "zenopt", *arguments],
            cwd=cwd,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield launch
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
