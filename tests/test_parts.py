"""Parts of long benchmarks: what runs ends with the part, what is done stays, and nobody is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
#: A program that does not end by itself, nor by Ctrl-C.
STUBBORN = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(900)"


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import parts

    return parts


def python(parts: ModuleType, program: str, result: Path | None = None) -> object:
    return parts.Command((sys.executable, "-S", "-c", program), result)


def test_a_chain_keeps_the_results_of_what_has_ended_well(parts: ModuleType, tmp_path: Path) -> None:
    results = [tmp_path / f"{number}.json" for number in range(3)]
    good = [python(parts, f"print({number})", result) for number, result in enumerate(results)]
    bad = [
        python(parts, "print(1); raise SystemExit('no more')", tmp_path / "bad"),
        python(parts, "print(2)", tmp_path / "after"),
    ]
    told: list[tuple[str, int]] = []
    failed = parts.side_by_side(
        {"good": good, "bad": bad, "done": []}, tmp_path, jobs=1, told=lambda *own: told.append(own)
    )
    assert [result.read_text().strip() for result in results] == ["0", "1", "2"]
    assert failed == {"bad": 1} and sorted(told) == [("bad", 1), ("good", 0)]
    assert not (tmp_path / "bad").exists() and not (tmp_path / "after").exists()
    assert "no more" in (tmp_path / "bad.log").read_text()
    assert not (tmp_path / "done.log").exists()


def test_a_part_ends_and_the_next_one_goes_on(
    parts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_PATIENCE_S", 0.2)
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))
    chain = [python(parts, "print('whole')", first), python(parts, STUBBORN, second)]
    chains = {"chain": chain, "other": [python(parts, STUBBORN, other)]}
    # Whether any of them had begun is up to the machine; that the part ends, and what it leaves, is not.
    assert parts.side_by_side(chains, tmp_path, jobs=1, until=time.time() + 1) == {}
    assert not second.exists() and not other.exists()
    left = [own for own in chain if not own.result.exists()]
    quick = {"chain": [*left[:-1], python(parts, "print('now')", second)]}
    assert parts.side_by_side(quick, tmp_path, jobs=2) == {}
    assert first.read_text() == "whole\n" and second.read_text() == "now\n"


def test_nothing_begins_in_a_part_that_is_over(parts: ModuleType, tmp_path: Path) -> None:
    chains = {"late": [python(parts, "print('begun')", tmp_path / "late")]}
    assert parts.side_by_side(chains, tmp_path, jobs=1, until=time.time() - 1) == {}
    assert not (tmp_path / "late.log").exists() and not (tmp_path / "late").exists()


def test_a_command_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    child = (
        f"import sys, time; sys.path.insert(0, {str(BENCHMARKS)!r}); import parts\n"
        "parts.watch_parent(int(sys.argv[1])); print('watches', flush=True); time.sleep(900)"
    )
    driver = (
        "import os, subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-S', '-c', {child!r}, str(os.getpid())]); time.sleep(900)"
    )
    with subprocess.Popen([sys.executable, "-S", "-c", driver], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"watches\n"
        os.kill(process.pid, signal.SIGKILL)
        # The end of the pipe: nobody has it open any more.
        assert process.stdout.read() == b""


def test_real_trainings_hand_their_options_on(
    parts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import real_trainings

    started: dict[str, list[str]] = {}

    def begin(chains: dict[str, list[Any]], logs: Path, **how: object) -> dict[str, int]:
        assert logs == tmp_path and how == {"jobs": 4, "until": 4711.0, "has_clocks": True}
        started.update({name: list(command.words) for name, (command,) in chains.items()})
        return {}

    monkeypatch.setattr(parts, "side_by_side", begin)
    words = "--data imagefolder:here --marks 15 --methods random,surrogate --seed 0,1 --epochs 3 --jobs 4 --until 4711"
    monkeypatch.setattr(sys, "argv", ["real_trainings.py", *words.split(), "--output", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        real_trainings.main()
    assert end.value.code == parts.UNFINISHED
    assert "4 of 4 results are not there yet" in capsys.readouterr().out
    assert set(started) == {"random-0", "random-1", "surrogate-0", "surrogate-1"}
    # Each is a process of the same program with one method and seed, which ends with this one.
    text = " ".join(started["surrogate-1"])
    assert "--methods surrogate --seed 1 --data imagefolder:here" in text and "--epochs 3" in text
    assert f"--parent {os.getpid()} --until 4711.0" in text and "--jobs" not in text
