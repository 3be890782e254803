"""Optuna's own conformance suite for storages, run against each of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from optuna.storages import BaseStorage
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import FrozenTrial

from zenopt.storage import WORKER_KEY, open_storage


class WithoutWorker:
    """A storage without the one thing that ours add to a trial: the user attribute that names its worker."""

    def __init__(self, storage: BaseStorage) -> None:
        self._inner = storage

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._inner, name)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return _without_worker(self._inner.get_trial(trial_id))

    def get_all_trials(self, *args: Any, **kwargs: Any) -> list[FrozenTrial]:
        return [_without_worker(trial) for trial in self._inner.get_all_trials(*args, **kwargs)]


def _without_worker(trial: FrozenTrial) -> FrozenTrial:
    trial.user_attrs.pop(WORKER_KEY, None)
    return trial


@pytest.fixture(scope="class")
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> WithoutWorker:
    kind = request.cls.kind
    if kind in ("postgresql", "mysql"):
        url = request.getfixturevalue(f"{kind.replace('postgresql', 'postgres')}_server").new_database()
    else:
        folder = tmp_path_factory.mktemp("conformance")
        url = {"sqlite": f"{folder}/study.db", "journal": f"{folder}/study.log", "memory": "memory:"}.get(
            kind, ""
        )
        if kind == "served":
            url = request.getfixturevalue("serve_url")(f"sqlite:///{folder}/study.db")
    return WithoutWorker(open_storage(url, heartbeat_interval=None, **request.cls.options))


class Conforms(StorageTestCase):
    """The suite on one kind of storage; every test begins without studies."""

    kind: str
    options: dict[str, Any] = {}

    @pytest.fixture
    def storage(self, opened: WithoutWorker) -> Iterator[WithoutWorker]:
        yield opened
        for study in opened.get_all_studies():
            opened.delete_study(study._study_id)


class TestMemory(Conforms):
    kind = "memory"


class TestSqlite(Conforms):
    kind = "sqlite"


class TestPostgresql(Conforms):
    kind = "postgresql"


@pytest.mark.slow
class TestServed(Conforms):
    kind = "served"


@pytest.mark.slow
class TestMysql(Conforms):
    kind = "mysql"
    # Optuna's columns keep whole seconds there.
    test_create_new_trial = test_create_new_trial_with_template_trial = None
    test_get_trial = test_get_all_trials = None


@pytest.mark.slow
class TestSqliteStock(Conforms):
    kind = "sqlite"
    options = {"write_behind": False}


@pytest.mark.slow
class TestJournal(Conforms):
    kind = "journal"
