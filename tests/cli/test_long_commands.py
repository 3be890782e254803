"""Every command that takes long, on a real terminal of 80 and of 120 columns: what it shows, and what it leaves."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from terminal import Terminal, watch

from zenopt.cli import main

WIDTHS = pytest.mark.parametrize("columns", [80, pytest.param(120, marks=pytest.mark.slow)])
#: A bar of rich's, whatever is done.
BAR = re.compile(r"[━╸╺]{4,}|[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]")


def on_terminal(columns: int, *arguments: str) -> Terminal:
    """Run a command; its screen must not show a bar at the end, nor a torn line at any time."""
    codes = []

    def work() -> None:
        try:
            main(list(arguments))
        except SystemExit as error:
            codes.append(error.code)

    seen = watch(columns, work)
    assert codes in ([], [0]), seen.lines
    assert not [line for line in seen.lines if BAR.search(line)]
    for frame in seen.frames:
        # The bar is the last thing on the screen: two lines at most, and whole ones.
        bars = [number for number, line in enumerate(frame) if BAR.search(line)]
        assert len(bars) <= 1 and all(number >= len(frame) - 2 for number in bars), frame
    return seen


def shown(seen: Terminal, pattern: str) -> list[str]:
    """Return the two lines of the last picture with a bar that fits a pattern."""
    for frame in reversed(seen.frames):
        found = [number for number, line in enumerate(frame) if BAR.search(line) and re.search(pattern, line)]
        if found:
            return frame[found[-1] :]
    raise AssertionError(f"nothing on the screen fits {pattern!r}: {[frame[-2:] for frame in seen.frames]}")


def general(lines: list[str]) -> list[str]:
    """Return lines with their numbers made alike, and what a rate counts by."""
    lines = [re.sub(r"\bper (second|minute|hour|s|min|h)\b", "per UNIT", line) for line in lines]
    return [re.sub(r"\d[\d,.]*\d|\d", "#", line) for line in lines]


@pytest.fixture
def study(spec_file: Path, zenopt: Callable) -> Path:
    """A stored study of four trials in the working folder; the file of its spec."""
    assert (
        zenopt("optimize", "--study", str(spec_file), "--trials", "4", "--workers", "1", "--quiet").code == 0
    )
    return spec_file


@WIDTHS
def test_optimize(spec_file: Path, columns: int) -> None:
    seen = on_terminal(columns, "optimize", "--study", "tiny.yaml", "--trials", "20", "--workers", "1")
    lines = general(seen.lines)
    assert lines[:4] == [
        "Study tiny in sqlite:///zenopt.db",
        "Budget: params <= #, layers <= # (true counts)",
        "Score: zen, batch #; sampler zen, # worker.",
        "# trials in # s, # per UNIT.",
    ]
    assert lines[4] == "Study tiny: # trials, # complete, # pruned, # running, # failed."
    assert lines[5].startswith("Best: trial #, score # (batch #)")
    assert lines[-3].startswith("Next:  zenopt status --study tiny")
    bar, facts = shown(seen, r"[1-9]\d*/20 trials")
    assert re.fullmatch(r"\d+/20 trials [━╸╺]+ +\d+% \d:\d\d(, \d:\d\d left)?", bar) and len(bar) <= columns
    assert re.fullmatch(r"best [\d.]+  feasible \d+%", facts)


@WIDTHS
def test_optimize_with_a_line_per_trial(spec_file: Path, columns: int) -> None:
    seen = on_terminal(
        columns, "optimize", "--study", "tiny.yaml", "--trials", "5", "--workers", "1", "--verbose"
    )
    numbers = [line.split()[1] for line in seen.lines if line.startswith("trial ")]
    assert numbers == ["0", "1", "2", "3", "4"]


@WIDTHS
def test_quiet_shows_nothing_but_the_summary(spec_file: Path, columns: int) -> None:
    seen = on_terminal(
        columns, "optimize", "--study", "tiny.yaml", "--trials", "5", "--workers", "1", "--quiet"
    )
    assert general(seen.lines)[0] == "# trials in # s, # per UNIT."
    assert not any(BAR.search(line) for frame in seen.frames for line in frame)


@WIDTHS
def test_export_best(study: Path, columns: int) -> None:
    seen = on_terminal(columns, "export-best", "--output", "bundle", "--top", "3", "--repeats", "300")
    lines = general(seen.lines)
    assert lines[0] == "Scoring the best of study tiny again, # fresh draws each."
    assert lines[1] == "trial  search score  fresh mean +- std"
    assert any(line.startswith("Exported trial # to bundle: # params, # MACs, # layers") for line in lines)
    assert any(line.startswith("Next:  zenopt describe bundle") for line in lines)
    bar = shown(seen, r"\d/3 candidates")
    assert len(bar[0]) <= columns
    assert any(re.search(r"best [\d.]+  of trial \d", line) for frame in seen.frames for line in frame)


@WIDTHS
def test_watch(study: Path, columns: int) -> None:
    seen = watch(columns, lambda: main(["watch", "--until-idle", "--interval", "0.1"]))
    assert seen.lines[0].startswith("tiny  ")
    assert general(seen.lines)[1] == "trials #/#  best #  feasible #%  per UNIT #  workers #"
    assert seen.lines[2] == "The latest that were better than all before them:"
    header = seen.lines[3].split()
    assert header == ["trial", "score", "params", "MACs", "structure"]
    assert all(len(line) <= columns for line in seen.lines)
    assert [line for line in seen.lines if line.startswith("Next:  zenopt report --study tiny")]


@WIDTHS
def test_watch_tears_no_fact_apart(columns: int) -> None:
    from rich.console import Console
    from rich.live import Live

    from zenopt.cli.watch import _FactLines

    facts = [
        ("trials", "123,456/200,000"),
        ("best", "129.490"),
        ("feasible", "98%"),
        ("per s", "12.34"),
        ("workers", "16 (+2 dead)"),
        ("left", "12:34:56"),
        ("failed", "1,234"),
    ]

    def work() -> None:
        with Live(_FactLines(facts), console=Console(), auto_refresh=False):
            pass

    joined = "  ".join(watch(columns, work).lines)
    assert joined == "  ".join(f"{label} {text}" for label, text in facts)


@WIDTHS
def test_correlate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.chdir(tmp_path)
    operations = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    cells = [f"|{a}~0|+|{b}~0|{a}~1|+|{b}~0|{a}~1|{b}~2|" for a in operations[2:] for b in operations[2:]]
    rows = [f"{cell},{number}" for number, cell in enumerate(cells)]
    Path("table.csv").write_text("\n".join(["arch_str,acc", *rows]) + "\n")
    seen = on_terminal(
        columns, "correlate", "--table", "table.csv", "--columns", "acc", "--proxies", "params,snip",
        "--batch-size", "4", "--resolution", "16",
    )  # fmt: skip
    assert seen.lines[0] == "acc"
    assert re.fullmatch(r"proxy +Spearman +95 % interval +Kendall +top +n +s/arch", seen.lines[1])
    assert [line.split()[0] for line in seen.lines[3:5]] == ["params", "snip"]
    assert shown(seen, r"\d/9 architectures")


@pytest.mark.slow
@WIDTHS
def test_calibrate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec_file: Path, columns: int) -> None:
    seen = on_terminal(
        columns, "latency", "calibrate", "--study", "tiny.yaml", "--batch", "2", "--threads", "1", "--clock", "cpu",
        "--seconds", "1.5", "--held-out", "3", "--output", "mine.json", "--force",
    )  # fmt: skip
    lines = general(seen.lines)
    assert lines[0].startswith("Measured # networks and # blocks; next, # networks")
    assert any(line.startswith("mine.json: ") for line in lines)
    assert "held-out reference times (# visits each) have a standard error of #%." in " ".join(
        line.strip() for line in lines
    )
    assert shown(seen, r"/2 seconds +[━╸╺]+")
    assert shown(seen, r"\d+/\d+ visits")
    assert any(
        re.search(r"networks \d+  blocks \d+  round \d", line) for frame in seen.frames for line in frame
    )


@pytest.mark.slow
@WIDTHS
def test_verify(study: Path, columns: int) -> None:
    seen = on_terminal(
        columns, "verify", "--data", "synthetic:64", "--epochs", "1", "--top", "2", "--baselines", "1",
        "--workers", "1", "--set", "batch_size=32",
    )  # fmt: skip
    lines = general(seen.lines)
    assert lines[0] == "Looking for baselines of the same budget."
    assert lines[1] == "Training # networks for # epoch."
    trained = [line for line in seen.lines if re.search(r" lr [\d.]+ +seed 0  top-1 .* s$", line)]
    assert len(trained) == len(set(trained)) == int(seen.lines[1].split()[1])
    assert any(line.startswith("found by") for line in seen.lines)
    assert re.search(r"best [\d.]+ %", shown(seen, r"\d/\d trainings")[-1])
    assert all(len(frame_line) <= columns for frame in seen.frames for frame_line in frame)


@pytest.mark.slow
@WIDTHS
def test_second_stage(tmp_path: Path, spec_file: Path, columns: int) -> None:
    arguments = (
        "optimize", "--study", "tiny.yaml", "--trials", "8", "--workers", "1", "--set", "objective.then=train",
        "--set", "training.data=synthetic:64", "--set", "training.epochs=1", "--set", "training.rates=[0.1, 0.2]",
    )  # fmt: skip
    seen = on_terminal(columns, *arguments)
    lines = general(seen.lines)
    steps = [line for line in lines if line.startswith(("Choosing among", "Training "))]
    assert steps[0].startswith("Choosing among # learning rates for each of # class")
    assert steps[-1] == "Training the winner on all # images."
    # What one part trained and the next one reads again is told once.
    told = [re.sub(r"top-1.*", "", line) for line in seen.lines if re.search(r"lr [\d.]+ +seed", line)]
    assert told and len(told) == len(set(told))
    assert re.search(r"best [\d.]+ %", shown(seen, r"\d/\d+ trainings")[-1])
