"""A storage offered to other machines through Optuna's gRPC proxy."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
import sqlalchemy.exc
from optuna.storages import BaseStorage

from zenopt._version import __version__
from zenopt.core.errors import StorageError
from zenopt.core.text import one_line
from zenopt.storage import history  # noqa: F401  # its operations are for clients
from zenopt.storage.factory import open_storage
from zenopt.storage.operations import AWAY, CONFLICT, DESCRIBE, ERRORS, OPERATIONS, packed, unpacked
from zenopt.storage.retry import is_away, is_conflict, why_unwritable
from zenopt.storage.tables import engine_of, reading, transaction
from zenopt.storage.urls import parse_url

if TYPE_CHECKING:
    import grpc

DEFAULT_PORT = 13000
_THREADS = 10


def serve(
    url: str, *, host: str = "127.0.0.1", port: int = DEFAULT_PORT, synchronous: str = "NORMAL"
) -> None:
    """Serve a SQL storage to workers that open ``grpc://HOST:PORT``, until interrupted.

    Optuna's proxy knows neither passwords nor encryption: whoever reaches the port can read and change the
    studies. Serve other machines only inside a network that is trusted.

    Workers of the same version of zenopt keep a running trial in memory, as those do that open the database, and run
    the same operations on its tables; for Optuna's own clients each parameter is written at once.

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
    try:
        server = _make_server(storage)
    except ImportError as error:
        raise StorageError(
            "serving needs gRPC, which is not installed; run: pip install 'zenopt[grpc]'"
        ) from error
    server.add_insecure_port(f"{host}:{port}")
    server.start()
    server.wait_for_termination()


def _make_server(storage: BaseStorage) -> grpc.Server:
    import grpc
    from optuna.storages._grpc.auto_generated.api_pb2_grpc import add_StorageServiceServicer_to_server
    from optuna.storages._grpc.servicer import OptunaStorageProxyService

    from zenopt.storage.served import METHOD, OPTIONS

    server = grpc.server(ThreadPoolExecutor(_THREADS), options=OPTIONS)
    add_StorageServiceServicer_to_server(OptunaStorageProxyService(storage), server)
    engine = engine_of(storage)
    if isinstance(engine, sa.Engine):
        service, _, name = METHOD.strip("/").rpartition("/")
        answered = grpc.unary_unary_rpc_method_handler(lambda request, context: answer(engine, request))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: answered}),))
    return server


def answer(engine: sa.Engine, request: bytes) -> bytes:
    """Run the operation of a client, and return its result or what was wrong."""
    name, arguments = unpacked(json.loads(request))
    reply: dict[str, Any]
    try:
        reply = {"result": packed(_run(engine, name, arguments))}
    except sqlalchemy.exc.DBAPIError as error:
        reason, text = why_unwritable(error), one_line(str(error.orig), 500)
        if reason is not None:
            reply = {"error": ["StorageError", f"the served storage: {reason} ({text})", ""]}
        else:
            # Whether it has been done after all, the client finds out before it tries again.
            reply = {"error": ["", text, AWAY if is_away(error) else CONFLICT if is_conflict(error) else ""]}
            if is_away(error):
                engine.dispose()
    except tuple(ERRORS.values()) as error:
        kind = next(kind for kind in type(error).__mro__ if kind.__name__ in ERRORS)
        reply = {"error": [kind.__name__, str(error.args[0] if error.args else ""), ""]}
    return json.dumps(reply).encode()


def _run(engine: sa.Engine, name: str, arguments: Sequence[Any]) -> Any:
    if name == DESCRIBE:
        return {"version": __version__, "database": engine.dialect.name}
    function, writes = OPERATIONS[name]
    with (transaction if writes else reading)(engine) as connection:
        return function(connection, *arguments)


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
