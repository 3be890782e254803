"""A real pseudo-terminal whose final screen is compared, not the stream of bytes that drew it."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyte


class Terminal:
    """What a person sees: the lines of a terminal of some width, those that scrolled away included."""

    def __init__(self, columns: int, rows: int = 50) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=10_000)
        self._stream = pyte.ByteStream(self.screen)
        #: Every state of the screen after a piece of output, as lines.
        self.frames: list[list[str]] = []

    def feed(self, data: bytes) -> None:
        self._stream.feed(data)
        self.frames.append(self.lines)

    @property
    def lines(self) -> list[str]:
        """The lines without trailing blanks; empty ones at the end are left out."""
        columns = range(self.screen.columns)
        old = ["".join(row[column].data for column in columns) for row in self.screen.history.top]
        found = [line.rstrip() for line in [*old, *self.screen.display]]
        while found and not found[-1]:
            found.pop()
        return found


@contextmanager
def terminal(columns: int, rows: int = 50) -> Iterator[Terminal]:
    """Put a pseudo-terminal in the place of this process's standard streams; its screen is complete afterwards."""
    found = Terminal(columns, rows)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read() -> None:
        while True:
            try:
                data = os.read(master, 65_536)
            except OSError:
                return
            if not data:
                return
            found.feed(data)

    reader = threading.Thread(target=read, daemon=True)
    saved = [os.dup(number) for number in range(3)]
    streams = sys.stdout, sys.stderr
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
        for number, copy in enumerate(saved):
            os.dup2(copy, number)
            os.close(copy)
        # With the last writer gone the reader sees the end.
        reader.join(timeout=30)
        os.close(master)


def watch(columns: int, work: Callable[[], object]) -> Terminal:
    """Run something on a terminal and return what it showed."""
    with terminal(columns) as found:
        work()
    return found
