"""A name that a file or database holds imports nothing; one that a person gives does, in worker processes too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml
from structures import TINY_NARROW

from zenopt.dashboard.server import Dashboard
from zenopt.export.bundle import Bundle, write_bundle
from zenopt.proxies import registry
from zenopt.study.study import SPEC_KEY, open_existing, read_spec
from zenopt.train.networks import NetworkSource
from zenopt.train.recipe import Recipe

#: Registers a proxy and has a space; whoever imports it leaves a trace.
CANARY = """
from pathlib import Path
from zenopt.proxies import register_proxy
from zenopt.spaces.chain.superres import SuperResSpace

Path(__file__).with_name("imported").touch()

class Space(SuperResSpace):
    pass

@register_proxy("canary", deterministic=True)
def proxy(probe):
    return float(sum(parameter.numel() for parameter in probe.network.parameters()))

def helper(**options):
    Path(__file__).with_name("called").touch()
"""
TINY = TINY_NARROW
URL = "sqlite:///zenopt.db"


@pytest.fixture
def trace(tmp_path: Path, spec_file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put the module ``canary`` where Python finds it; the path is there once it was imported."""
    (tmp_path / "canary.py").write_text(CANARY)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "imported"
    sys.modules.pop("canary", None)
    registry.PROXIES.forget("canary")


def store(spec_file: Path, changes: dict[str, Any]) -> None:
    """Store a study whose spec has names that nobody typed, with three scored trials."""
    from zenopt.study.spec import StudySpec

    spec = StudySpec.load(spec_file).model_dump(mode="json")
    for place, value in changes.items():
        *parts, last = place.split(".")
        level = spec
        for part in parts:
            level = level[part]
        level[last] = value
    study = optuna.create_study(storage=URL, study_name="theirs", direction="maximize")
    study.set_user_attr(SPEC_KEY, json.dumps(spec))
    for score in (1.0, 2.0, 3.0):
        trial = study.ask()
        trial.set_user_attr("structure", TINY)
        trial.set_user_attr("params", 1000)
        study.tell(trial, score)


def checkpoint(path: Path, family: str) -> Path:
    facts = {**NetworkSource("structure", TINY, 16).facts(), "family": family}
    content = {"network": facts, "recipe": Recipe().model_dump(mode="json"), "classes": list("abcdefghij")}
    torch.save({**content, "statistics": "none", "model": {"x": torch.zeros(10, 2)}}, path)
    return path


STORED_STUDIES: list[dict[str, Any]] = [
    {"space.name": "canary:Space"},
    {"proxy.name": "canary:proxy"},
    {"sampler.guide": {"proxy": "canary:proxy", "warm_up": 4}, "sampler.screening": "off"},
    {"sampler.name": "canary:Sampler"},
    {"objective.kind": "canary:Evaluator"},
    {"training.pruner": {"name": "canary:Pruner", "options": {}}},
    {"proxy.name": "vote", "proxy.parts": {"canary:proxy": 1.0, "params": 1.0}},
]


@pytest.mark.parametrize("changes", STORED_STUDIES)
@pytest.mark.parametrize(
    "command",
    [
        ("optimize", "--study-name", "theirs", "--trials", "1"),
        ("optimize", "--study-name", "theirs", "--trials", "1", "--set", "seed=4", "--workers", "2"),
    ],
)
def test_resuming_a_stored_study_imports_nothing(
    zenopt: Callable[..., Any],
    trace: Path,
    spec_file: Path,
    changes: dict[str, Any],
    command: tuple[str, ...],
) -> None:
    store(spec_file, changes)
    result = zenopt(*command)
    assert (result.code, result.err.count("\n")) == (2, 1), result.err
    assert "give --import canary" in result.err
    assert not trace.exists()


