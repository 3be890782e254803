"""A person's own `train.py` beside the script must not be taken for ours, however training is begun."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from structures import TINY_QUARTERED

from zenopt.study.spec import StudySpec

ROOT = Path(__file__).resolve().parents[2]
TINY = TINY_QUARTERED
TRAINING = [
    "--structure", TINY, "--resolution", "32", "--data", "synthetic:64", "--epochs", "1", "--device", "cpu",
    "--set", "batch_size=32", "--output", "run",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("train", "data", "engine", "recipe", "training"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('the person own {name}.py was imported')\n")
    return tmp_path


def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "person own" not in done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("module", ["zenopt.train", "zenopt"])
def test_as_a_module(folder: Path, module: str) -> None:
    words = ["-m", module, *(["train"] if module == "zenopt" else []), *TRAINING]
    assert "Next:   zenopt evaluate" in run(folder, *words)
    assert (folder / "run" / "best.pt").is_file()


@pytest.mark.slow
def test_under_torchrun(folder: Path) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    assert "top-1" in run(folder, *launcher, "-m", "zenopt.train", *TRAINING)


@pytest.mark.slow
def test_from_a_script_with_spawned_workers(folder: Path, tiny_spec: Callable[..., StudySpec]) -> None:
    """`Result.train` in this process, and trainings in spawned ones; both import the package anew."""
    spec = tiny_spec(
        training={"epochs": 1, "rates": [0.1], "per_class": 1, "finalists": 1, "seeds": 1},
        sampler={"name": "random"},
    )
    (folder / "spec.json").write_text(spec.model_dump_json(exclude_unset=True))
    (folder / "script.py").write_text(
        textwrap.dedent(
            """
            import json
            from multiprocessing import get_context

            import zenopt
            from zenopt.train.recipe import load_recipe

            if __name__ == "__main__":
                with get_context("spawn").Pool(1) as pool:
                    print(pool.apply(load_recipe, ("basic",)).epochs)
                result = zenopt.optimize(json.load(open("spec.json")), storage="sqlite:///own.db", workers=2)
                winner = result.train("synthetic:160")
                print("trained", len(winner.verified))
            """
        )
    )
    assert "trained" in run(folder, "script.py")


def test_nothing_speaks_of_a_module_named_train() -> None:
    """Documents, notebooks, tests and messages name `zenopt.train` where they mean ours."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a checkout")
    wrong = []
    for name in tracked.stdout.split():
        path = ROOT / name
        if (
            path.suffix not in (".py", ".md", ".ipynb", ".toml", ".cfg", ".yaml", ".yml", "")
            or not path.is_file()
        ):
            continue
        if path == Path(__file__).resolve():
            continue
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            words = line.strip().removeprefix('"').split()
            imports = words[:2] in (["import", "train"], ["from", "train"]) or " ".join(words).startswith(
                "from train."
            )
            if imports or "-m train" in line or "import train;" in line or "zenopt, train" in line:
                wrong.append(f"{name}: {line.strip()}")
    assert not wrong
