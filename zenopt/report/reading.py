"""A study read for a report: columns of numbers instead of one object per trial.

A study of 50,000 trials has two million parameters and hundreds of thousands of attributes; a report needs a dozen
numbers per trial, and parameters of a sample.
"""

from __future__ import annotations

import datetime
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import optuna
import sqlalchemy as sa
from optuna.storages._rdb.models import TrialValueModel
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from zenopt.core.costs import COST_KINDS
from zenopt.core.pareto import first_front, order
from zenopt.storage.constraints import LEGACY_KEY, PREFIX, is_feasible
from zenopt.storage.reading import read_trials
from zenopt.storage.records import STRUCTURE_KEY
from zenopt.storage.sqlcore import engine_of, system_attrs, trial_values, trials, user_attrs
from zenopt.study.spec import StudySpec
from zenopt.study.study import read_spec

#: Numeric user attributes of a trial that reports show; missing ones read NaN.
NUMBERS = (
    *COST_KINDS, "latency_ms", "zennas_params", "zennas_flops", "closed_form", "score_std", "score_seconds",
    "score_batch", "duplicate_of",
)  # fmt: skip
_TEXTS = (STRUCTURE_KEY, "error")
_CHUNK = 400


@dataclass(frozen=True, eq=False)
class StudyData:
    """What a report knows of a study; arrays have one entry per trial, by ascending number.

    Attributes:
        name: Name of the study.
        spec: The spec stored with it.
        directions: Whether higher is better, for each objective; the first one is the score.
        ids: Ids in the storage.
        numbers: Trial numbers.
        states: Values of :class:`optuna.trial.TrialState`.
        values: Scores, the values of the first objective; NaN where there is none.
        objectives: Values of all objectives, one column each; NaN where there is none.
        feasible: Whether no constraint is positive.
        started, ended: Unix time in seconds; NaN where unknown.
        columns: Arrays of the numeric user attributes in :data:`NUMBERS`.
        structures: Structure string or ``None``.
        errors: How often each error message of a failed trial occurs.
        read_at: When it was read, Unix time in seconds.
    """

    name: str
    spec: StudySpec
    directions: tuple[bool, ...]
    ids: np.ndarray
    numbers: np.ndarray
    states: np.ndarray
    values: np.ndarray
    objectives: np.ndarray
    feasible: np.ndarray
    started: np.ndarray
    ended: np.ndarray
    columns: dict[str, np.ndarray]
    structures: list[str | None]
    errors: Counter[str]
    read_at: float

    @property
    def size(self) -> int:
        """Number of trials."""
        return len(self.numbers)

    @property
    def maximize(self) -> bool:
        """Whether higher scores are better."""
        return self.directions[0]

    @property
    def is_multi(self) -> bool:
        """Whether there are several objectives."""
        return len(self.directions) > 1

    def in_state(self, state: TrialState) -> np.ndarray:
        """Returns a mask of the trials in a state."""
        return np.asarray(self.states == state.value)

    @property
    def scored(self) -> np.ndarray:
        """Mask of the candidates: completed, within the budget, with finite values."""
        finite = np.isfinite(self.objectives).all(axis=1)
        return np.asarray(self.in_state(TrialState.COMPLETE) & self.feasible & finite)

    @property
    def over_budget(self) -> np.ndarray:
        """Mask of the finished trials that exceed the budget."""
        finished = self.in_state(TrialState.COMPLETE) | self.in_state(TrialState.PRUNED)
        return np.asarray(finished & ~self.feasible)

    def ranked(self) -> np.ndarray:
        """Returns the positions of the candidates by score, best first; equal scores by trial number."""
        positions = np.flatnonzero(self.scored)
        sign = -1.0 if self.maximize else 1.0
        return positions[np.argsort(sign * self.values[positions], kind="stable")]

    def points(self, positions: np.ndarray) -> np.ndarray:
        """Returns the objectives of trials such that more is better in every column."""
        return np.asarray(self.objectives[positions] * np.where(self.directions, 1.0, -1.0))

    @cached_property
    def front(self) -> np.ndarray:
        """Positions of the candidates that no other one dominates, best score first.

        Of a single objective these are the best.
        """
        ranked = self.ranked()
        return self._distinct(ranked[first_front(self.points(ranked))])

    def top(self, count: int) -> list[int]:
        """Returns the positions of the best candidates of distinct structure, best score first.

        Of several objectives they are of the front.
        """
        if self.is_multi:
            return [int(position) for position in self.front[:count]]
        return [int(position) for position in self._distinct(self.ranked(), count)]

    def best_of(self, positions: np.ndarray, count: int) -> np.ndarray:
        """Returns the best ``count`` of some candidates, best first; several objectives by front, then by spread."""
        if self.is_multi:
            return np.asarray(positions[order(self.points(positions), count)])
        return np.asarray(positions[np.argsort(-self.points(positions)[:, 0], kind="stable")[:count]])

    def _distinct(self, positions: np.ndarray, count: int | None = None) -> np.ndarray:
        found: dict[str, int] = {}
        for position in positions:
            structure = self.structures[position]
            if structure is not None:
                found.setdefault(structure, int(position))
            if len(found) == count:
                break
        return np.array(list(found.values()), dtype=np.int64)


