"""A real terminal for tests: a command runs on a pseudo-terminal of a given width, and what it drew is read back."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from dataclasses import dataclass, field
from pathlib import Path

_CONTROL = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b[()][A-Z0-9]|\x1b[=>78]")


@dataclass
class Screen:
    """What a terminal shows, from what was written to it; enough of one for progress bars.

    Attributes:
        lines: Everything from the first line on, scrolled-off lines too.
        wrapped: Lines that were broken because they were longer than the screen is wide.
        seen: Every state of every line, in order.
    """

    columns: int
    lines: list[str] = field(default_factory=lambda: [""])
    wrapped: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    row: int = 0
    column: int = 0

    def feed(self, text: str) -> None:
        place = 0
        for control in _CONTROL.finditer(text):
            self._write(text[place : control.start()])
            self._obey(control[1] or "", control[2] or "")
            place = control.end()
        self._write(text[place:])

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines)

    def _write(self, text: str) -> None:
        for character in text:
            if character == "\n":
                self._down()
            elif character == "\r":
                self._note()
                self.column = 0
            elif character >= " ":
                if self.column == self.columns:
                    self.wrapped.append(self.lines[self.row])
                    self._down()
                    self.column = 0
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + character + line[self.column + 1 :]
                self.column += 1

    def _down(self) -> None:
        self._note()
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append("")

    def _note(self) -> None:
        self.seen.append(self.lines[self.row].rstrip())

    def _obey(self, numbers: str, letter: str) -> None:
        count = int(numbers) if numbers.isdigit() else 1
        if letter == "A":
            self._note()
            self.row = max(0, self.row - count)
        elif letter == "K":
            self._note()
            self.lines[self.row] = "" if numbers == "2" else self.lines[self.row][: self.column]


def on_terminal(
    command: list[str], columns: int, *, cwd: Path, rows: int = 30, timeout_s: float = 300, **variables: str
) -> tuple[int, Screen]:
    """Run a command whose three streams are a terminal; return its exit code and the screen."""
    mine, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    settings = termios.tcgetattr(its)
    settings[
        1
    ] &= ~termios.ONLCR  # a line feed stays one: the screen below goes to column 0 by itself only with \r
    termios.tcsetattr(its, termios.TCSANOW, settings)
    environment = {
        key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")
    }
    environment |= {"TERM": "xterm-256color", "OMP_NUM_THREADS": "1", **variables}
    process = subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, cwd=cwd, env=environment, start_new_session=True
    )
    os.close(its)
    screen, end = Screen(columns), time.monotonic() + timeout_s
    written = b""
    while time.monotonic() < end:
        ready, _, _ = select.select([mine], [], [], 0.2)
        if ready:
            try:
                part = os.read(mine, 65536)
            except OSError:  # Linux's word for "the other end is closed"
                break
            if not part:
                break
            written += part
        elif process.poll() is not None:
            break
    code = process.wait(timeout=10)
    os.close(mine)
    screen.feed(written.decode("utf-8", "replace").replace("\r\n", "\n").replace("\n", "\r\n"))
    return code, screen
