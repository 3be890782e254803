"""Loggers: the same numbers reach every service, packages are imported only when asked for, and a resume goes on."""

from __future__ import annotations

import csv
import subprocess
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from training import Stop

from zenopt.cli.train import train_command
from zenopt.train.data import DataSet
from zenopt.train.distributed import World
from zenopt.train.engine import fit
from zenopt.train.loggers import LOGGERS, LoggerError, Loggers, flat
from zenopt.train.networks import NetworkSource
from zenopt.train.progress import Silent
from zenopt.train.recipe import Recipe

TINY = "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,8,2,8,1)SuperConvK1BNRELU(8,12,1,1)"
SOURCE = NetworkSource.from_structure(TINY, 16)


class Wandb(types.ModuleType):
    """Stands for the package wandb: keeps what it is told, run by run."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.runs: dict[str, dict[str, Any]] = {}

    def init(self, **options: Any) -> Any:
        run = self.runs.setdefault(options["id"], {"rows": [], "ends": [], "options": options, "metrics": []})

        class Run:
            def define_metric(self, name: str, step_metric: str | None = None) -> None:
                run["metrics"].append((name, step_metric))

            def log(self, values: Mapping[str, float]) -> None:
                run["rows"].append(dict(values))

            def finish(self, exit_code: int) -> None:
                run["ends"].append(exit_code)

        return Run()


class Mlflow(types.ModuleType):
    """Stands for the package mlflow."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.runs: dict[str, dict[str, Any]] = {}
        self.current = ""

    def start_run(self, run_id: str | None, run_name: str | None) -> Any:
        self.current = run_id or f"run{len(self.runs)}"
        self.runs.setdefault(self.current, {"name": run_name, "params": {}, "rows": [], "ends": []})
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=self.current))

    def log_params(self, params: Mapping[str, str]) -> None:
        assert len(params) <= 100 and all(len(value) <= 500 for value in params.values())
        self.runs[self.current]["params"].update(params)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self.runs[self.current]["rows"].append((step, dict(metrics)))

    def end_run(self, status: str) -> None:
        self.runs[self.current]["ends"].append(status)


