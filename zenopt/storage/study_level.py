"""The study half of the write-behind storage: rare calls, passed on to Optuna's own storage or read directly."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy

from zenopt.storage.retry import patiently
from zenopt.storage.sqlcore import (
    TRIAL_TABLES,
    autocommitting,
    studies,
    study_directions,
    study_system_attrs,
    study_user_attrs,
    trials,
    write_transaction,
)

T = TypeVar("T")


class StudyLevel(BaseStorage):
    """Studies and their attributes.

    Args:
        backend:
            Optuna's storage on the same database.
    """

    def __init__(self, backend: RDBStorage) -> None:
        self._backend = backend
        self._directions: dict[int, list[StudyDirection]] = {}
        self._names: dict[int, str] = {}

    @property
    def engine(self) -> sa.Engine:
        """The SQLAlchemy engine."""
        return self._backend.engine

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """Create a study; see :class:`~optuna.storages.BaseStorage`."""
        return self._patiently(lambda: self._backend.create_new_study(directions, study_name))

    def delete_study(self, study_id: int) -> None:
        """Delete a study and its trials, without reading them."""

        def delete() -> None:
            with write_transaction(self.engine, study_id) as connection:
                if connection.execute(_where(studies, study_id)).first() is None:
                    raise KeyError(f"No study with study_id {study_id} exists.")
                of_study = sa.select(trials.c.trial_id).where(trials.c.study_id == study_id)
                for table in TRIAL_TABLES:
                    connection.execute(sa.delete(table).where(table.c.trial_id.in_(of_study)))
                for table in (trials, study_user_attrs, study_system_attrs, study_directions, studies):
                    connection.execute(sa.delete(table).where(table.c.study_id == study_id))

        self._patiently(delete)
        self._directions.pop(study_id, None)
        self._names.pop(study_id, None)

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set a user attribute of a study."""
        self._patiently(lambda: self._backend.set_study_user_attr(study_id, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set a system attribute of a study."""
        self._patiently(lambda: self._backend.set_study_system_attr(study_id, key, value))

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return the id of a study."""
        return self._patiently(lambda: self._backend.get_study_id_from_name(study_name))

    def get_study_name_from_id(self, study_id: int) -> str:
        """Return the name of a study."""
        if study_id not in self._names:
            self._names[study_id] = self._patiently(lambda: self._backend.get_study_name_from_id(study_id))
        return self._names[study_id]

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Return the directions of a study, which never change."""
        if study_id not in self._directions:
            self._directions[study_id] = self._patiently(lambda: self._backend.get_study_directions(study_id))
        return self._directions[study_id]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the user attributes of a study."""
        return self._read_attrs(study_user_attrs, study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the system attributes of a study."""
        return self._read_attrs(study_system_attrs, study_id)

    def get_all_studies(self) -> list[FrozenStudy]:
        """Return all studies by ascending id."""
        return self._patiently(self._backend.get_all_studies)

    def remove_session(self) -> None:
        """Close this thread's session of the storage behind."""
        self._backend.remove_session()

    def _read_attrs(self, table: sa.Table, study_id: int) -> dict[str, Any]:
        def read() -> dict[str, Any]:
            with autocommitting(self.engine) as connection:
                rows = connection.execute(
                    sa.select(table.c.key, table.c.value_json).where(table.c.study_id == study_id)
                ).all()
                if not rows:
                    self._require_study(connection, study_id)
                return {key: json.loads(text) for key, text in rows}

        return self._patiently(read)

    def _require_study(self, connection: sa.Connection, study_id: int) -> None:
        if connection.execute(_where(studies, study_id)).first() is None:
            raise KeyError(f"No study with study_id {study_id} exists.")

    def _patiently(self, action: Callable[[], T]) -> T:
        return patiently(self.engine, action)


def _where(table: sa.Table, study_id: int) -> sa.Select[Any]:
    return sa.select(table.c.study_id).where(table.c.study_id == study_id)
