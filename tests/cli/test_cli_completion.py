"""What the shell completes, as bash asks for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import optuna
import pytest

from zenopt.cli import cli, main
from zenopt.study.spec import list_presets


def complete(line: str, cwd: Path) -> list[str]:
    """Return what bash would be told after the line; each answer is ``type,value``."""
    words = line.split(" ")
    environment = {
        **os.environ, "_ZENOPT_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", "from zenopt.cli import main; main()"],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.split()


def test_commands_and_options(tmp_path: Path) -> None:
    assert {"plain,report"} == set(complete("zenopt rep", tmp_path))
    assert "plain,--compare" in complete("zenopt report --c", tmp_path)


def test_presets_and_files(tmp_path: Path) -> None:
    found = complete("zenopt optimize --study ", tmp_path)
    assert [item.removeprefix("plain,") for item in found] == list_presets()
    assert complete("zenopt optimize --study latency0", tmp_path)[0] == "plain,latency01ms"
    assert complete("zenopt optimize --study mine", tmp_path) == ["file,mine"]


def test_proxies_and_devices(tmp_path: Path) -> None:
    assert "plain,zen-closed-form" in complete("zenopt score --proxy zen", tmp_path)
    assert complete("zenopt correlate --proxies params,synflow-l", tmp_path) == ["plain,params,synflow-log"]
    assert complete("zenopt latency predict --device pixel", tmp_path) == ["plain,pixel2-b1"]


def test_stored_studies(tmp_path: Path) -> None:
    assert complete("zenopt status --study ", tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    for name in ("first", "second", "evil\x1b[2J"):
        optuna.create_study(study_name=name, storage=f"sqlite:///{tmp_path}/zenopt.db")
    shutil.copy(tmp_path / "zenopt.db", tmp_path / "other.db")
    optuna.create_study(study_name="third", storage=f"sqlite:///{tmp_path}/other.db")
    assert complete("zenopt status --study ", tmp_path) == ["plain,first", "plain,second"]
    assert complete("zenopt report --storage sqlite:///other.db --study t", tmp_path) == ["plain,third"]
    (tmp_path / "zenopt.db").write_text("no database", encoding="utf-8")
    assert complete("zenopt status --study ", tmp_path) == []


def test_completing_imports_nothing_heavy() -> None:
    code = (
        "import os, sys\n"
        "os.environ.update(_ZENOPT_COMPLETE='bash_complete', COMP_WORDS='zenopt score --proxy ', COMP_CWORD='3')\n"
        "from zenopt.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'optuna', 'plotly', 'sqlalchemy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell(shell: str) -> None:
    if shell == "bash" and shutil.which("bash") is None:
        pytest.skip("no bash on the PATH")
    environment = {**os.environ, "_ZENOPT_COMPLETE": f"{shell}_source"}
    done = subprocess.run(
        [sys.executable, "-c", "from zenopt.cli import main; main()"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_ZENOPT_COMPLETE" in done.stdout


def test_values_stay_text() -> None:
    command = cli.get_command(click.Context(cli), "report")
    assert command is not None
    study = next(parameter for parameter in command.params if "--study" in parameter.opts)
    assert study.type("anything at all") == "anything at all"


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("optimise --study demo", "did you mean 'optimize'?"),
        ("optimize --study demoo", "did you mean 'demo'?"),
    ],
)
def test_misspelt_names_get_a_hint(line: str, hint: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(line.split())
    assert caught.value.code == 2 and hint in capsys.readouterr().err