def read_study(study: optuna.Study, now: float) -> StudyData:
    """Reads a study, running or finished.

    Args:
        study:
            A study made by zenopt.
        now:
            Unix time in seconds, written on the report.

    Raises:
        StudyError: If the study was not made by zenopt.
    """
    spec = read_spec(study)
    assert spec is not None
    engine = engine_of(study._storage)
    if engine is not None:
        with engine.connect() as connection:
            content = _read_tables(connection, study._study_id, len(study.directions))
    else:
        content = _read_trials(study.get_trials(deepcopy=False), len(study.directions))
    return StudyData(
        name=study.study_name,
        spec=spec,
        directions=tuple(item == StudyDirection.MAXIMIZE for item in study.directions),
        values=content["objectives"][:, 0],
        read_at=now,
        **content,
    )


def read_sample(study: optuna.Study, ids: Iterable[int]) -> list[FrozenTrial]:
    """Returns whole trials, parameters included; for a few thousand at most."""
    wanted = [int(trial_id) for trial_id in ids]
    engine = engine_of(study._storage)
    if engine is None:
        chosen = set(wanted)
        return [trial for trial in study.get_trials(deepcopy=False) if trial._trial_id in chosen]
    found: list[FrozenTrial] = []
    distributions: dict[str, Any] = {}
    with engine.connect() as connection:
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            found += read_trials(connection, study._study_id, chunk, distributions)
    return found


