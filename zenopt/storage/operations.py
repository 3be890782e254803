"""Operations: functions of Optuna's tables that run where the tables are, here or at the server of a storage.

An operation takes a connection and plain data and returns plain data. With a connection of this process it is an
ordinary function. With :class:`ServedTables` in its place, its name and arguments go to the server in one call, which
runs it as a transaction of its own; what must be atomic is therefore one operation. They travel as JSON.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import fields
from datetime import datetime
from types import SimpleNamespace
from typing import Any, TypeAlias, TypeVar, cast

import sqlalchemy as sa
import sqlalchemy.exc
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._rdb.models import TrialIntermediateValueModel, TrialValueModel
from optuna.study import StudyDirection
from optuna.trial import TrialState

from zenopt._version import __version__
from zenopt.core.errors import StorageError, StorageLostError
from zenopt.storage.records import TrialRecord

F = TypeVar("F", bound=Callable[..., Any])

OPERATIONS: dict[str, tuple[Callable[..., Any], bool]] = {}
"""Functions by name, and whether they write."""
DESCRIBE = "describe"
"""What a client asks first: the version of the server, and which database it has."""
AWAY, CONFLICT = "08006", "40001"
"""SQL states by which a client knows that a database is away, or that another transaction was in the way."""

_SCALARS = (str, int, float, bool, type(None))
_TAG = "$"
# Types besides those of JSON: the enumerations by name.
_ENUMS = (
    TrialState,
    StudyDirection,
    TrialValueModel.TrialValueType,
    TrialIntermediateValueModel.TrialIntermediateValueType,
)
_ENUM_OF = {f"{_TAG}{kind.__name__}": kind for kind in _ENUMS}
_RECORD, _TIME, _ITEMS = f"{_TAG}TrialRecord", f"{_TAG}datetime", f"{_TAG}items"
_RECORD_FIELDS = tuple(field.name for field in fields(TrialRecord))
ERRORS = {
    kind.__name__: kind
    for kind in (
        KeyError,
        OverflowError,
        StorageError,
        StorageLostError,
        UpdateFinishedTrialError,
        ValueError,
    )
}


class DatabaseError(Exception):
    """What a driver has raised at the server; ``sqlstate`` is one of :data:`AWAY`, :data:`CONFLICT` and nothing."""

    def __init__(self, text: str, sqlstate: str = "") -> None:
        super().__init__(text)
        self.sqlstate = sqlstate


class ServedTables:
    """The tables of a served storage, in the place of an engine and of its connections.

    Args:
        url:
            URL of the server.
        connect:
            Connects, and sets ``send``.
        database:
            Which database it is, where that is known; :meth:`describe` asks.

    Attributes:
        send: Sends a request to the server and returns its answer.
    """

    send: Callable[[bytes], bytes]

    def __init__(self, url: str, connect: Callable[[], None], database: str = "") -> None:
        self.url = sa.make_url(url)
        self.dialect = SimpleNamespace(name=database)
        self._connect = connect

    def call(self, name: str, *arguments: Any) -> Any:
        """Let the server run an operation.

        Raises:
            DBAPIError: If the server or its database is away, or the database refuses something.
        """
        reply = unpacked(json.loads(self.send(json.dumps([name, packed(arguments)]).encode())))
        if "result" in reply:
            return reply["result"]
        kind, text, state = reply["error"]
        if kind in ERRORS:
            raise ERRORS[kind](text)
        raise database_error(text, state)

    def describe(self) -> bool:
        """Ask the server what it is; return whether it knows the operations of this version."""
        found = self.call(DESCRIBE)
        self.dialect.name = found["database"]
        return bool(found["version"] == __version__)

    def dispose(self, close: bool = True) -> None:
        """Connect anew in a forked process; otherwise a channel looks after its connections by itself."""
        if not close:
            self._connect()


Engine: TypeAlias = sa.Engine | ServedTables
"""What connects to Optuna's tables, here or at a server."""


def database_error(text: str, state: str) -> sqlalchemy.exc.OperationalError:
    """Return the error of a database that is elsewhere."""
    return sqlalchemy.exc.OperationalError(
        "", None, DatabaseError(text, state), connection_invalidated=state == AWAY
    )


def operation(*, writes: bool = False) -> Callable[[F], F]:
    """Register a function, whose first argument is a connection, that may run at a server."""

    def register(function: F) -> F:
        name = function.__name__
        assert name not in OPERATIONS, name
        OPERATIONS[name] = function, writes

        @functools.wraps(function)
        def run(connection: Any, *arguments: Any) -> Any:
            if isinstance(connection, ServedTables):
                return connection.call(name, *arguments)
            return function(connection, *arguments)

        return cast("F", run)

    return register


def packed(value: Any) -> Any:
    """Return a value in the types of JSON.

    Raises:
        TypeError: If it has a type that does not travel.
    """
    kind = type(value)
    if kind in _SCALARS:
        return value
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith(_TAG) for key in value):
            return {key: packed(item) for key, item in value.items()}
        return {_ITEMS: [[packed(key), packed(item)] for key, item in value.items()]}
    if isinstance(value, _ENUMS):
        return {f"{_TAG}{kind.__name__}": value.name}
    if isinstance(value, _SCALARS):
        # Of classes of their own, such as SQLAlchemy's names.
        return value
    if isinstance(value, Sequence | Set):
        return [packed(item) for item in value]
    if isinstance(value, datetime):
        return {_TIME: value.isoformat()}
    if isinstance(value, TrialRecord):
        return {_RECORD: [packed(getattr(value, name)) for name in _RECORD_FIELDS]}
    raise TypeError(f"{kind.__name__} does not travel to the server of a storage")


def unpacked(value: Any) -> Any:
    """Return what :func:`packed` was given, with lists for tuples and sets."""
    if isinstance(value, list):
        return [unpacked(item) for item in value]
    if not isinstance(value, dict):
        return value
    tag: str = next(iter(value), "")
    if not tag.startswith(_TAG):
        return {key: unpacked(item) for key, item in value.items()}
    content: Any = value[tag]
    if tag in _ENUM_OF:
        return _ENUM_OF[tag][content]
    if tag == _TIME:
        return datetime.fromisoformat(content)
    if tag == _ITEMS:
        return {unpacked(key): unpacked(item) for key, item in content}
    found = dict(zip(_RECORD_FIELDS, unpacked(content), strict=True))
    return TrialRecord(**{**found, "values": None if found["values"] is None else tuple(found["values"])})
