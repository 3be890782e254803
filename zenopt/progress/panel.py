"""The one progress panel of every long command.

Work that takes long is told a :class:`zenopt.core.progress.Progress`; the panel is the one that people see: two lines
that are drawn over on a terminal, plain lines at a calm rate in a pipe or a log, an HTML bar in a notebook, nothing
where nobody wants it. It imports neither torch nor Optuna, and rich only on a terminal.

    with Panel(quiet=quiet) as panel:
        panel.note("Training 8 networks.")
        panel.start(8, "training")
        for network in networks:
            panel.advance(best=train(network))
        panel.finish("8 trainings in 5:12.")
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable
from html import escape
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

import click

from zenopt.core.text import printable, printable_lines
from zenopt.core.words import duration, plural_of, rounded
from zenopt.progress.time_left import TimeLeft

if TYPE_CHECKING:
    from rich.console import RenderableType

#: Seconds between plain lines at first; later they come after another tenth of the time so far.
LINE_EVERY_S, _LONGEST_PAUSE_S = 10.0, 300.0
#: Seconds between two pictures of a notebook.
_PICTURE_EVERY_S = 0.25


class State:
    """What a panel shows: how much of the present part is done, in which time, and what is known."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.facts: dict[str, object] = {}
        self.begin(None, "", None)

    def begin(self, total: float | None, unit: str, limit_s: float | None) -> None:
        """Begin a part; what is known stays."""
        self.total, self.unit, self.limit_s, self.done = total, unit, limit_s, 0.0
        self.under_way = 0.0
        self._left = TimeLeft(total, limit_s)
        self._began = self._clock()

    def add(self, n: float, facts: dict[str, object], under_way: float = 0.0) -> None:
        """Count ``n`` more units, and remember facts; one that is ``None`` is forgotten."""
        self.done += n
        self.under_way = under_way
        self.facts = {key: value for key, value in {**self.facts, **facts}.items() if value is not None}
        self._left.update(self.done + under_way, self.elapsed_s)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the part began."""
        return self._clock() - self._began

    @property
    def seconds_left(self) -> float | None:
        """Seconds that the part still takes, as far as anybody can know."""
        return self._left.seconds(self.elapsed_s)

    @property
    def share(self) -> float | None:
        """Fraction that is over, by count or by time, whichever is nearer to its end."""
        shares = [(self.done + self.under_way) / self.total] if self.total else []
        shares += [self.elapsed_s / self.limit_s] if self.limit_s else []
        return min(1.0, max(shares)) if shares else None

    @property
    def count(self) -> str:
        """The count in words: ``"12/300 trials"``."""
        if not self.unit:
            return "starting"
        done = f"{int(self.done):,}"
        if self.total is None:
            return f"{done} {self.unit if self.done == 1 else plural_of(self.unit)}"
        return f"{done}/{self.total:,.0f} {self.unit if self.total == 1 else plural_of(self.unit)}"

    @property
    def times(self) -> str:
        """Time so far, and what is left: ``"0:12, 1:03 left"``."""
        left = self.seconds_left
        return duration(self.elapsed_s) + ("" if left is None else f", {duration(left)} left")

    @property
    def facts_text(self) -> str:
        """What is known, in one line."""
        facts = (f"{key.replace('_', ' ')} {rounded(value)}" for key, value in self.facts.items())
        return printable("  ".join(facts))

    def line(self) -> str:
        """All of it in a line without colours."""
        share = self.share
        parts = [self.count, *([] if share is None else [f"{share:.0%}"]), self.times]
        return "  ".join([*parts, *([self.facts_text] if self.facts else [])])


class Panel:
    """Shows how long work goes, where a person looks: on stderr, or under a notebook's cell.

    It is a :class:`zenopt.core.progress.Progress` and a context manager; leaving it, by an error too, takes the bar off
    the screen, so that what is printed next begins on a line of its own.

    Args:
        quiet:
            Show nothing at all.
        stream:
            Where; ``sys.stderr`` by default.
        clock:
            Tells seconds.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = State(clock)
        stream = sys.stderr if stream is None else stream
        self._view: _Nothing = (
            _Nothing()
            if quiet
            else _Notebook(clock)
            if _in_notebook()
            else _Screen(self._state, stream)
            if stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
            else _Lines(stream)
        )

    def start(self, total: float | None, unit: str, *, limit_s: float | None = None) -> None:
        """Begin a part of the work; see :class:`~zenopt.core.progress.Progress`."""
        self._view.part_over(self._state)
        self._state.begin(total, unit, limit_s)
        self._view.begin(self._state)

    def advance(self, n: float = 1, *, under_way: float = 0.0, **facts: object) -> None:
        """Count ``n`` more units done; facts are shown until they are told anew, or ``None``."""
        self._state.add(n, facts, under_way)
        self._view.show(self._state)

    def note(self, text: str) -> None:
        """Show a line that stays."""
        self._view.note(printable_lines(text))

    def finish(self, text: str = "") -> None:
        """Take the bar away and leave ``text``."""
        self._view.part_over(self._state)
        self._view.close()
        if text:
            self._view.note(text)

    def __enter__(self) -> Panel:
        # Something moves before the first part begins: many a command imports for seconds.
        self._view.begin(self._state)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._view.part_over(self._state)
        self._view.close()