def _read_tables(connection: sa.Connection, study_id: int, objectives: int) -> dict[str, Any]:
    in_study = trials.c.study_id == study_id
    rows = connection.execute(
        sa.select(
            trials.c.trial_id, trials.c.number, trials.c.state, trials.c.datetime_start, trials.c.datetime_complete
        ).where(in_study).order_by(trials.c.number)
    ).all()  # fmt: skip
    position = {row[0]: index for index, row in enumerate(rows)}
    size = len(rows)

    def of_study(table: sa.Table, *columns: Any) -> sa.Select[Any]:
        query = sa.select(table.c.trial_id, *columns).join(trials, trials.c.trial_id == table.c.trial_id)
        return query.where(in_study)

    values = np.full((size, objectives), np.nan)
    columns = (trial_values.c.objective, trial_values.c.value, trial_values.c.value_type)
    for trial_id, objective, value, kind in connection.execute(of_study(trial_values, *columns)):
        # A trial may have come after the first query; it is in the next report.
        if trial_id in position:
            values[position[trial_id], objective] = TrialValueModel.stored_repr_to_value(value, kind)
    texts: dict[str, list[tuple[int, str]]] = defaultdict(list)
    query = of_study(user_attrs, user_attrs.c.key, user_attrs.c.value_json)
    for trial_id, key, text in connection.execute(query.where(user_attrs.c.key.in_([*NUMBERS, *_TEXTS]))):
        if trial_id in position:
            texts[key].append((position[trial_id], text))
    feasible = np.ones(size, dtype=bool)
    for trial_id, is_violated in _violations(connection, of_study):
        if is_violated and trial_id in position:
            feasible[position[trial_id]] = False
    structures: list[str | None] = [None] * size
    for index, text in texts[STRUCTURE_KEY]:
        structures[index] = json.loads(text)
    return {
        "ids": np.array([row[0] for row in rows], dtype=np.int64),
        "numbers": np.array([row[1] for row in rows], dtype=np.int64),
        "states": np.array([row[2].value for row in rows], dtype=np.int8),
        "objectives": values,
        "feasible": feasible,
        "started": _unix([row[3] for row in rows]),
        "ended": _unix([row[4] for row in rows]),
        "columns": {key: _column(texts[key], size) for key in NUMBERS},
        "structures": structures,
        "errors": Counter(str(json.loads(text)) for _, text in texts["error"]),
    }


def _violations(
    connection: sa.Connection, of_study: Callable[..., sa.Select[Any]]
) -> Iterable[tuple[int, bool]]:
    """Yields (trial id, whether a constraint is positive); the unnamed list repeats the named values, so one serves."""
    key, text = system_attrs.c.key, system_attrs.c.value_json
    unnamed = system_attrs.alias()
    has_list = sa.exists().where(unnamed.c.trial_id == system_attrs.c.trial_id, unnamed.c.key == LEGACY_KEY)
    named = key.like(PREFIX + "%") & ~has_list
    for trial_id, content in connection.execute(
        of_study(system_attrs, text).where((key == LEGACY_KEY) | named)
    ):
        found = json.loads(content) or 0.0
        yield trial_id, any(value > 0.0 for value in (found if isinstance(found, list) else [found]))


def _column(texts: list[tuple[int, str]], size: int) -> np.ndarray:
    column = np.full(size, np.nan)
    if texts:
        # JSON's NaN and Infinity are read by float() as well; null is not.
        column[[index for index, _ in texts]] = [
            np.nan if text == "null" else float(text) for _, text in texts
        ]
    return column


def _unix(times: list[datetime.datetime | None]) -> np.ndarray:
    utc = datetime.timezone.utc
    return np.array(
        [np.nan if time is None else time.replace(tzinfo=utc).timestamp() for time in times], dtype=float
    )


def _read_trials(found: list[FrozenTrial], objectives: int) -> dict[str, Any]:
    found = sorted(found, key=lambda trial: trial.number)

    def local(time: datetime.datetime | None) -> float:
        return np.nan if time is None else time.timestamp()

    def number(trial: FrozenTrial, key: str) -> float:
        value = trial.user_attrs.get(key)
        return np.nan if value is None else float(value)

    return {
        "ids": np.array([trial._trial_id for trial in found], dtype=np.int64),
        "numbers": np.array([trial.number for trial in found], dtype=np.int64),
        "states": np.array([trial.state.value for trial in found], dtype=np.int8),
        "objectives": np.array(
            [trial.values or [np.nan] * objectives for trial in found], dtype=float
        ).reshape(-1, objectives),
        "feasible": np.array([is_feasible(trial) for trial in found], dtype=bool),
        "started": np.array([local(trial.datetime_start) for trial in found], dtype=float),
        "ended": np.array([local(trial.datetime_complete) for trial in found], dtype=float),
        "columns": {key: np.array([number(trial, key) for trial in found], dtype=float) for key in NUMBERS},
        "structures": [trial.user_attrs.get(STRUCTURE_KEY) for trial in found],
        "errors": Counter(str(trial.user_attrs["error"]) for trial in found if "error" in trial.user_attrs),
    }