class StopAtStart(Silent):
    """Ends a run when the epoch after so many begins."""

    def __init__(self, epochs: int) -> None:
        self.left = epochs

    def start(self, epoch: int, epochs: int, steps: int, first_step: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise Stop


def train(
    data: DataSet, recipe: Recipe, output: Path, world: World, loggers: list[str], **options: Any
) -> Any:
    return fit(
        SOURCE.build(4), data, recipe, output=output, resolution=16, identity=SOURCE.facts(), world=world,
        loggers=loggers, resume="auto", **options,
    )  # fmt: skip


def test_every_logger_hears_every_epoch_once(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    wandb, mlflow = Wandb(), Mlflow()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    names, folder = ["csv", "tensorboard", "wandb", "mlflow", "csv"], tmp_path / "mine"
    with pytest.raises(Stop):
        train(patches, short, folder, alone, names, observer=StopAtStart(2))
    history = train(patches, short, folder, alone, names).history
    top1 = [row["top1"] for row in history]

    rows = list(csv.DictReader((folder / "log.csv").open()))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert [float(row["accuracy/top1_percent"]) for row in rows] == top1
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("accuracy/top1_percent")] == list(
        zip([1, 2, 3], top1, strict=True)
    )
    # One run each, broken off once and then finished; the epoch before the break is told again and stays the same.
    ((identity, run),) = wandb.runs.items()
    assert run["ends"] == [1, 0] and run["options"]["name"] == "mine" and run["options"]["resume"] == "allow"
    assert (folder / "wandb-run.txt").read_text().strip() == identity
    assert ("*", "step") in run["metrics"] and run["options"]["config"]["recipe"]["epochs"] == 3
    assert [row["step"] for row in run["rows"]] == [1, 2, 2, 3]
    assert {row["step"]: row["accuracy/top1_percent"] for row in run["rows"]} == dict(
        enumerate(top1, start=1)
    )
    ((_, run),) = mlflow.runs.items()
    assert run["ends"] == ["FAILED", "FINISHED"] and run["params"]["recipe.optimizer.lr"] == "0.8"
    assert [step for step, _ in run["rows"]] == [1, 2, 2, 3]
    assert run["rows"][-1][1]["loss/train"] == history[-1]["train_loss"]


def test_a_new_run_in_the_same_folder_is_a_new_run_there(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    once = short.model_copy(update={"epochs": 1})
    train(patches, once, tmp_path, alone, ["wandb"])
    (tmp_path / "last.pt").unlink()
    train(patches, once, tmp_path, alone, ["wandb"])
    assert len(wandb.runs) == 2


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_is_said_before_anything_is_trained(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    module = "torch.utils.tensorboard" if name == "tensorboard" else name
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        LoggerError, match=f"needs the package {name}, which is not installed: pip install {name}"
    ):
        train(patches, short, tmp_path, alone, [name])
    assert not (tmp_path / "last.pt").exists()


def test_a_service_that_fails_on_the_way_ends_no_training(
    patches: DataSet, short: Recipe, tmp_path: Path, alone: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone(Mlflow):
        def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
            if step == 2:
                raise ConnectionError("the server\nis away")
            super().log_metrics(metrics, step)

    class Listens(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    notes: list[str] = []
    mlflow = Gone()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    history = train(patches, short, tmp_path, alone, ["mlflow", "csv"], observer=Listens()).history
    assert len(history) == 3 and len((tmp_path / "log.csv").read_text().splitlines()) == 4
    assert notes == [
        "Logger 'mlflow' failed at step 2 and is left out from here on: ConnectionError: the server is away"
    ]


def test_a_service_that_cannot_be_opened_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuses(Wandb):
        def init(self, **options: Any) -> Any:
            raise RuntimeError("no API key\nconfigured")

    monkeypatch.setitem(sys.modules, "wandb", Refuses())
    with pytest.raises(
        LoggerError, match=r"Logger 'wandb' cannot be opened: RuntimeError: no API key configured"
    ):
        Loggers(["csv", "wandb"], folder=tmp_path, title="x", config={})
    with pytest.raises(LoggerError, match="allowed: csv, tensorboard, wandb, mlflow"):
        Loggers(["log"], folder=tmp_path, title="x", config={})


def test_columns_of_a_csv_file_grow(tmp_path: Path) -> None:
    with Loggers(["csv"], folder=tmp_path, title="x", config={}) as log:
        log.log(1, {"a": 1.0, "b": None})
        log.log(2, {"a": 2.0, "b": 5.0})
        log.log(3, {"a": 3.0})
    assert (tmp_path / "log.csv").read_text() == "step,a,b\n1,1.0,\n2,2.0,5.0\n3,3.0,\n"
    with Loggers(["csv"], folder=tmp_path, title="x", config={}, first_step=2) as log:
        log.log(2, {"a": 9.0})
    assert (tmp_path / "log.csv").read_text() == "step,a,b\n1,1.0,\n2,9.0,\n"


def test_flat() -> None:
    assert flat({"a": 1, "b": {"c": {"d": 2}, "e": []}}) == {"a": 1, "b.c.d": 2, "b.e": []}


def test_the_command_takes_several(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        train_command,
        ["--structure", TINY, "--resolution", "16", "--data", "synthetic:64", "--epochs", "1", "--device", "cpu",
         "--output", str(tmp_path), "--logger", "csv", "--logger", "csv"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert (tmp_path / "log.csv").read_text().startswith("step,loss/train,")
    (option,) = [parameter for parameter in train_command.params if parameter.name == "loggers"]
    assert list(option.type.choices) == list(LOGGERS)  # type: ignore[attr-defined]


def test_packages_are_imported_only_when_asked_for() -> None:
    code = "import sys, zenopt.train.loggers; print([n for n in ('torch', 'wandb', 'mlflow') if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
