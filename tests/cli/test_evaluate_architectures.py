"""``zenopt evaluate-architectures``: values of a list, kept in a study, evaluated once."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

import zenopt as package
from zenopt.core.errors import DataError, StructureError, StudyError
from zenopt.study.spec import StudySpec

NONE, SKIP = (
    f"|{name}~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|" for name in ("none", "skip_connect")
)
CONV = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|none~2|"
CELLS = [SKIP, CONV, NONE]
SPACE = ("--space", "nasbench201", "--workers", "1")
MACS = ("--set", "proxy.name=macs")
#: It goes on to the end only where the file ``go`` is: till then it can be killed in the middle.
SLOW = '''
import os, time
from pathlib import Path
from zenopt.proxies import register_proxy

scored = 0

@register_proxy("slow-macs", cost_class="closed form", kind="architecture", deterministic=True)
def slow(architecture, settings):
    """Multiply-adds; all but the first few when they are waited for."""
    global scored
    from zenopt import count
    while scored == 4 and not Path("go").exists():
        time.sleep(0.05)
    scored += 1
    return count(architecture, settings.resolution, settings.num_classes).macs
'''


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cells.txt").write_text("\n".join([*CELLS, CELLS[0]]))


def trials(name: str = "nasbench201-evaluated") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=name, storage="sqlite:///zenopt.db").trials


def test_a_list_is_evaluated_once(zenopt: Callable) -> None:
    done = zenopt("evaluate-architectures", "cells.txt", *SPACE, *MACS, "--output", "found.csv")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].split() == ["value", "params", "MACs", "architecture"]
    # The best is where the proxy says so.
    values = [zenopt("describe", f"nasbench201:{cell}", "--json").json["macs"] for cell in CELLS]
    assert lines[2].endswith(CONV) and lines[2].split()[0] == f"{max(values):,}"
    assert "Value: macs." in done.out and "zenopt report --study nasbench201-evaluated" in done.err
    rows = list(csv.DictReader(Path("found.csv").read_text().splitlines()))
    assert [float(row["value"]) for row in rows] == sorted(values, reverse=True)
    assert rows[0]["structure"] == CONV and float(rows[0]["macs"]) == max(values)
    assert len(trials()) == 3
    # Nothing twice; what is new is added. What was written is read as well.
    Path("more.json").write_text(
        json.dumps([*CELLS, "|none~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"])
    )
    again = zenopt("evaluate-architectures", "found.csv", *SPACE, *MACS, "--json").json
    assert [item["structure"] for item in again["architectures"]] == [row["structure"] for row in rows]
    assert len(trials()) == 3
    assert (
        len(zenopt("evaluate-architectures", "more.json", *SPACE, *MACS, "--json").json["architectures"]) == 4
    )
    assert len(trials()) == 4 and all(trial.state == optuna.trial.TrialState.COMPLETE for trial in trials())
    other = zenopt("evaluate-architectures", "cells.txt", *SPACE, "--set", "proxy.name=params")
    assert other.code == 2 and 'proxy.name: "macs" -> "params"' in other.err and "--study-name" in other.err
    assert zenopt("status", "--study", "nasbench201-evaluated", "--json").json["complete"] == 4


def test_a_budget_only_says_what_fits(zenopt: Callable) -> None:
    spec = StudySpec.of_space("nasbench201")
    small = package.count(spec.build_space().parse(NONE), 32, 10).params
    limit = ("--set", f"budget.params={small}", *MACS)
    done = zenopt("evaluate-architectures", "cells.txt", *SPACE, *limit)
    assert done.out.splitlines()[0].split()[-2:] == ["fits", "architecture"]
    # Skips cost no parameters; convolutions do.
    assert [line.split()[3] for line in done.out.splitlines()[2:5]] == ["no", "yes", "yes"]
    found = zenopt("evaluate-architectures", "cells.txt", *SPACE, *limit, "--json").json
    assert [item["feasible"] for item in found["architectures"]] == [False, True, True]


def test_by_a_table_whatever_it_lists(zenopt: Callable) -> None:
    Path("table.csv").write_text(f"arch_str,error\n{NONE},9.5\n{CONV},4.5\n")
    table = (
        "objective.kind=table",
        "objective.table=table.csv",
        "objective.column=error",
        "objective.direction=minimize",
    )
    assignments = [word for assignment in table for word in ("--set", assignment)]
    done = zenopt("evaluate-architectures", "cells.txt", *SPACE, *assignments)
    lines = done.out.splitlines()[2:]
    assert [line.split()[0] for line in lines[:3]] == ["4.5", "9.5", "-"]
    assert lines[2].endswith(f"{SKIP} (there is no value of it)") and "Value: table error." in done.out


def test_a_reason_stands_where_there_is_no_value(zenopt: Callable) -> None:
    Path("mine.py").write_text(
        "from zenopt.proxies import register_proxy\nfrom zenopt.core.errors import ProxyError\n"
        "@register_proxy('moody', kind='architecture')\ndef moody(architecture, settings):\n"
        "    if 'skip_connect~0|+' in str(architecture): raise ProxyError('not today')\n    return 1.0\n"
    )
    settings = ("--import", "mine.py", "--set", "proxy.name=moody")
    found = zenopt("evaluate-architectures", "cells.txt", *SPACE, *settings, "--json").json["architectures"]
    assert [item["value"] for item in found] == [1.0, 1.0, None]
    assert found[2]["structure"] == SKIP and "not today" in found[2]["note"]


def test_from_a_pipe(zenopt: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    sampled = zenopt("sample", "--space", "nasbench201", "-n", "2", "--json").out
    monkeypatch.setattr("sys.stdin", io.StringIO(sampled))
    arguments = ("evaluate-architectures", "-", *SPACE, *MACS, "--storage", "memory:")
    found = zenopt(*arguments, "--json").json["architectures"]
    assert {item["structure"] for item in found} == {
        item["structure"] for item in json.loads(sampled)["architectures"]
    }
    monkeypatch.setattr("sys.stdin", io.StringIO("nonsense"))
    done = zenopt(*arguments)
    assert done.code == 2 and "standard input, line 1" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.txt", *SPACE), "none.txt cannot be read"),
        (("cells.txt",), "either --study"),
        (("cells.txt", "--space", "darts"), "cells.txt, line 1"),
        (("cells.txt", *SPACE, "--set", "objective.kind=train"), "training.data"),
        (("cells.txt", *SPACE, "--output", "x.yaml"), "must end in"),
        (("cells.txt", *SPACE, "--set", "objective.kind=table"), "table objective needs"),
        (("cells.txt", *SPACE, "--device", "cuda:99"), "cuda:99"),
        (("cells.txt", "--space", "nasbench201", "--storage", "memory:", "--workers", "2"), "memory"),
    ],
)
def test_bad_input_is_one_line(zenopt: Callable, arguments: tuple[str, ...], message: str) -> None:
    done = zenopt("evaluate-architectures", *arguments)
    assert done.code == 2 and message in done.err and "Traceback" not in done.err and not done.out
    assert not Path("zenopt.db").exists()


def test_from_python() -> None:
    spec = StudySpec.of_space("nasbench201", {"proxy.name": "params"})
    told = []
    found = package.evaluate_architectures(
        [*CELLS, spec.build_space().parse(CONV)], spec, storage="memory:", on_result=told.append
    )
    assert found[0].structure == CONV and len(found) == len(told) == 3
    assert found[0].value == found[0].sample.costs["params"] and found[0].note == ""
    with pytest.raises(StructureError, match="no architecture"):
        package.evaluate_architectures([], spec, storage="memory:")
    with pytest.raises(StructureError):
        package.evaluate_architectures(["x"], spec, storage="memory:")
    with pytest.raises(DataError, match="There is no table"):
        package.evaluate_architectures(
            CELLS,
            spec,
            overrides={"objective.kind": "table", "objective.table": "none.csv", "objective.column": "acc"},
            storage="memory:",
        )


@pytest.mark.slow
def test_trained(zenopt: Callable, folder_data: Path) -> None:
    tiny = [
        "training.epochs=1",
        "training.overrides=[batch_size=4]",
        f"training.data=imagefolder:{folder_data}",
    ]
    given = ["objective.kind=train", "resolution=16", "num_classes=2", "training.held_back=0", *tiny]
    spec = StudySpec.of_space("nasbench-macro", given)
    found = package.evaluate_architectures(["00000000"], spec)
    assert found[0].value is not None and 0 <= found[0].value <= 100 and found[0].seconds
    assert Path("runs", "nasbench-macro-evaluated").is_dir()
    # Its value is known without another training; an export wants a winner, and says how there will be one.
    assert zenopt("derive", "--json").json["architectures"][0]["value"] == found[0].value
    done = zenopt("export-best", "--output", "bundle")
    assert done.code == 2 and "--study-name nasbench-macro-evaluated --trials 0" in done.err


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kill -9 needs POSIX signals")
def test_a_killed_run_goes_on_and_others_join(start: Callable, zenopt: Callable, tmp_path: Path) -> None:
    Path("slow.py").write_text(SLOW)
    assert zenopt("sample", "--space", "nasbench201", "-n", "24", "--output", "many.txt").code == 0
    command = ("evaluate-architectures", "many.txt", "--space", "nasbench201", "--import", "slow.py")
    command += ("--set", "proxy.name=slow-macs")

    def finished() -> int:
        try:
            return sum(trial.state.is_finished() for trial in trials())
        except KeyError:
            return 0

    def run(*more: str) -> subprocess.Popen[str]:
        process: subprocess.Popen[str] = start(*command, *more, cwd=tmp_path)
        return process

    process = run("--workers", "2")
    deadline = time.monotonic() + 300
    while finished() < 4 and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    assert 4 <= finished() <= 8
    Path("go").touch()
    both = [run("--workers", "1", "--json"), run("--workers", "1", "--json")]
    outputs = [process.communicate(timeout=600) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    last = run("--json").communicate(timeout=600)[0]
    found = json.loads(last)["architectures"]
    assert len(found) == 24 and all(item["value"] == item["macs"] for item in found)
    done = [trial for trial in trials() if "duplicate_of" not in trial.user_attrs]
    assert len({trial.user_attrs["structure"] for trial in done}) == len(done) == 24


def test_workers_that_die_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import zenopt.study.queued as queued
    from zenopt.study.search import SearchResult

    def broken(*arguments: object, **named: object) -> SearchResult:
        return SearchResult(0, 1.0, False, 0, ("worker 0 died",), None, False)  # type: ignore[arg-type]

    monkeypatch.setattr(queued, "run_search", broken)
    with pytest.raises(StudyError, match="3 architectures not evaluated: worker 0 died"):
        package.evaluate_architectures(CELLS, StudySpec.of_space("nasbench201"), storage="memory:")
