"""The worked example of docs/proxies.md."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_example_runs_as_a_script() -> None:
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / "custom_proxy.py")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == 5
    assert lines[0].endswith("SuperConvK1BNRELU(32,64,1,1)")
    assert [line.partition(":")[0] for line in lines[2:]] == ["dead-units", "snip", "naswot"]
    assert all(0.0 <= float(line.split()[0]) <= 1.0 for line in lines[:2])


def test_example_is_found_as_module_and_object(monkeypatch: pytest.MonkeyPatch) -> None:
    from zenopt.proxies import evaluate, get_proxy

    monkeypatch.syspath_prepend(str(EXAMPLES))
    proxy = get_proxy("custom_proxy:dead_units")
    assert (proxy.name, proxy.direction) == ("dead-units", "minimize")
    # Two of three units are off for both inputs.
    network = nn.Sequential(nn.Linear(1, 3, bias=False), nn.ReLU())
    network[0].weight = nn.Parameter(torch.tensor([[1.0], [-1.0], [-2.0]]))
    result = evaluate(network, torch.tensor([[1.0], [2.0]]), None, ["custom_proxy:dead_units"])["dead-units"]
    assert result.value == pytest.approx(2 / 3)
