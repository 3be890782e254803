"""TCP ports for the servers of tests."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """Return a TCP port of this machine that nobody has.

    It is none of those that systems hand out by themselves: no connection takes it before the server does, nor while
    the server restarts.
    """
    chance = random.SystemRandom()
    while True:
        port = chance.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
