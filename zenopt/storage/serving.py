"""A storage offered to other machines through Optuna's gRPC proxy."""

from __future__ import annotations

import socket
import warnings

import optuna

from zenopt.core.errors import StorageError
from zenopt.storage.factory import open_storage
from zenopt.storage.urls import parse_url

DEFAULT_PORT = 13000


def serve(
    url: str, *, host: str = "127.0.0.1", port: int = DEFAULT_PORT, synchronous: str = "NORMAL"
) -> None:
    """Serve a SQL storage to workers that open ``grpc://HOST:PORT``, until interrupted.

    Optuna's proxy knows neither passwords nor encryption: whoever reaches the port can read and change the
    studies. Serve other machines only inside a network that is trusted.

    The server writes each parameter at once, unlike a worker that opens the database itself: trials run by
    clients must survive a restart of the server.

    Args:
        url:
            Storage URL of SQLite, PostgreSQL or MySQL.
        host:
            Address to listen on; ``0.0.0.0`` for all.
        port:
            TCP port to listen on.
        synchronous:
            See :func:`~zenopt.storage.open_storage`.

    Raises:
        StorageError: If the storage cannot be opened or served, or the port is taken.
    """
    target = parse_url(url)
    if target.kind not in ("sqlite", "postgresql", "mysql"):
        # Optuna's proxy mishandles a journal behind it; memory would be lost with the server.
        raise StorageError(f"storage {target.display!r} cannot be served; serve SQLite, PostgreSQL or MySQL")
    if not 0 < port < 65536:
        raise StorageError(f"port must be between 1 and 65535. Got {port}.")
    _check_port(host, port)
    storage = open_storage(url, synchronous=synchronous, write_behind=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            optuna.storages.run_grpc_proxy_server(storage, host=host, port=port)
        except ImportError as error:
            raise StorageError(
                "serving needs gRPC, which is not installed; run: pip install 'zenopt[grpc]'"
            ) from error


def _check_port(host: str, port: int) -> None:
    # gRPC shares a taken port with whoever has it (SO_REUSEPORT), and half of the calls would go astray.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StorageError(
                f"cannot listen on {host}:{port}: {error.strerror or error}; name another"
            ) from error
