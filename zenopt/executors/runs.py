"""Runs of a study: what each was asked for, kept in the study, so that one whose driver was killed can go on.

A driver is the process that was asked for trials and follows the workers. Every finished trial names its run. A run
that ended by itself, or by Ctrl-C, is over; one whose driver is gone without a word is taken over by the next driver
that is asked for the same number of trials, which adds only what is missing.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import optuna
from optuna.storages import BaseStorage

from zenopt.storage import Worker, current_worker
from zenopt.storage.history import StudyHistory

#: Trial user attribute: the run that finished it, and the number of its worker.
RUN_KEY = "run"
_PREFIX = "zenopt:run:"
#: Seconds between a driver's signs of life, and after how many without one a driver elsewhere is taken for dead.
_BEAT_S, _GRACE_S = 60.0, 150.0
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Record:
    """What a study keeps of a run."""

    trials: int | None
    driver: str
    began_s: float
    seen_s: float
    state: str = "running"
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def is_abandoned(self) -> bool:
        """Whether its driver ended without a word."""
        driver = Worker.parse(self.driver)
        if self.state == "over" or driver is None:
            return False
        return not driver.is_alive_here() if driver.is_here else time.time() - self.seen_s > _GRACE_S


class Run:
    """A run of this process; made by :func:`begin_run`.

    Attributes:
        id: Tells it from other runs of the study.
        notes: What an executor keeps of it, such as the ids of jobs.
    """

    def __init__(self, storage: BaseStorage, study_id: int, run: str, record: _Record) -> None:
        self.id = run
        self._storage, self._study_id, self._record = storage, study_id, record
        self._over = threading.Event()
        # A sign of life that was on its way must not undo what was written meanwhile.
        self._writing = threading.Lock()
        self._write()
        threading.Thread(target=self._beat, name="zenopt-run", daemon=True).start()

    @property
    def notes(self) -> dict[str, Any]:
        return dict(self._record.notes)

    def note(self, **notes: Any) -> None:
        """Keep something with the run."""
        self._write(notes={**self._record.notes, **notes})

    def ask_to_stop(self) -> None:
        """Tell workers that read the study that the run is to end."""
        self._write(state="stopping")

    def end(self) -> None:
        """Say that the run is over: the next one of this study is another one."""
        self._over.set()
        self._write(state="over")

    def _write(self, **changes: Any) -> None:
        with self._writing:
            self._record = replace(self._record, seen_s=time.time(), **changes)
            self._storage.set_study_system_attr(
                self._study_id, f"{_PREFIX}{self.id}", json.dumps(asdict(self._record))
            )

    def _beat(self) -> None:
        while not self._over.wait(_BEAT_S):
            try:
                self._write()
            except Exception as error:
                # A database that is away for a moment must not end all later signs; workers meet the same trouble.
                _logger.debug("No sign of life of run %s: %r", self.id, error)


def begin_run(study: optuna.Study, trials: int | None) -> Run:
    """Begin a run of a study, or take over one for as many trials whose driver was killed."""
    own = _Record(trials, str(current_worker()), time.time(), time.time())
    storage, study_id = study._storage, study._study_id
    if trials is not None:
        for run, record in _records(storage, study_id).items():
            if record.trials == trials and record.is_abandoned:
                taken = replace(own, began_s=record.began_s, notes=record.notes)
                return Run(storage, study_id, run, taken)
    return Run(storage, study_id, secrets.token_hex(4), own)


def is_stopping(storage: BaseStorage, study_id: int, run: str) -> bool:
    """Return whether a run is to end, or is over."""
    record = _records(storage, study_id).get(run)
    return record is not None and record.state != "running"


def notes_of(storage: BaseStorage, study_id: int, run: str) -> tuple[Mapping[str, Any], bool]:
    """Return what an executor keeps of a run, and whether the run goes on and its driver lives."""
    record = _records(storage, study_id).get(run)
    if record is None:
        return {}, False
    return record.notes, record.state == "running" and not record.is_abandoned


def mark_of(run: str, worker: int) -> str:
    """Return what a trial keeps of the run and the worker it is of."""
    return f"{run}/{worker}"


def of_run(mark: object, run: str) -> bool:
    """Return whether a trial with such a mark is of a run."""
    return isinstance(mark, str) and mark.startswith(f"{run}/")


def _records(storage: BaseStorage, study_id: int) -> dict[str, _Record]:
    attributes = storage.get_study_system_attrs(study_id)
    return {
        key.removeprefix(_PREFIX): _Record(**json.loads(text))
        for key, text in attributes.items()
        if key.startswith(_PREFIX)
    }


def count_of(study: optuna.Study, run: str, worker: int) -> int:
    """Return how many trials of a run a worker has finished."""
    mark = mark_of(run, worker)
    records = StudyHistory(study, (RUN_KEY,)).sync()
    return sum(record.state.is_finished() and record.user_attrs.get(RUN_KEY) == mark for record in records)
