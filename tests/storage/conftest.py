from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage

from zenopt.storage import open_storage

optuna.logging.set_verbosity(optuna.logging.WARNING)


def _postgres_module():
    # tests/ is no package: the helper is loaded by path so that any folder below can use it.
    path = Path(__file__).resolve().parents[1] / "postgres_server.py"
    spec = importlib.util.spec_from_file_location("zenopt_tests_postgres_server", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def postgres_server() -> Iterator:
    """A running PostgreSQL server, shared by the session."""
    module = _postgres_module()
    reason = module.why_unavailable()
    if reason is not None:
        pytest.skip(reason)
    server = module.PostgresServer()
    yield server
    server.close()


@pytest.fixture
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Return a function from a kind of storage to the URL of a new empty one."""

    def create(kind: str) -> str:
        if kind == "postgresql":
            return request.getfixturevalue("postgres_server").new_database()
        if kind == "memory":
            return "memory:"
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
