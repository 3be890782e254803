"""A storage as workers on other machines reach it: a SQLite file is served by a process beside the driver."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from zenopt.core.errors import StorageError
from zenopt.storage import parse_url

#: Seconds that the server stays for workers whose driver was killed, so that they can put back their trials.
_AFTERWARDS_S = 600.0


@dataclass
class Proxy:
    """A server of a storage."""

    process: BaseProcess

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.join()


def reachable_url(url: str, synchronous: str, host: str, *, is_local: bool) -> tuple[str, Proxy | None]:
    """Return the URL by which workers reach a storage, and the server that was begun for it, if any.

    Args:
        url:
            The driver's URL.
        synchronous:
            SQLite's durability.
        host:
            Address of this machine.
        is_local:
            Whether all workers are on this machine.

    Raises:
        StorageError: If it cannot be served.
    """
    target = parse_url(url)
    if target.kind == "journal":
        return f"journal:///{Path(target.path).resolve()}", None
    if target.kind != "sqlite":
        return url, None
    file = f"sqlite:///{Path(target.path).resolve()}"
    if is_local:
        return file, None
    try:
        import grpc
    except ImportError:
        raise StorageError(
            "A SQLite file is served to workers on other machines by gRPC, which is not installed; run: pip install "
            "'zenopt[grpc]', or use PostgreSQL or MySQL"
        ) from None
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(file, host, port, synchronous, os.getpid()), name="zenopt storage server"
    )
    process.start()
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=60.0)
        except grpc.FutureTimeoutError:
            process.terminate()
            raise StorageError(f"the server of {target.display!r} does not answer on {host}:{port}") from None
    return f"grpc://{host}:{port}", Proxy(process)


def _serve(url: str, host: str, port: int, synchronous: str, driver: int) -> None:
    import optuna

    from zenopt.storage.serving import serve

    # It would announce itself on the terminal of the search.
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    # Ctrl-C reaches the whole process group; workers need the storage to the end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == driver:
            time.sleep(1.0)
        time.sleep(_AFTERWARDS_S)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    serve(url, host=host, port=port, synchronous=synchronous)
