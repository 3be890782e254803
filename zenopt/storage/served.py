"""The clients of a served storage: Optuna's proxy, and beside it the operations on the server's tables."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import grpc
from optuna.storages import GrpcStorageProxy
from optuna.storages._grpc.auto_generated.api_pb2_grpc import StorageServiceStub
from optuna.storages._grpc.client import GrpcClientCache

from zenopt.core.errors import StorageError
from zenopt.core.text import one_line
from zenopt.storage.heartbeat import Heartbeat
from zenopt.storage.operations import AWAY, ServedTables, database_error
from zenopt.storage.orphans import SEEN_KEY
from zenopt.storage.stock import StampsWorker

METHOD = "/zenopt.Tables/Run"
"""The call that runs an operation."""
#: Of servers and their clients. Messages may be of any size; after an outage a client is not to wait minutes until it
#: tries again; and a machine that lost its power says nothing: who waits for an answer asks whether it is still there.
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_reconnect_backoff_ms", 5000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 30_000),
]
#: What Optuna's client tells apart, each with an exception of its own.
_KNOWN = (
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
)
_FAILED = "Exception calling application: "


class _ExplainingProxy(GrpcStorageProxy):
    """Optuna's proxy, with errors that say what is wrong."""

    def _setup(self) -> None:
        self._channel = _ExplainingChannel(f"{self._host}:{self._port}")
        self._stub = StorageServiceStub(self._channel)
        self._cache = GrpcClientCache(self._stub)


class StampedGrpcStorage(StampsWorker, _ExplainingProxy):
    """Optuna's gRPC storage proxy with worker names and heartbeats."""

    def __init__(self, *, host: str, port: int, heartbeat_interval: float | None = None) -> None:
        super().__init__(host=host, port=port)
        self._heartbeat = Heartbeat(self._beat, heartbeat_interval)


class ServedProxy(_ExplainingProxy):
    """Optuna's proxy in the place of its SQL storage, with ``engine`` for the tables behind the server.

    A server that does not answer is a database that is away.
    """

    engine_kwargs: dict[str, Any] = {}

    def _setup(self) -> None:
        super()._setup()
        self.engine.send = self._channel.unary_unary(METHOD)

    def __getstate__(self) -> dict[Any, Any]:
        return {"_host": self._host, "_port": self._port, "_database": self.engine.dialect.name}

    @functools.cached_property
    def engine(self) -> ServedTables:
        """The tables behind the server."""
        url, database = f"grpc://{self._host}:{self._port}", self.__dict__.get("_database", "")
        return ServedTables(url, self._setup, database)

    def has_tables(self) -> bool:
        """Return whether the server runs the operations of this version."""
        try:
            return self.engine.describe()
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                return False
            raise

    def record_heartbeat(self, trial_id: int) -> None:
        """Show that the worker of a trial lives."""
        self.set_trial_system_attr(trial_id, SEEN_KEY, time.time())

    def get_heartbeat_interval(self) -> int | None:
        """Return None: there is no heartbeat of Optuna's."""
        return None


class _ExplainingChannel:
    """A channel that raises for a server without an answer what SQLAlchemy raises for such a database.

    Where the server has failed, it raises a :class:`~zenopt.core.errors.StorageError` that says why.

    Args:
        address:
            ``HOST:PORT`` of the server.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel = grpc.insecure_channel(address, OPTIONS)
        self.close = self._channel.close

    def unary_unary(self, *arguments: Any, **options: Any) -> Callable[[Any], Any]:
        call = self._channel.unary_unary(*arguments, **options)

        def send(request: Any) -> Any:
            try:
                return call(request)
            except grpc.RpcError as error:
                code, text = error.code(), error.details() or "no answer"
                if code in _KNOWN:
                    raise
                if code == grpc.StatusCode.UNAVAILABLE:
                    raise database_error(text, AWAY) from error
                reason = one_line(text.removeprefix(_FAILED), 500)
                raise StorageError(
                    f"storage 'grpc://{self._address}': the server failed: {reason}"
                ) from error

        return send
