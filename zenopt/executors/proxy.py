"""A storage as workers reach it: on other machines, a SQLite file is served by a process beside the driver."""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from zenopt.core.errors import StorageError
from zenopt.executors.interrupts import ignore_interrupts, interrupts_wait
from zenopt.storage import parse_url
from zenopt.storage.workers import host_name

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


def absolute_url(url: str) -> str:
    """Return a storage URL that means the same in every folder of this machine, or of a shared file system."""
    target = parse_url(url)
    return f"{target.kind}:///{Path(target.path).resolve()}" if target.kind in ("journal", "sqlite") else url


@dataclass(frozen=True)
class LocalFile:
    """A SQLite file of one machine, where processes may open it; those of others reach it through a server.

    Attributes:
        path: Where it is.
        host: Where process ids are the driver's, and with them the machine, boot and container.
        identity: Device and inode: another container may have another file there.
    """

    path: str
    host: str
    identity: tuple[int, int]

    @classmethod
    def of(cls, url: str) -> LocalFile | None:
        """Return the file of a storage that is there; ``None`` for other storages."""
        target = parse_url(url)
        if target.kind != "sqlite":
            return None
        found = os.stat(target.path)
        return cls(str(Path(target.path).resolve()), host_name(), (found.st_dev, found.st_ino))

    @property
    def is_here(self) -> bool:
        """Whether this process may open it: SQLite's locks hold among the processes of one machine."""
        try:
            found = os.stat(self.path)
        except OSError:
            return False
        return self.host == host_name() and self.identity == (found.st_dev, found.st_ino)


def check_serving() -> None:
    """Find out whether a SQLite file could be served to other machines.

    Raises:
        StorageError: If not.
    """
    try:
        import google.protobuf  # noqa: F401
        import grpc  # noqa: F401
    except ImportError:
        raise StorageError(
            "A SQLite file is served to workers on other machines by gRPC, which is not installed; run: pip install "
            "'zenopt[grpc]', or use PostgreSQL or MySQL"
        ) from None


def serve_file(url: str, synchronous: str, host: str) -> tuple[str, Proxy]:
    """Begin a server of a SQLite file on this machine; return the URL by which others reach it, too.

    Args:
        url:
            URL of the file.
        synchronous:
            SQLite's durability.
        host:
            Address of this machine.

    Raises:
        StorageError: If it cannot be served.
    """
    check_serving()
    import grpc

    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(url, host, port, synchronous, os.getpid()), name="zenopt storage server"
    )
    with interrupts_wait():
        process.start()
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=60.0)
        except BaseException as error:
            # Nobody knows of it yet who would end it: this process would wait for it when it ends.
            Proxy(process).close()
            if isinstance(error, grpc.FutureTimeoutError):
                raise StorageError(
                    f"the server of {parse_url(url).display!r} does not answer on {host}:{port}"
                ) from None
            raise
    return f"grpc://{host}:{port}", Proxy(process)


def _serve(url: str, host: str, port: int, synchronous: str, driver: int) -> None:
    # Workers need the storage to the end.
    ignore_interrupts()
    import optuna

    from zenopt.storage.serving import serve

    # It would announce itself on the terminal of the search.
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def watch() -> None:
        while os.getppid() == driver:
            time.sleep(1.0)
        time.sleep(_AFTERWARDS_S)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    serve(url, host=host, port=port, synchronous=synchronous)
