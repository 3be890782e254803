"""Storage URLs: what a person may write, and what it means. Imports neither optuna nor SQLAlchemy."""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from zenopt.core.errors import StorageError
from zenopt.core.text import printable

DEFAULT_STORAGE = "sqlite:///zenopt.db"
STORAGE_VARIABLE = "ZENOPT_STORAGE"
"""Environment variable with the storage URL to use where none is given."""
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
# A password may hold every character, also those that ought to be quoted (@ : / ?): it ends at the last @ that a host
# and a database can follow.
_SERVER = re.compile(
    r"(?:(?P<user>[^:/?]*?)(?::(?P<password>.*))?@)?(?P<host>(?:\[[^\]@]*\]|[^@/?:,\[\]]*)(?::\d+)?)"
    r"/(?P<database>[^@?]*)(?P<query>\?[\w.-]+=.*)?",
    re.DOTALL,
)


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


def default_storage() -> str:
    """Return the URL to use where none is given: ``ZENOPT_STORAGE`` of the environment, else a file here."""
    return os.environ.get(STORAGE_VARIABLE) or DEFAULT_STORAGE


def mask_password(url: str) -> str:
    """Return ``url`` with its password replaced by ``***``, and fit for a terminal."""
    scheme, separator, rest = url.partition("://")
    found = _SERVER.fullmatch(rest)
    if found is not None:
        if found["password"] is not None:
            rest = f"{found['user']}:***@{found['host']}/{found['database']}{found['query'] or ''}"
    elif "@" in rest:
        rest = re.sub(r"^([^:/]*):.*@", r"\1:***@", rest, flags=re.DOTALL)
    else:
        # What stands where a port does and is none may be a password whose host was forgotten.
        rest = re.sub(r"^([^:/\[]*):(?!\d+(?:[/?]|$)).*", r"\1:***", rest, flags=re.DOTALL)
    url = f"{scheme}{separator}{rest}"
    return printable(re.sub(r"(?i)([?&](?:password|passwd|sslpassword)=)[^&]*", r"\1***", url))


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
        return _parse_path(text)
    dialect, _, driver = scheme.lower().partition("+")
    if dialect == "sqlite":
        # SQLAlchemy's rule: three slashes and a relative path, four for an absolute one.
        return _sqlite(rest[1:] if rest.startswith("/") else "", display)
    if dialect in _SERVER_SCHEMES:
        return _parse_server(display, _SERVER_SCHEMES[dialect], driver, rest)
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
    raise StorageError(
        f"storage URL {display!r} has an unknown scheme {printable(scheme)!r}; allowed: {ALLOWED}"
    )


def names_storage(text: str) -> bool:
    """Return whether a text is a storage URL or the path of a database file, by its look alone."""
    text = text.strip()
    return "://" in text or text.startswith("journal:") or text.endswith(_SQLITE_SUFFIXES + _JOURNAL_SUFFIXES)


def _sqlite(path: str, display: str) -> StorageURL:
    if not path:
        raise StorageError(f"storage URL {display!r} names no file; write sqlite:///FILE.db")
    if re.search(r"\?[A-Za-z_]+=[^/]*$", path):
        raise StorageError(f"storage URL {display!r} has options, which are not read; leave them out")
    # A folder may have a ? in its name, which SQLAlchemy would read as the start of options.
    return StorageURL(kind="sqlite", url=f"sqlite:///{path.replace('?', '%3F')}", display=display, path=path)


def _parse_path(text: str) -> StorageURL:
    if text.startswith("journal:") and text != "journal:":
        path = text.removeprefix("journal:")
        return StorageURL(kind="journal", url="", display=printable(text), path=os.path.expanduser(path))
    path = os.path.expanduser(text)
    if path.endswith(_SQLITE_SUFFIXES):
        return _sqlite(path, printable(text))
    if path.endswith(_JOURNAL_SUFFIXES):
        return StorageURL(kind="journal", url="", display=printable(text), path=path)
    # It may be the URL of a server whose scheme was forgotten.
    display = mask_password(f"://{text}").removeprefix("://")
    raise StorageError(f"storage {display!r} is not a storage URL or database file; allowed: {ALLOWED}")


def _parse_server(display: str, kind: str, driver: str, rest: str) -> StorageURL:
    found = _SERVER.fullmatch(rest)
    if found is None or not found["database"]:
        raise StorageError(
            f"storage URL {display!r} is malformed or names no database; write {kind}://USER:PASSWORD@HOST/DATABASE"
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
            return StorageURL(
                kind=kind, url=f"{kind}+{candidate}://{_quoted_login(found, rest)}", display=display
            )
    raise StorageError(
        f"storage URL {display!r} needs the driver {candidates[0]!r}, which is not installed; "
        f"run: pip install 'zenopt[{_EXTRAS[kind]}]'"
    )


def _quoted_login(found: re.Match[str], rest: str) -> str:
    """Return what follows the scheme with user and password as SQLAlchemy can read them."""
    if found["user"] is None:
        return rest
    # What is quoted already stays as it is.
    login = ":".join(
        quote(part, safe="%!$&'()*+,;=") for part in (found["user"], found["password"]) if part is not None
    )
    return f"{login}@{found['host']}/{found['database']}{found['query'] or ''}"
