"""``zenopt sample``: architectures of presets, files, stored studies and spaces."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest


def test_of_a_preset_a_file_a_stored_study_and_a_space(zenopt: Callable, spec_file: Path) -> None:
    narrow = ("--set", "space.bounds=narrow")
    of_file = zenopt("sample", "--study", str(spec_file), "--count", "4", "--json", *narrow).json
    assert len(of_file["architectures"]) == 4 and of_file["resolution"] == 8
    assert all(item["params"] <= 30_000 and item["feasible"] for item in of_file["architectures"])
    done = zenopt("optimize", "--study", str(spec_file), "--trials", "2", "--workers", "1", *narrow)
    assert done.code == 0, done.err
    assert zenopt("sample", "--study", "tiny", "--count", "4", "--json").json == of_file
    done = zenopt("sample", "--study", "cifar-params1m", "-n", "2", "--set", "budget.params=2e5")
    header, _, *lines = done.out.splitlines()
    assert header.split() == ["params", "MACs", "layers", "architecture"] and len(lines) == 2
    assert all(int(line.split()[0].replace(",", "")) <= 2e5 for line in lines)
    of_space = zenopt("sample", "--space", "darts", "-n", "1", "--json").json
    assert of_space["space"] == "darts" and of_space["resolution"] == 32


def test_files(zenopt: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = zenopt("sample", "--space", "nasbench201", "-n", "3", "--output", "cells.json")
    assert done.out == "cells.json: 3 architectures\n" and "evaluate-architectures" in done.err
    assert len(json.loads(Path("cells.json").read_text())) == 3
    # The command that goes on is of the same study.
    fewer = ("--set", "budget.params=5e5")
    done = zenopt("sample", "--space", "nasbench201", "-n", "3", "--output", "cells.txt", *fewer)
    assert "evaluate-architectures cells.txt --space nasbench201 --set budget.params=5e5" in done.err
    found = zenopt("sample", "--space", "nasbench201", "-n", "3", "--output", "cells.csv", "--json").json
    assert found["output"] == "cells.csv" and Path("cells.csv").read_text().startswith(
        "structure,params,macs"
    )


def test_whole_space_says_what_fits(zenopt: Callable) -> None:
    free = zenopt("sample", "--space", "transnas-macro", "-n", "6", "--json").json["architectures"]
    limit = sorted(item["macs"] for item in free)[3]
    arguments = ("sample", "--space", "transnas-macro", "-n", "6", "--set", f"budget.macs={limit}")
    done = zenopt(*arguments, "--whole-space")
    assert done.out.splitlines()[0].split()[-2:] == ["fits", "architecture"]
    assert {line.split()[-2] for line in done.out.splitlines()[2:]} == {"yes", "no"}
    assert "fits" not in zenopt(*arguments).out


def test_fewer_than_asked_is_said(zenopt: Callable) -> None:
    few = "space.options.operations=[none, skip_connect]"
    done = zenopt("sample", "--space", "nasbench201", "-n", "5000", "--json", "--set", few)
    assert done.code == 0 and 0 < len(done.json["architectures"]) < 5000
    assert "different architectures found, not 5,000" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "either --study"),
        (("--study", "demo", "--space", "darts"), "either --study"),
        (("--space", "nowhere"), "Unknown space 'nowhere'"),
        (("--space", "columns"), "space.options.table"),
        (("--space", "darts", "--set", "budget.parms=1"), "did you mean 'params'"),
        (("--study", "none.yaml"), "does not exist"),
        (("--study", "demo", "--count", "0"), "0 is not in the range"),
        (("--space", "darts", "--output", "x.xlsx"), "must end in .csv or .json or .txt"),
        (("--study", "demo", "-n", "1", "--set", "budget.params=10"), "shrunk into the budget"),
    ],
)
def test_bad_input_is_one_line(
    zenopt: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = zenopt("sample", *arguments)
    assert done.code == 2 and message in done.err and "Traceback" not in done.err and not done.out
    assert list(tmp_path.iterdir()) == []
