"""A mirror of stored studies for optuna-dashboard: small enough to be shown, honest about feasibility, read-only.

optuna-dashboard sends every trial of a study to the browser; at 20,000 trials its first answer takes half a minute and
200 MB. Its "best trial" ignores constraints, and it sees only their unnamed list. The mirror keeps the studies as they
are where they are small; of a large one it shows the elites, every improvement, the latest trials and a sample.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Container, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from zenopt.core.pareto import order
from zenopt.storage.history import StudyHistory, count_by_state, read_trials
from zenopt.storage.records import CONSTRAINTS_KEY, TrialRecord, constraints_of
from zenopt.study.study import load_study

#: A study with more trials than this is shown by its elites.
LARGEST = 2000
ELITES, LATEST, SAMPLE = 512, 200, 600
#: Beginning of the study attributes that zenopt keeps for itself.
_OWN_KEYS = "zenopt:"
#: Settings of a training that are shown as its parameters.
_SETTINGS: dict[str, BaseDistribution] = {
    "learning_rate": FloatDistribution(1e-6, 1e3, log=True),
    "training_seed": IntDistribution(0, 1_000_000),
}
#: Seconds between two looks at the source.
_REFRESH_S = 2.0


class MirrorStorage(InMemoryStorage):
    """Shows the studies of another storage, kept up to date with every question.

    Trials keep their numbers and ids. What is over budget yet complete (some samplers read only such trials) is shown
    as pruned, so that the best trial is one within the budget. Notes and names that a person writes into the dashboard
    stay in the mirror.

    Args:
        source:
            The storage to show; it is only read.
        largest:
            Trials beyond which a study is shown by its elites.
    """

    def __init__(self, source: BaseStorage, largest: int = LARGEST) -> None:
        super().__init__()
        self._source = source
        self._largest = largest
        self._refresh_lock = threading.RLock()
        self._seen_at = float("-inf")
        self._mirrored: dict[int, _MirroredStudy] = {}
        self._by_source: dict[tuple[Any, ...], int] = {}

    def mirrored(self) -> dict[int, _MirroredStudy]:
        """Return the mirrored studies by their id here."""
        self._find_studies()
        return dict(self._mirrored)

    def get_all_studies(self) -> list[Any]:
        """Return the studies of the source, and what the dashboard has made here."""
        self._find_studies()
        return super().get_all_studies()

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials to show of a study."""
        mirrored = self._mirrored.get(study_id)
        if mirrored is None:
            return super().get_all_trials(study_id, deepcopy, states)
        with self._refresh_lock:
            found = mirrored.trials(self._largest)
        return [trial for trial in found if states is None or trial.state in states]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial that is shown."""
        for mirrored in list(self._mirrored.values()):
            found = mirrored.find(trial_id)
            if found is not None:
                return found
        return super().get_trial(trial_id)

    def get_n_trials(self, study_id: int, state: Any = None) -> int:
        """Count the trials that are shown."""
        states = (state,) if isinstance(state, TrialState) else state
        return len(self.get_all_trials(study_id, deepcopy=False, states=states))

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        """Return the best trial within the budget; of several objectives, the one with the best first value.

        Raises:
            ValueError: If there is none.
        """
        complete = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.COMPLETE,))
        if not complete:
            raise ValueError("No trials are completed yet.")
        sign = -1.0 if self.get_study_directions(study_id)[0] == StudyDirection.MAXIMIZE else 1.0
        return min(complete, key=lambda trial: (sign * (trial.values or [0.0])[0], trial.number))

    def delete_study(self, study_id: int) -> None:
        """Stop showing a study; the source keeps it."""
        with self._refresh_lock:
            super().delete_study(study_id)
            self._mirrored.pop(study_id, None)

    def _find_studies(self) -> None:
        with self._refresh_lock:
            now = time.monotonic()
            if now - self._seen_at < _REFRESH_S:
                return
            self._seen_at = now
            # SQLite gives the id of a deleted study to the next one: an id alone is no identity.
            found = {
                (stored._study_id, stored.study_name, *stored.directions): stored
                for stored in self._source.get_all_studies()
            }
            for identity in set(self._by_source) - set(found):
                study_id = self._by_source.pop(identity)
                if study_id in self._mirrored:
                    self.delete_study(study_id)
            for identity, stored in found.items():
                if identity in self._by_source:
                    continue
                study_id = self.create_new_study(stored.directions, stored.study_name)
                for key, value in stored.user_attrs.items():
                    # Ours are long lines of JSON that push the page beyond the screen; the note says the same in words.
                    if not key.startswith(_OWN_KEYS):
                        self.set_study_user_attr(study_id, key, value)
                for key, value in stored.system_attrs.items():
                    self.set_study_system_attr(study_id, key, value)
                self._by_source[identity] = study_id
                self._mirrored[study_id] = _MirroredStudy(load_study(self._source, stored.study_name))


class _MirroredStudy:
    """The trials that are shown of one study.

    The dashboard asks only for what is new after the finished trials it has, by position: so finished trials never
    change their place, and unfinished ones stand last where the study is large.
    """

    def __init__(self, study: optuna.Study) -> None:
        self.study = study
        self._history: StudyHistory | None = None
        self._finished: dict[int, FrozenTrial] = {}
        self._shown: list[FrozenTrial] = []
        self._by_id: dict[int, FrozenTrial] = {}
        self._selection: _Selection | None = None
        self._read_at = float("-inf")

    @property
    def is_whole(self) -> bool:
        """Whether every trial is shown."""
        return self._selection is None

    @property
    def size(self) -> int:
        """Number of trials in the source, as last seen."""
        return len(self._shown) if self._selection is None else self._selection.seen

    def find(self, trial_id: int) -> FrozenTrial | None:
        """Return a trial that is shown, or ``None``."""
        return self._by_id.get(trial_id)

    def trials(self, largest: int) -> list[FrozenTrial]:
        """Return the trials to show, read again when the last reading is old."""
        now = time.monotonic()
        if now - self._read_at < _REFRESH_S:
            return self._shown
        if self._selection is None:
            size = sum(count_by_state(self.study).values())
            if size > largest:
                self._history = StudyHistory(self.study)
                self._selection = _Selection(
                    [direction == StudyDirection.MAXIMIZE for direction in self.study.directions]
                )
        found = self._all() if self._selection is None else self._select(self._selection)
        self._shown, self._by_id = found, {trial._trial_id: trial for trial in found}
        self._read_at = time.monotonic()
        return found

    def _all(self) -> list[FrozenTrial]:
        found = self.study._storage.get_all_trials(self.study._study_id, deepcopy=False)
        return [self._shape(trial) for trial in found]

    def _select(self, selection: _Selection) -> list[FrozenTrial]:
        assert self._history is not None
        selection.add(self._history.sync())
        wanted = selection.choose()
        missing = [trial_id for trial_id in wanted if trial_id not in self._finished]
        unfinished = []
        for trial in read_trials(self.study, missing):
            if trial.state.is_finished():
                self._shape(trial)
            else:
                unfinished.append(trial)
        return [*self._finished.values(), *unfinished]

    def _shape(self, trial: FrozenTrial) -> FrozenTrial:
        """Return the trial as the dashboard shall see it; finished ones are made once."""
        known = self._finished.get(trial._trial_id)
        if known is not None and known.datetime_complete == trial.datetime_complete:
            return known
        if not trial.state.is_finished():
            return trial
        constraints = constraints_of(trial.system_attrs)
        over = any(value > 0.0 for value in constraints.values())
        is_hidden = over and trial.state == TrialState.COMPLETE
        # The dashboard divides by the number of parameters; a training has settings instead.
        settings = (
            {}
            if trial.params
            else {key: trial.user_attrs[key] for key in _SETTINGS if key in trial.user_attrs}
        )
        shaped = FrozenTrial(
            number=trial.number,
            state=TrialState.PRUNED if is_hidden else trial.state,
            value=None,
            values=None if is_hidden else trial.values,
            datetime_start=trial.datetime_start,
            datetime_complete=trial.datetime_complete,
            params={**trial.params, **settings},
            distributions={**trial.distributions, **{name: _SETTINGS[name] for name in settings}},
            # Names tell which limit a value is of; the dashboard's own list has none. They come first, to be seen.
            user_attrs={
                **{f"constraint:{name}": value for name, value in constraints.items() if not name.isdigit()},
                **trial.user_attrs,
            },
            system_attrs={**trial.system_attrs, CONSTRAINTS_KEY: list(constraints.values())},
            intermediate_values=trial.intermediate_values,
            trial_id=trial._trial_id,
        )
        self._finished[trial._trial_id] = shaped
        return shaped


class _Selection:
    """Which trials of a large study are worth showing."""

    def __init__(self, directions: Sequence[bool]) -> None:
        self._signs = [1.0 if is_up else -1.0 for is_up in directions]
        # Points in which more is better, by trial number: of equals, the earlier trial goes first.
        self._candidates: dict[int, tuple[int, tuple[float, ...]]] = {}
        self._best = float("-inf")
        self._improvements: list[int] = []
        self._unfinished: set[int] = set()
        self._ids: list[int] = []
        self._known: set[int] = set()

    @property
    def seen(self) -> int:
        """Number of trials seen so far."""
        return len(self._known | self._unfinished)

    def add(self, records: list[TrialRecord]) -> None:
        """Take new and changed trials."""
        for record in sorted(records, key=lambda record: record.number):
            if not record.state.is_finished():
                self._unfinished.add(record.trial_id)
                continue
            self._unfinished.discard(record.trial_id)
            if record.trial_id in self._known:
                continue
            self._known.add(record.trial_id)
            self._ids.append(record.trial_id)
            if record.state != TrialState.COMPLETE or not record.is_feasible or record.values is None:
                continue
            point = tuple(sign * value for sign, value in zip(self._signs, record.values, strict=True))
            self._candidates[record.trial_id] = (record.number, point)
            if point[0] > self._best:
                self._best = point[0]
                self._improvements.append(record.trial_id)

    def choose(self) -> list[int]:
        """Return the ids to show now."""
        elites = self._elites()
        # What is no elite now never will be; of several objectives, all but never.
        self._candidates = {trial_id: self._candidates[trial_id] for trial_id in elites}
        # Steps are powers of two, so that a growing study thins its sample and never changes it for another one.
        step = 2 ** max(0, (len(self._ids) // SAMPLE).bit_length() - 1)
        chosen = {*elites, *self._improvements, *self._ids[-LATEST:], *self._ids[::step], *self._unfinished}
        return sorted(chosen)

    def _elites(self) -> list[int]:
        """Return the best candidates: by value, or by front and spread."""
        found = sorted(self._candidates.items(), key=lambda item: item[1][0])
        if len(self._signs) > 1:
            return [found[index][0] for index in order([point for _, (_, point) in found], ELITES)]
        return [trial_id for trial_id, _ in sorted(found, key=lambda item: -item[1][1][0])[:ELITES]]
