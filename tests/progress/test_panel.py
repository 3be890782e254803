"""The progress panel on a real terminal, in a pipe, in a notebook, and where nobody wants it."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from notebooks import notebook_of, run_notebook
from terminal import Terminal, watch

from zenopt.progress.panel import Panel, State

WIDTHS = [80, 120]


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def frame_with(terminal: Terminal, text: str) -> list[str]:
    """Return the last picture that shows a text."""
    return next(frame for frame in reversed(terminal.frames) if any(text in line for line in frame))


@pytest.mark.parametrize("columns", WIDTHS)
def test_the_bar_is_two_lines_below_the_notes_and_goes(columns: int) -> None:
    def work() -> None:
        clock = Clock()
        with Panel(clock=clock) as panel:
            panel.note("Study demo in sqlite:///zenopt.db")
            panel.note("Sampler zen, [2] workers.")
            panel.start(300, "trial")
            for _ in range(75):
                clock.now += 0.5
                panel.advance(best=104.21739, feasible="98%", long="x" * 200)
            panel.finish("75 trials.")

    seen = watch(columns, work)
    assert seen.lines == ["Study demo in sqlite:///zenopt.db", "Sampler zen, [2] workers.", "75 trials."]
    frame = frame_with(seen, "75/300")
    assert frame[:2] == seen.lines[:2]
    assert re.fullmatch(r"75/300 trials [━╸╺]+ +25% 0:38, 1:52 left", frame[2])
    assert frame[3].startswith("best 104.22  feasible 98%  long xxx") and frame[3].endswith("…")
    assert len(frame) == 4 and {len(line) for line in frame[2:]} == {columns}


@pytest.mark.parametrize("columns", WIDTHS)
def test_what_others_print_goes_above_the_bar(columns: int) -> None:
    def work() -> None:
        with Panel() as panel:
            panel.start(2, "network")
            panel.advance()
            click.echo("Warning: by click", err=True)
            print("by print")
            sys.stderr.write("in two ")
            sys.stderr.write("halves\nand no end")
        print("The summary.")

    seen = watch(columns, work)
    assert seen.lines == ["Warning: by click", "by print", "in two halves", "and no end", "The summary."]
    assert any(re.match(r"1/2 networks [━╸╺]+ +50%", frame[-1]) for frame in seen.frames if frame)


@pytest.mark.parametrize("columns", WIDTHS)
def test_a_long_note_breaks_between_words(columns: int) -> None:
    words = " ".join(f"word{number}" for number in range(40))

    def work() -> None:
        with Panel() as panel:
            panel.start(2, "network")
            panel.note(words)

    seen = watch(columns, work)
    assert " ".join(seen.lines) == words and len(seen.lines) > 2
    assert all(columns - 8 <= len(line) <= columns for line in seen.lines[:-1])


@pytest.mark.parametrize("columns", WIDTHS)
def test_an_error_leaves_no_bar_behind(columns: int) -> None:
    def work() -> None:
        streams = sys.stdout, sys.stderr
        with pytest.raises(ZeroDivisionError), Panel() as panel:
            panel.start(None, "class")
            panel.advance(12)
            raise ZeroDivisionError
        assert (sys.stdout, sys.stderr) == streams
        click.echo("Error: divided", err=True)

    seen = watch(columns, work)
    assert seen.lines == ["Error: divided"]
    assert frame_with(seen, "12 classes")


def test_a_redirected_stdout_gets_its_own_lines(tmp_path: Path) -> None:
    code = (
        "from zenopt.progress.panel import Panel\n"
        "with Panel() as panel:\n    panel.start(1, 'trial'); print('result'); panel.note('seen')\n"
    )
    out = tmp_path / "out.txt"
    with out.open("w") as file:
        seen = watch(80, lambda: subprocess.run([sys.executable, "-c", code], stdout=file, check=True))
    assert out.read_text() == "result\n" and seen.lines == ["seen"]


def test_plain_lines_come_ever_less_often() -> None:
    stream, clock = io.StringIO(), Clock()
    with Panel(stream=stream, clock=clock) as panel:
        panel.note("Study demo")
        panel.start(4000, "trial")
        for _ in range(4000):
            clock.now += 1.0
            panel.advance(best=1.5)
        panel.finish("done")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "Study demo" and lines[-1] == "done"
    assert lines[1] == "10/4,000 trials  0%  0:10, 1:06:30 left  best 1.5"
    assert lines[-2] == "4,000/4,000 trials  100%  1:06:40, 0:00 left  best 1.5"
    assert 30 < len(lines) < 60


def test_a_short_part_has_no_line() -> None:
    stream = io.StringIO()
    with Panel(stream=stream) as panel:
        panel.start(2, "trial")
        panel.advance(2)
        panel.start(2, "visit")
        panel.advance(2)
        panel.finish()
    assert stream.getvalue() == ""


def test_a_terminal_that_cannot_be_drawn_over_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")

    def work() -> None:
        with Panel() as panel:
            panel.start(2, "trial")
            panel.advance()
            panel.note("one line")

    assert watch(80, work).lines == ["one line"]


def test_quiet_is_silent() -> None:
    stream = io.StringIO()
    with Panel(quiet=True, stream=stream) as panel:
        panel.note("a")
        panel.start(1, "trial")
        panel.advance()
        panel.finish("b")
    assert stream.getvalue() == ""


def test_counts_and_shares_in_words() -> None:
    clock = Clock()
    state = State(clock)
    assert state.count == "starting" and state.share is None
    state.begin(1, "trial", None)
    assert state.count == "0/1 trial" and state.times == "0:00"
    state.begin(None, "class", None)
    state.add(1, {"best": 1, "none": None})
    assert state.count == "1 class" and state.facts_text == "best 1"
    state.begin(1200, "trial", 60.0)
    clock.now += 30
    state.add(12, {"best": None})
    assert (state.count, state.share, state.seconds_left) == ("12/1,200 trials", 0.5, 30.0)
    assert state.facts_text == ""


def test_what_is_under_way_counts_for_the_share_alone() -> None:
    clock = Clock()
    state = State(clock)
    state.begin(10, "trial", None)
    clock.now += 30
    state.add(0, {"running": "epoch 3 of 6"}, under_way=0.5)
    assert state.count == "0/10 trials" and state.share == 0.05
    assert state.seconds_left == pytest.approx(570.0)
    # It is over and counted, and nothing else runs.
    state.add(1, {"running": None})
    assert (state.count, state.share, state.facts_text) == ("1/10 trials", 0.1, "")


def test_a_notebook_gets_html_that_is_drawn_over(tmp_path: Path) -> None:
    code = (
        "from zenopt.progress.panel import Panel\n"
        "with Panel() as panel:\n    panel.note('begun')\n    panel.start(2, '<trial>')\n"
        "    panel.advance(best=1.5)\n    panel.advance()\n    panel.finish('over')"
    )
    book = notebook_of(code)
    run_notebook(book, tmp_path)
    outputs = book.cells[0].outputs
    assert [output["text"] for output in outputs if "text" in output] == ["begun\n", "over\n"]
    (shown,) = [output["data"] for output in outputs if "data" in output]
    assert '2/2 &lt;trial&gt;s <progress max="1" value="1.0000">' in shown["text/html"]
    assert shown["text/plain"].startswith("2/2 <trial>s  100%") and "best 1.5" in shown["text/html"]


def test_a_search_in_a_notebook_shows_one_bar_and_no_warning(tmp_path: Path) -> None:
    code = (
        "import zenopt\nchange = ['proxy.name=zen-closed-form', 'sampler.screening_candidates=20']\n"
        "result = zenopt.optimize('cifar-small', 'memory:', n_trials=3, overrides=change, progress=True)"
    )
    book = notebook_of(code)
    run_notebook(book, tmp_path)
    outputs = book.cells[0].outputs
    assert not [output["text"] for output in outputs if output.get("name") == "stderr"]
    (shown,) = [output["data"]["text/plain"] for output in outputs if "data" in output]
    assert shown.startswith("3/3 trials  100%") and "0:00 left" in shown
    assert outputs[1]["text"] == "Study cifar-small in memory:\n"


def test_the_panel_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom zenopt.progress.panel import Panel\nPanel()\n"
        "print([name for name in ('torch', 'optuna', 'numpy', 'rich', 'IPython') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
