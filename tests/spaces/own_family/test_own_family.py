"""A family of one's own is one file: with no other file changed it searches, exports, trains, verifies and reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import densevgg
import pytest

from zenopt.testing import FamilyTests

FILE = Path(densevgg.__file__)
STUDY = """\
name: own
space: {name: densevgg}
resolution: 16
num_classes: 4
budget: {params: 2.0e+4}
proxy: {name: naswot, batch_size: 4}
sampler: {name: zen, population: 8, tournament: 3}
training: {epochs: 1, overrides: [batch_size=32], finalists: 2, seeds: 2}
trials: 8
"""


class TestDenseVgg(FamilyTests):
    name = "densevgg"
    resolution, num_classes = 16, 4


def zenopt(folder: Path, *arguments: str) -> str:
    """Run a command as a stranger would: in a folder of theirs, naming their file."""
    command = [sys.executable, "-m", "zenopt", arguments[0], "--import", str(FILE), *arguments[1:]]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["zen", "aging", "surrogate", "random", "tpe", "nsga2", "gp"])
def test_two_workers_search_with_every_sampler(tmp_path: Path, sampler: str) -> None:
    (tmp_path / "own.yaml").write_text(STUDY)
    out = zenopt(
        tmp_path, "optimize", "--study", "own.yaml", "--sampler", sampler, "--workers", "2", "--json"
    )
    found = json.loads(out)
    assert found["done"] == 8 and found["failed"] == 0 and found["running"] == 0
    assert found["best"]["structure"].startswith("vgg-")


@pytest.mark.slow
def test_from_search_to_trained_network(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(STUDY)
    zenopt(tmp_path, "optimize", "--study", "own.yaml", "--workers", "2", "--quiet")
    zenopt(tmp_path, "export-best", "--study", "own", "--output", "bundle")
    assert "VggStage(3," in zenopt(tmp_path, "describe", "bundle")
    zenopt(
        tmp_path, "train", "--bundle", "bundle", "--data", "synthetic:64", "--epochs", "1", "--output", "run"
    )
    out = zenopt(
        tmp_path, "verify", "--study", "own", "--data", "synthetic:64", "--epochs", "1", "--top", "2",
        "--baselines", "1", "--set", "batch_size=32", "--workers", "2", "--json",
    )  # fmt: skip
    assert len(json.loads(out)["networks"]) >= 3
    zenopt(tmp_path, "report", "--study", "own", "-o", "own.html")
    page = (tmp_path / "own.html").read_text()
    assert "vgg-" in page and "VggStage" not in page.partition("<body")[0]
    # The bundle's own file builds the network without zenopt.
    script = "import model, torch; print(tuple(model.build().eval()(torch.zeros(1, 3, 16, 16)).shape))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path / "bundle", capture_output=True, text=True
    )
    assert done.stdout.strip() == "(1, 4)", done.stderr


@pytest.mark.slow
def test_trainings_as_the_objective(tmp_path: Path) -> None:
    """Two workers train every trial; a second command adds to the study, and the winner is written with weights."""
    (tmp_path / "own.yaml").write_text(STUDY)
    options = (
        "--set",
        "objective.kind=train",
        "--set",
        "training.data=synthetic:64",
        "--workers",
        "2",
        "--json",
    )
    found = json.loads(zenopt(tmp_path, "optimize", "--study", "own.yaml", "--trials", "4", *options))
    assert found["done"] == 4 and found["trained"]["verified"][0]["candidate"]["structure"].startswith("vgg-")
    found = json.loads(zenopt(tmp_path, "optimize", "--study-name", "own", "--trials", "2", "--json"))
    assert found["done"] == 2
    zenopt(tmp_path, "export-best", "--study", "own", "--output", "bundle")
    assert (tmp_path / "bundle" / "best.pt").is_file()
