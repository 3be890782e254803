"""What commands import before they know what is asked, and how early they notice what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zenopt.cli import COMMANDS
from zenopt.cli.latency import latency
from zenopt.proxies.catalogue import BUILTIN
from zenopt.proxies.registry import get_proxy

HEAVY = {"torch", "torchvision", "optuna", "sqlalchemy", "plotly", "rich", "timm", "numpy"}


def run(
    folder: Path, *arguments: str, environment: dict[str, str] | None = None
) -> tuple[int, set[str], str]:
    """Run a command in a process of its own; return its exit code, which heavy packages it imported, and stderr."""
    code = (
        "import json, sys\nfrom zenopt.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as error:\n    code = error.code\nelse:\n    code = 0\n"
        f"heavy = sorted({HEAVY!r} & set(sys.modules))\n"
        "open('seen.json', 'w').write(json.dumps([int(code or 0), heavy]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    code, heavy = json.loads((folder / "seen.json").read_text())
    return code, set(heavy), done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("studies",), ("studies", "--json"), ("models",), ("proxies",), ("components",), ("latency", "devices")],
    ids=" ".join,
)
def test_lists_import_nothing_heavy(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert run(tmp_path, *arguments)[:2] == (0, set())


def test_no_help_imports_anything_heavy(tmp_path: Path) -> None:
    names = [*([name] for name in COMMANDS), *(["latency", name] for name in latency.commands)]
    code = (
        "import sys\nfrom zenopt.cli import main\n"
        f"for name in {names!r}:\n"
        "    try: main([*name, '--help'])\n"
        "    except SystemExit as error: assert not error.code, name\n"
        f"    assert not {HEAVY!r} & set(sys.modules), (name, {HEAVY!r} & set(sys.modules))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(("typed", "found"), [("optimize --study ", "demo"), ("score x --proxy ", "zen")])
def test_completion_imports_nothing_heavy(tmp_path: Path, typed: str, found: str) -> None:
    asked = {
        "_ZENOPT_COMPLETE": "bash_complete",
        "COMP_WORDS": f"zenopt {typed}",
        "COMP_CWORD": str(len(typed.split()) + 1),
    }
    code = (
        "import sys\nfrom zenopt.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        f"print('heavy:', *sorted({HEAVY!r} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    *completed, heavy = done.stdout.splitlines()
    assert f"plain,{found}" in completed and heavy == "heavy:"


MISSING = [
    (("describe", "no-bundle"), "no-bundle"),
    (("score", "no-bundle"), "no-bundle"),
    (("latency", "predict", "no-bundle", "--device", "v100-fp16-b64"), "no-bundle"),
    (("latency", "measure", "no-bundle"), "no-bundle"),
    (("latency", "calibrate", "--output", "file/x.json"), "Cannot write file/x.json"),
    (("verify", "--data", "imagefolder:none"), "folder none does not exist"),
    (("verify", "--data", "synthetic", "--export", "file"), "Cannot write bundle file"),
    (("verify", "--data", "synthetic", "--output", "file/runs"), "Cannot write in file/runs"),
    (("export-best", "--output", "full"), "full is not empty"),
    (("export-best", "--output", "file"), "Directory 'file' is a file"),
    (("correlate", "--table", "none.csv", "--proxies", "zen"), "none.csv"),
    (("correlate", "--table", "none.csv", "--proxies", "zeen"), "none.csv"),
    (("correlate", "--table", "table.csv", "--proxies", "zeen"), "zeen"),
    (("correlate", "--table", "table.csv", "--proxies", "zen", "--learn", "file/x"), "Cannot write file/x"),
]


@pytest.mark.parametrize(("arguments", "complaint"), MISSING, ids=lambda item: " ".join(item)[:60])
def test_what_is_missing_is_said_before_torch_is_imported(
    tmp_path: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    (tmp_path / "table.csv").write_text(
        "arch_str,acc\n|none~0|+|none~0|none~1|+|none~0|none~1|none~2|,1\n"
        "|skip_connect~0|+|none~0|none~1|+|none~0|none~1|none~2|,2\n"
    )
    code, heavy, err = run(tmp_path, *arguments)
    assert code == 2 and complaint in err
    assert not heavy & {"torch", "optuna"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_catalogue_says_what_the_proxies_declare() -> None:
    for name, summary in BUILTIN.items():
        proxy = get_proxy(name)
        for field in ("name", "direction", "cost_class", "needs", "description"):
            assert getattr(summary, field) == getattr(proxy, field), (name, field)
