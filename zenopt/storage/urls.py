"""Storage URLs: what a person may write, and what it means. Imports neither optuna nor SQLAlchemy."""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from urllib.parse import unquote

from zenopt.core.errors import StorageError

ALLOWED = (
    "sqlite:///FILE.db, a plain FILE.db, postgresql://USER:PASSWORD@HOST/DATABASE, "
    "mysql://USER:PASSWORD@HOST/DATABASE, journal:///FILE.log, grpc://HOST:PORT, memory:"
)

# Drivers in the order in which they are tried, for a URL that names none; plain `mysql://` would ask for
# mysqlclient, which needs a compiler, and which driver plain `postgresql://` means depends on SQLAlchemy.
_DRIVERS = {"postgresql": ("psycopg", "psycopg2"), "mysql": ("pymysql",)}
_EXTRAS = {"postgresql": "postgres", "mysql": "mysql"}
_SERVER_SCHEMES = {"postgresql": "postgresql", "postgres": "postgresql", "mysql": "mysql", "mariadb": "mysql"}
_SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")
_JOURNAL_SUFFIXES = (".log", ".journal")


@dataclass(frozen=True)
class StorageURL:
    """A parsed storage URL.

    Args:
        kind:
            One of ``memory``, ``sqlite``, ``postgresql``, ``mysql``, ``journal``, ``grpc``.
        url:
            The URL as SQLAlchemy wants it, with the driver named; empty where SQLAlchemy is not used.
        display:
            The URL as the user wrote it with the password masked: the only form that may be printed.
        path:
            The file, for ``sqlite`` and ``journal``.
        host:
            The host, for ``grpc``.
        port:
            The port, for ``grpc``.
    """

    kind: str
    url: str
    display: str
    path: str = ""
    host: str = ""
    port: int = 0


def mask_password(url: str) -> str:
    """Return ``url`` with its password replaced by ``***``."""
    # Greedy up to the last @ before the path, because an unquoted password may itself hold an @.
    masked = re.sub(r"(?<=://)([^:/@]*):([^/]*)@", r"\1:***@", url)
    return re.sub(r"([?&](?:password|passwd)=)[^&]*", r"\1***", masked)


def parse_url(text: str) -> StorageURL:
    """Parse a storage URL or a plain file path.

    Args:
        text:
            What the user wrote. A path ending in ``.db``, ``.sqlite`` or ``.sqlite3`` is SQLite; one ending in
            ``.log`` or ``.journal`` is a journal file.

    Returns:
        The parsed :class:`StorageURL`.

    Raises:
        StorageError: If the text is no URL known here, or its driver is not installed.
    """
    text = text.strip()
    display = mask_password(text)
    if text in ("memory:", "memory://", "sqlite://", "sqlite:///:memory:"):
        return StorageURL(kind="memory", url="", display=display)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _parse_path(text, display)
    dialect, _, driver = scheme.lower().partition("+")
    if dialect == "sqlite":
        # SQLAlchemy's rule: three slashes and a relative path, four for an absolute one.
        path = rest[1:].partition("?")[0] if rest.startswith("/") else ""
        if not path:
            raise StorageError(f"storage URL {display!r} names no file; write sqlite:///FILE.db")
        return StorageURL(kind="sqlite", url=text, display=display, path=path)
    if dialect in _SERVER_SCHEMES:
        return _parse_server(text, display, _SERVER_SCHEMES[dialect], driver, rest)
    if dialect == "journal":
        path = unquote(rest if rest.startswith("/") else "/" + rest)
        # journal:///relative.log follows SQLite's rule, so that one rule serves both file kinds.
        path = path[1:]
        if not path:
            raise StorageError(f"storage URL {display!r} names no file; write journal:///FILE.log")
        return StorageURL(kind="journal", url="", display=display, path=path)
    if dialect == "grpc":
        match = re.fullmatch(r"(\[[^\]]+\]|[^:/]+):(\d{1,5})/?", rest)
        if match is None or not 0 < int(match[2]) < 65536:
            raise StorageError(f"storage URL {display!r} is malformed; write grpc://HOST:PORT")
        return StorageURL(kind="grpc", url="", display=display, host=match[1], port=int(match[2]))
    raise StorageError(f"storage URL {display!r} has an unknown scheme {scheme!r}; allowed: {ALLOWED}")


def _parse_path(text: str, display: str) -> StorageURL:
    if text.startswith("journal:"):
        text = text[len("journal:") :]
        if text:
            return StorageURL(kind="journal", url="", display=display, path=os.path.expanduser(text))
    path = os.path.expanduser(text)
    if path.endswith(_SQLITE_SUFFIXES):
        return StorageURL(kind="sqlite", url=f"sqlite:///{path}", display=display, path=path)
    if path.endswith(_JOURNAL_SUFFIXES):
        return StorageURL(kind="journal", url="", display=display, path=path)
    raise StorageError(f"storage {display!r} is not a storage URL or database file; allowed: {ALLOWED}")


def _parse_server(text: str, display: str, kind: str, driver: str, rest: str) -> StorageURL:
    if not rest.partition("?")[0].rpartition("@")[2].partition("/")[2]:
        raise StorageError(
            f"storage URL {display!r} names no database; write {kind}://USER:PASSWORD@HOST/DATABASE"
        )
    candidates = (driver,) if driver else _DRIVERS[kind]
    for candidate in candidates:
        # `asyncpg` and friends cannot serve a synchronous storage; SQLAlchemy would fail much later.
        if candidate in ("asyncpg", "aiomysql", "asyncmy"):
            raise StorageError(
                f"storage URL {display!r} names an asynchronous driver; write {kind}:// instead"
            )
        module = {"mysqldb": "MySQLdb", "mysqlconnector": "mysql"}.get(candidate, candidate)
        if importlib.util.find_spec(module) is not None:
            return StorageURL(kind=kind, url=f"{kind}+{candidate}://{rest}", display=display)
    raise StorageError(
        f"storage URL {display!r} needs the driver {candidates[0]!r}, which is not installed; "
        f"run: pip install 'zenopt[{_EXTRAS[kind]}]'"
    )
