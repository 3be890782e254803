from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import optuna
import pytest

from zenopt.cli import health as doctor
from zenopt.cli import main


def run(*arguments: str) -> int:
    try:
        main([*arguments])
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def test_a_working_environment(study: optuna.Study, url: str, capsys: pytest.CaptureFixture) -> None:
    assert run("doctor", "--storage", url, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["healthy"]
    areas = [finding["area"] for finding in content["findings"]]
    assert {"python", "packages", "devices", "files", "disk", "storage"} <= set(areas)
    packages = next(found["text"] for found in content["findings"] if found["area"] == "packages")
    assert f"optuna {metadata.version('optuna')}" in packages


def test_a_missing_storage_fails_and_is_not_created(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "none.db"
    assert run("doctor", "--storage", f"sqlite:///{path}") == 1
    output = capsys.readouterr().out
    assert "FAIL  storage" in output and "1 problem found." in output
    assert not path.exists()


def test_missing_and_old_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [
        "no-such-package>=1",
        "optuna>=999",
        "click>=8",
        'no-such-driver>=3; extra == "postgres"',
        'pytest>=8; extra == "test"',
        'no-such-thing; python_version < "3.0"',
    ]
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    found = list(doctor._packages())
    assert [(finding.status, finding.text) for finding in found if finding.status != "ok"] == [
        ("bad", "no-such-package is not installed"),
        ("bad", f"optuna {metadata.version('optuna')} is not >=999"),
        ("info", "optional, for postgres: no-such-driver is not installed"),
    ]
    assert "pip install 'no-such-package>=1'" in found[0].remedy
    assert "zenopt[postgres]" in found[-1].remedy


def test_a_broken_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (found,) = doctor._devices()
    assert found.status == "bad" and "torch" in found.text


def test_damaged_presets_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zenopt.study.spec

    (tmp_path / "broken.yaml").write_text("name: broken\nresolution: none\n", encoding="utf-8")
    monkeypatch.setattr(zenopt.study.spec, "STUDIES_FOLDER", tmp_path)
    found = doctor._own_files()
    assert found.status == "bad" and "broken" in found.text


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom zenopt.cli import main\n"
        "for name in ('report', 'dashboard', 'watch', 'doctor'):\n"
        "    try: main([name, '--help'])\n"
        "    except SystemExit as error: assert not error.code\n"
        "heavy = {'torch', 'optuna', 'plotly', 'numpy', 'sqlalchemy', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