@pytest.mark.parametrize("changes", STORED_STUDIES)
@pytest.mark.parametrize(
    "command",
    [
        ("status", "--study", "theirs"),
        ("studies", "--storage", URL),
        ("watch", "--study", "theirs", "--timeout", "0"),
        ("report", "--study", "theirs", "-o", "report.html"),
        ("report", "--study", "theirs", "-o", "best.json", "--figure", "best-trials"),
        ("export-best", "--study", "theirs", "--output", "bundle"),
        ("verify", "--study", "theirs", "--data", "synthetic:20", "--baselines", "0"),
    ],
)
def test_looking_at_a_stored_study_imports_nothing(
    zenopt: Callable[..., Any],
    trace: Path,
    spec_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    command: tuple[str, ...],
) -> None:
    store(spec_file, changes)
    # What would be trained is not what is tested here.
    monkeypatch.setattr("zenopt.verify.compare.compare", lambda *given, **named: [])
    result = zenopt(*command)
    assert not trace.exists()
    if result.code:
        assert (result.code, result.err.count("\n")) == (2, 1), result.err
        assert "give --import canary" in result.err
    # What needs neither space nor proxy works.
    scores = {"space.name", "proxy.name", "objective.kind"} & set(changes)
    needs = {"export-best": bool(scores), "verify": "space.name" in changes}
    assert (result.code != 0) == needs.get(command[0], False), result.err


def test_a_report_without_the_space_says_what_is_missing(
    zenopt: Callable[..., Any], trace: Path, spec_file: Path
) -> None:
    store(spec_file, {"space.name": "canary:Space"})
    assert zenopt("report", "--study", "theirs", "-o", "report.html").code == 0
    text = Path("report.html").read_text()
    assert "no pictures of networks" in text and "--import canary" in text
    assert "Top networks side by side" not in text
    assert zenopt("report", "--study", "theirs", "-o", "full.html", "--import", "canary").code == 0
    assert "Top networks side by side" in Path("full.html").read_text()
    assert trace.exists()


def test_the_dashboard_imports_nothing_and_shows_the_other_studies(trace: Path, spec_file: Path) -> None:
    store(spec_file, {"space.name": "canary:Space"})
    with Dashboard(URL, 0) as dashboard:
        dashboard.update()
        studies = dashboard.mirror.get_all_studies()
        notes = [text for key, text in studies[0].system_attrs.items() if "note" in key]
    assert not trace.exists()
    assert any("--import canary" in str(note) for note in notes)


@pytest.mark.parametrize("family", ["canary:Space", "canary:helper"])
@pytest.mark.parametrize(
    "command",
    [
        ("describe", "bundle"),
        ("score", "bundle"),
        ("latency", "predict", "bundle", "--device", "v100-fp16-b64"),
        ("train", "--bundle", "bundle", "--data", "synthetic:20", "--output", "run"),
        ("evaluate", "--bundle", "bundle", "--weights", "w.pt", "--data", "synthetic:20"),
        ("evaluate", "--weights", "w.pt", "--data", "synthetic:20"),
        ("deploy", "--weights", "w.pt", "--output", "deployed"),
        (
            "train", "--structure", TINY, "--resolution", "16", "--data", "synthetic:20", "--output", "run",
            "--set", "distill={teacher: 'bundle:bundle', weights: w.pt}",
        ),
    ],
)  # fmt: skip
def test_bundles_and_checkpoints_import_nothing(
    zenopt: Callable[..., Any], trace: Path, family: str, command: tuple[str, ...]
) -> None:
    write_bundle(Bundle(TINY, 16, 10, family=family, block_modules={}), "bundle")
    checkpoint(Path("w.pt"), family)
    result = zenopt(*command)
    assert (result.code, result.err.count("\n")) == (2, 1), result.err
    assert "give --import canary" in result.err
    assert not trace.exists()
    if family == "canary:helper":
        # Imported, a module's other functions are still nothing that a file may call.
        result = zenopt(*command, "--import", "canary")
        assert (result.code, result.err.count("\n")) == (2, 1), result.err
        assert "is no class that derives from zenopt.spaces.BaseSpace" in result.err
        assert not trace.with_name("called").exists()


@pytest.mark.parametrize("name", ["subprocess:Popen", "os:system", "builtins:exec", "zenopt.cli:main"])
def test_loaded_modules_lend_nothing_to_files(zenopt: Callable[..., Any], trace: Path, name: str) -> None:
    write_bundle(Bundle(TINY, 16, 10, family=name, block_modules={}), "bundle")
    result = zenopt("describe", "bundle")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "is no class that derives" in result.err or "--import" in result.err