class _Nothing:
    """Shows nothing; what the other views are made of."""

    def begin(self, state: State) -> None:
        pass

    def show(self, state: State) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def part_over(self, state: State) -> None:
        pass

    def close(self) -> None:
        pass


class _Lines(_Nothing):
    """Plain lines, ever less often."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._next_s = LINE_EVERY_S
        self._has_line = False

    def begin(self, state: State) -> None:
        self._next_s, self._has_line = LINE_EVERY_S, False

    def show(self, state: State) -> None:
        elapsed_s = state.elapsed_s
        if elapsed_s >= self._next_s:
            self._next_s = elapsed_s + min(_LONGEST_PAUSE_S, max(LINE_EVERY_S, elapsed_s / 10))
            self._has_line = True
            self.note(state.line())

    def part_over(self, state: State) -> None:
        # A part that was short enough to have no line needs no last one either.
        if self._has_line:
            self._has_line = False
            self.note(state.line())

    def note(self, text: str) -> None:
        click.echo(text, file=self._stream)


class _Screen(_Nothing):
    """Two lines at the bottom of a terminal, drawn over four times a second; all else goes above them."""

    def __init__(self, state: State, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._state = state
        self._console = Console(file=stream)
        self._live = Live(
            console=self._console,
            get_renderable=self._picture,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._streams: tuple[TextIO, TextIO] | None = None

    def begin(self, state: State) -> None:
        if self._streams is None:
            self._streams = sys.stdout, sys.stderr
            if sys.stderr.isatty():
                sys.stderr = _Above(self._above, sys.stderr)
            # Standard output may be a file or a pipe, which is no business of the bar.
            if sys.stdout.isatty():
                sys.stdout = _Above(self._above, sys.stdout)
            self._live.start()

    def note(self, text: str) -> None:
        from rich.text import Text

        # Not markup: an error may have brackets. Lines break between words.
        self._console.print(Text.from_ansi(text), overflow="fold")

    def _above(self, text: str) -> None:
        from rich.text import Text

        # Left to the terminal to break, so that what is copied is whole.
        self._console.print(Text.from_ansi(text), soft_wrap=True)

    def close(self) -> None:
        if self._streams is not None:
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, _Above):
                    stream.end()
            self._live.stop()
            sys.stdout, sys.stderr = self._streams
            self._streams = None

    def _picture(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        state, share = self._state, self._state.share
        row = Table.grid(padding=(0, 1), expand=True)
        for ratio in (None, 1, None, None):
            row.add_column(no_wrap=True, ratio=ratio)
        if share is None:
            row.add_row(Text(state.count), Spinner("dots"), "", Text(state.times, style="dim"))
        else:
            bar = ProgressBar(total=1.0, completed=share)
            row.add_row(Text(state.count), bar, f"{share:4.0%}", Text(state.times, style="dim"))
        if not state.facts:
            return row
        return Group(row, Text(state.facts_text, no_wrap=True, overflow="ellipsis"))


class _Above(io.TextIOBase):
    """Stands for a standard stream while a bar is on the screen: whole lines go above it.

    Rich has such a stream too, but its encoding is unknown, and click then writes past it.
    """

    encoding, errors = "utf-8", "replace"

    def __init__(self, note: Callable[[str], None], stream: TextIO) -> None:
        self._note, self._stream = note, stream
        self._begun = ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._note(line)
        return len(text)

    def end(self) -> None:
        """Show what has no end of line yet."""
        if self._begun:
            self.write("\n")

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()


class _Notebook(_Nothing):
    """A bar in HTML under the cell, drawn over; beside it the plain line, for pages that show no HTML."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._handle: Any = None
        self._next_s = 0.0

    def begin(self, state: State) -> None:
        self._draw(state)

    def show(self, state: State) -> None:
        if self._clock() >= self._next_s:
            self._draw(state)

    def part_over(self, state: State) -> None:
        if self._handle is not None:
            self._draw(state)

    def note(self, text: str) -> None:
        click.echo(text)

    def _draw(self, state: State) -> None:
        from IPython.display import display

        self._next_s = self._clock() + _PICTURE_EVERY_S
        share = state.share
        value = "" if share is None else f' value="{share:.4f}"'
        facts = f"<br>{escape(state.facts_text)}" if state.facts else ""
        html = (
            f'<div style="font-family: monospace">{escape(state.count)} <progress max="1"{value}></progress> '
            f"{escape(state.times)}{facts}</div>"
        )
        content = {"text/html": html, "text/plain": state.line()}
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


def _in_notebook() -> bool:
    """Return whether a Jupyter kernel runs this, which shows HTML; a terminal's IPython does not."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return hasattr(shell, "kernel")
