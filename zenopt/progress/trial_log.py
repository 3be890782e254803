"""The numbers of a search, trial by trial, sent to TensorBoard, Weights & Biases, MLflow or a CSV file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from optuna.study import StudyDirection
from optuna.trial import TrialState

from zenopt.core.errors import StorageError, StudyError
from zenopt.core.paths import file_name
from zenopt.storage.history import count_by_state
from zenopt.study.study import load_study, open_existing
from zenopt.train.loggers import Loggers

if TYPE_CHECKING:
    from zenopt.storage.records import TrialRecord
    from zenopt.study.search import Progress
    from zenopt.study.spec import StudySpec

_NUMBERS = ("params", "macs", "latency_ms", "score_seconds")


class TrialLog:
    """Sends every finished trial of a run to loggers; a study that is resumed goes on with its log.

    A step is a finished trial, in the order in which they finish; ``best`` is the best feasible value of this run.

    Args:
        names:
            Some of :data:`zenopt.train.loggers.LOGGERS`.
        spec, name, storage:
            The study.
        runs:
            Folder in which ``NAME/`` takes what is written to files.

    Raises:
        LoggerError: If a logger cannot be opened.
    """

    def __init__(
        self, names: Iterable[str], spec: StudySpec, name: str, storage: str, runs: str | Path = "runs"
    ) -> None:
        folder = Path(runs) / file_name(name, "The study's name")
        folder.mkdir(parents=True, exist_ok=True)
        self._step = _finished(storage, name)
        self._is_better = max if spec.directions()[0] == StudyDirection.MAXIMIZE.name.lower() else min
        self._best: float | None = None
        config = spec.model_dump(mode="json")
        self._loggers = Loggers(names, folder=folder, title=name, config=config, first_step=self._step)

    def update(self, progress: Progress) -> None:
        """Log what finished since the last call."""
        for record in progress.new:
            self._loggers.log(self._step, self._numbers(record))
            self._step += 1

    def _numbers(self, record: TrialRecord) -> dict[str, float | None]:
        is_candidate = record.state == TrialState.COMPLETE and record.is_feasible and record.value is not None
        if is_candidate:
            value = float(record.value or 0.0)
            self._best = value if self._best is None else self._is_better(self._best, value)
        return {
            "trial": record.number,
            "value": record.value if is_candidate else None,
            "best": self._best,
            "feasible": float(record.is_feasible),
            **{name: record.user_attrs.get(name) for name in _NUMBERS},
        }

    def __enter__(self) -> TrialLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loggers.close(failed=error is not None)


def _finished(storage: str, name: str) -> int:
    """Return how many trials of the study have finished; 0 where there is no such study yet."""
    if storage.startswith("memory:"):
        return 0
    try:
        counts = count_by_state(load_study(open_existing(storage), name))
    except (StorageError, StudyError):
        return 0
    return sum(count for state, count in counts.items() if state.is_finished())