def test_learned_scores_and_tables_import_nothing(
    zenopt: Callable[..., Any], trace: Path, spec_file: Path
) -> None:
    from zenopt.predictors.learned import FORMAT

    content: dict[str, Any] = {
        "format": FORMAT, "facts": {}, "features": [], "mean": [0.0], "scale": [1.0], "inputs": [[0.0]],
        "settings": {"resolution": 8, "num_classes": 10, "batch_size": 2}, "weights": [1.0],
        "kernel": {"length": None, "slope": 1.0, "noise": 0.1}, "references": {"canary:proxy": [1.0]},
    }  # fmt: skip
    Path("learned.json").write_text(json.dumps(content))
    result = zenopt("score", TINY, "--proxy", "learned:learned.json", "--resolution", "8")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "give --import canary" in result.err and not trace.exists()
    # One that is learned from itself has no end.
    Path("own.json").write_text(json.dumps({**content, "references": {"learned:own.json": [1.0]}}))
    result = zenopt("score", TINY, "--proxy", "learned:own.json", "--resolution", "8")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "learned from itself" in result.err
    # A study file that a table names is no person's.
    spec = yaml.safe_load(spec_file.read_text())
    spec["space"]["name"] = "canary:Space"
    Path("theirs.yaml").write_text(yaml.safe_dump(spec))
    Path("table.csv").write_text("structure,latency_ms\n" + "theirs.yaml,1.0\n" * 5)
    result = zenopt("latency", "fit", "--csv", "table.csv", "--output", "p.json", "--device-name", "x")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "give --import canary" in result.err and not trace.exists()


def test_what_a_person_names_is_imported(zenopt: Callable[..., Any], trace: Path, spec_file: Path) -> None:
    assert zenopt("score", TINY, "--proxy", "canary:proxy", "--resolution", "8", "--json").code == 0
    assert trace.exists()


def test_overrides_of_a_stored_study_are_a_persons(
    zenopt: Callable[..., Any], trace: Path, spec_file: Path
) -> None:
    store(spec_file, {})
    result = zenopt("optimize", "--study-name", "theirs", "--trials", "1", "--set", "proxy.name=canary:proxy")
    # It was imported, and is refused for another reason: the study was made with another proxy.
    assert trace.exists()
    assert "proxy.name" in result.err and result.code == 2


@pytest.mark.slow
def test_own_study_files_in_worker_processes(trace: Path, spec_file: Path, tmp_path: Path) -> None:
    """The whole road: own file, workers, resumed by name, report with and without the module."""
    spec = yaml.safe_load(spec_file.read_text())
    spec["space"]["name"], spec["proxy"]["name"] = "canary:Space", "canary:proxy"
    spec["sampler"]["screening"] = "off"
    spec_file.write_text(yaml.safe_dump(spec))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        trace.unlink(missing_ok=True)
        path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
        return subprocess.run(
            [sys.executable, "-m", "zenopt", *arguments], text=True, capture_output=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, check=False,
        )  # fmt: skip

    first = run("optimize", "--study", str(spec_file), "--trials", "4", "--workers", "2", "--quiet")
    assert first.returncode == 0, first.stderr
    again = run("optimize", "--study-name", "tiny", "--trials", "2", "--workers", "2", "--quiet")
    assert again.returncode == 2 and "give --import canary" in again.stderr and not trace.exists()
    again = run(
        "optimize", "--study-name", "tiny", "--trials", "2", "--workers", "2", "--quiet", "--import", "canary"
    )
    assert again.returncode == 0, again.stderr
    assert len(optuna.load_study(study_name="tiny", storage=URL).trials) == 6
    report = run("report", "--study", "tiny", "-o", "report.html")
    assert report.returncode == 0 and not trace.exists(), report.stderr
    spec_read = read_spec(optuna.load_study(study_name="tiny", storage=open_existing(URL)))
    assert spec_read is not None and spec_read.space.name == "canary:Space"
