"""The client of a served storage: Optuna's proxy, and beside it the operations on the server's tables."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import grpc
from optuna.storages import GrpcStorageProxy
from optuna.storages._grpc.auto_generated.api_pb2_grpc import StorageServiceStub
from optuna.storages._grpc.client import GrpcClientCache

from zenopt.storage.operations import AWAY, ServedTables, database_error
from zenopt.storage.orphans import SEEN_KEY

METHOD = "/zenopt.Tables/Run"
"""The call that runs an operation."""
#: Messages may be of any size; after an outage a client is not to wait minutes until it tries again.
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_reconnect_backoff_ms", 5000),
]


class ServedProxy(GrpcStorageProxy):
    """Optuna's proxy in the place of its SQL storage, with ``engine`` for the tables behind the server.

    A server that does not answer is a database that is away.
    """

    engine_kwargs: dict[str, Any] = {}

    def _setup(self) -> None:
        address = f"{self._host}:{self._port}"
        self._channel = _Channel(grpc.insecure_channel(address, OPTIONS))
        self._stub = StorageServiceStub(self._channel)
        self._cache = GrpcClientCache(self._stub)
        self.engine.send = self._channel.unary_unary(METHOD)

    def __getstate__(self) -> dict[Any, Any]:
        return {"_host": self._host, "_port": self._port}

    @functools.cached_property
    def engine(self) -> ServedTables:
        """The tables behind the server."""
        return ServedTables(f"grpc://{self._host}:{self._port}", self._setup)

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


class _Channel:
    """A channel that raises for a server that does not answer what SQLAlchemy raises for such a database."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self.close = channel.close

    def unary_unary(self, *arguments: Any, **options: Any) -> Callable[[Any], Any]:
        call = self._channel.unary_unary(*arguments, **options)

        def send(request: Any) -> Any:
            try:
                return call(request)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.UNAVAILABLE:
                    raise database_error(error.details() or "no answer", AWAY) from error
                raise

        return send
