from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage

from zenopt.executors.proxy import serve_file
from zenopt.storage import open_storage

optuna.logging.set_verbosity(optuna.logging.WARNING)


# tests/ is no package: its helpers are found on the path, from any folder below.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import mysql_server as mysql  # noqa: E402
import postgres_server as postgres  # noqa: E402


@pytest.fixture(scope="session")
def postgres_server() -> Iterator:
    """A running PostgreSQL server, shared by the session."""
    reason = postgres.why_unavailable()
    if reason is not None:
        pytest.skip(reason)
    server = postgres.PostgresServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def mysql_server() -> Iterator:
    """A running MariaDB server, shared by the session."""
    reason = mysql.why_unavailable()
    if reason is not None:
        pytest.skip(reason)
    server = mysql.MysqlServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def serve_url() -> Iterator[Callable[[str], str]]:
    """Return a function that begins a server of a storage and returns the URL of its clients."""
    pytest.importorskip("grpc", reason="grpcio is not installed")
    servers = []

    def serve(url: str) -> str:
        served, server = serve_file(url, "NORMAL", "127.0.0.1")
        servers.append(server)
        return served

    yield serve
    for server in servers:
        server.close()


@pytest.fixture
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Return a function from a kind of storage to the URL of a new empty one."""

    def create(kind: str) -> str:
        if kind in ("postgresql", "mysql"):
            return request.getfixturevalue(f"{kind.replace('postgresql', 'postgres')}_server").new_database()
        if kind == "memory":
            return "memory:"
        if kind == "served":
            return request.getfixturevalue("serve_url")(f"sqlite:///{tmp_path}/study.db")
        return {"sqlite": f"sqlite:///{tmp_path}/study.db", "journal": f"{tmp_path}/study.log"}[kind]

    return create


@pytest.fixture
def new_opener(new_url: Callable[[str], str]) -> Callable[..., Callable[[], BaseStorage]]:
    """Return a function from a kind to a function that opens one new storage, again and again.

    A kind followed by " stock" stands for Optuna's own way of writing. Nothing is swept by itself.
    """

    def create(kind: str, **options: object) -> Callable[[], BaseStorage]:
        name, _, stock = kind.partition(" ")
        url = new_url(name)
        options = {"write_behind": not stock, "heartbeat_interval": None, **options}
        return lambda: open_storage(url, **options)

    return create


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user of the machine may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="zenopt-") as name:
        Path(name).chmod(0o755)
        yield Path(name)
