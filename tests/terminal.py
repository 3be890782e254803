"""A real pseudo-terminal whose final screen is compared, not the stream of bytes that drew it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyte


class Terminal:
    """What a person sees: the lines of a terminal of some width, those that scrolled away included."""

    def __init__(self, columns: int, rows: int = 50) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=10_000)
        self._stream = pyte.ByteStream(self.screen)
        #: Every state of the screen before it was drawn over, and the last one, as lines.
        self.frames: list[list[str]] = []

    def show(self, written: bytes) -> None:
        """Show what was written, a picture at a time: whatever is drawn over was seen before."""
        # Not a read at a time: how much is read at once is up to the machine.
        for part in re.split(rb"(?=\r(?!\n))", written):
            self.feed(part)
            self.frames.append(self.lines)

    def feed(self, data: bytes) -> None:
        self._stream.feed(data)

    @property
    def lines(self) -> list[str]:
        """The lines without trailing blanks; empty ones at the end are left out."""
        columns = range(self.screen.columns)
        old = ["".join(row[column].data for column in columns) for row in self.screen.history.top]
        found = [line.rstrip() for line in [*old, *self.screen.display]]
        while found and not found[-1]:
            found.pop()
        return found

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@contextmanager
def terminal(columns: int, rows: int = 50) -> Iterator[Terminal]:
    """Put a pseudo-terminal in the place of this process's standard streams; its screen is complete afterwards."""
    found = Terminal(columns, rows)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    written = bytearray()

    def read() -> None:
        while True:
            try:
                data = os.read(master, 65_536)
            except OSError:
                return
            if not data:
                return
            written.extend(data)

    reader = threading.Thread(target=read, daemon=True)
    saved = [os.dup(number) for number in range(3)]
    streams = sys.stdout, sys.stderr
    # The terminal's own size counts.
    sizes = {name: os.environ.pop(name) for name in ("COLUMNS", "LINES") if name in os.environ}
    sys.stdout.flush()
    sys.stderr.flush()
    for number in range(3):
        os.dup2(slave, number)
    os.close(slave)
    sys.stdout = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8")
    reader.start()
    try:
        yield found
    finally:
        sys.stdout.close()
        sys.stderr.close()
        sys.stdout, sys.stderr = streams
        os.environ.update(sizes)
        for number, copy in enumerate(saved):
            os.dup2(copy, number)
            os.close(copy)
        # With the last writer gone the reader sees the end.
        reader.join(timeout=120)
        os.close(master)
        found.show(bytes(written))


def watch(columns: int, work: Callable[[], object]) -> Terminal:
    """Run something on a terminal and return what it showed."""
    with terminal(columns) as found:
        work()
    return found


def on_terminal(
    command: list[str], columns: int, *, cwd: Path, rows: int = 50, timeout_s: float = 900, **variables: str
) -> tuple[int, Terminal, list[str]]:
    """Run a command of its own on a pseudo-terminal.

    Returns:
        Its exit code, what it showed with every state of the screen, and the lines that were too long for it.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {
        key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")
    }
    environment |= {"TERM": "xterm-256color", "OMP_NUM_THREADS": "1", **variables}
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env=environment, start_new_session=True
    )
    os.close(slave)
    timer = threading.Timer(timeout_s, process.kill)
    timer.start()
    written = b""
    try:
        while part := os.read(master, 65_536):
            written += part
    except OSError:  # Linux's word for "the other end is closed"
        pass
    code = process.wait()
    timer.cancel()
    os.close(master)
    found, wide = Terminal(columns, rows), Terminal(1000, rows)
    found.show(written)
    wide.feed(written)
    return code, found, [line for line in wide.lines if len(line) > columns]
