"""A study read for a report: columns of numbers instead of one object per trial.

A study of 50,000 trials has two million parameters and hundreds of thousands of attributes; a report needs a dozen
numbers per trial, and parameters of a sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState

from zenopt.core.costs import COST_KINDS
from zenopt.core.pareto import first_front, order
from zenopt.storage.history import StudyHistory
from zenopt.storage.records import STRUCTURE_KEY
from zenopt.storage.workers import WORKER_KEY
from zenopt.study.spec import StudySpec
from zenopt.study.study import read_spec

#: Numeric user attributes of a trial that reports show; missing ones read NaN.
NUMBERS = (
    *COST_KINDS, "latency_ms", "zennas_params", "zennas_flops", "closed_form", "score_std", "score_seconds",
    "score_batch", "duplicate_of",
)  # fmt: skip
_TEXTS = (STRUCTURE_KEY, WORKER_KEY, "error")


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
        workers: Who ran the trial, as :class:`~zenopt.storage.workers.Worker` writes itself, or ``None``.
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
    workers: list[str | None]
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

    @property
    def is_zen(self) -> bool:
        """Whether scores are Zen-scores, whose scale the closed form shares."""
        return self.spec.objective.kind == "proxy" and self.spec.proxy.name.startswith("zen")

    def in_state(self, state: TrialState) -> np.ndarray:
        """Return a mask of the trials in a state."""
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
        """Return the positions of the candidates by score, best first; equal scores by trial number."""
        positions = np.flatnonzero(self.scored)
        sign = -1.0 if self.maximize else 1.0
        return positions[np.argsort(sign * self.values[positions], kind="stable")]

    def points(self, positions: np.ndarray) -> np.ndarray:
        """Return the objectives of trials such that more is better in every column."""
        return np.asarray(self.objectives[positions] * np.where(self.directions, 1.0, -1.0))

    @cached_property
    def front(self) -> np.ndarray:
        """Positions of the candidates that no other one dominates, best score first.

        Of a single objective these are the best.
        """
        ranked = self.ranked()
        return self._distinct(ranked[first_front(self.points(ranked))])

    def top(self, count: int) -> list[int]:
        """Return the positions of the best candidates of distinct structure, best score first.

        Of several objectives they are of the front.
        """
        if self.is_multi:
            return [int(position) for position in self.front[:count]]
        return [int(position) for position in self._distinct(self.ranked(), count)]

    def best_of(self, positions: np.ndarray, count: int) -> np.ndarray:
        """Return the best ``count`` of some candidates, best first; several objectives by front, then by spread."""
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
    """Read a study, running or finished.

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
    history = StudyHistory(study, (*NUMBERS, *_TEXTS))
    records = sorted(history.sync(), key=lambda record: record.number)
    missing = (np.nan,) * len(study.directions)
    values = [record.values or missing for record in records]
    objectives = np.array(values, dtype=float).reshape(len(records), len(missing))
    attrs = [record.user_attrs for record in records]
    return StudyData(
        name=study.study_name,
        spec=spec,
        directions=tuple(item == StudyDirection.MAXIMIZE for item in study.directions),
        ids=np.array([record.trial_id for record in records], dtype=np.int64),
        numbers=np.array([record.number for record in records], dtype=np.int64),
        states=np.array([record.state.value for record in records], dtype=np.int8),
        values=objectives[:, 0],
        objectives=objectives,
        feasible=np.array([record.is_feasible for record in records], dtype=bool),
        started=_column(record.started_s for record in records),
        ended=_column(record.ended_s for record in records),
        columns={key: _column(found.get(key) for found in attrs) for key in NUMBERS},
        structures=[record.structure for record in records],
        workers=[found.get(WORKER_KEY) for found in attrs],
        errors=Counter(str(found["error"]) for found in attrs if "error" in found),
        read_at=now,
    )


def _column(values: Iterable[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=float)
