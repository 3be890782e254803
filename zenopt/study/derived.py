"""An architecture that was found by other means than trials, as a trial of a study: evaluated like any other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from zenopt.study.objective import Objective, settle
from zenopt.study.study import join_study, load_study

if TYPE_CHECKING:
    from zenopt.study.spec import StudySpec

#: Study user attribute that says that it has trials of searches.
SEARCHES_KEY = "zenopt:searches"
#: Trial user attribute by which a search is known again.
SEARCH_KEY = "search"
#: Trial user attributes: method and seed of a search, its columns by epoch, the epoch whose architecture it took, and
#: the weights of operations then.
METHOD_KEY, SEED_KEY, CURVE_KEY = "search_method", "search_seed", "search_curve"
EPOCH_KEY, WEIGHTS_KEY = "search_epoch", "search_weights"


@dataclass(frozen=True)
class Recorded:
    """A recorded architecture.

    Attributes:
        study: Name of the study.
        trial: Number of the trial.
        state: In which it ended.
        value: What the study's objective says of it; ``None`` where it says nothing.
        is_new: Whether it was recorded now.
    """

    study: str
    trial: int
    state: TrialState
    value: float | None
    is_new: bool


def identity(facts: Mapping[str, Any]) -> str:
    """Return a short text that is equal for searches with equal facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def check(spec: StudySpec, storage: optuna.storages.BaseStorage, name: str, device: str = "cpu") -> None:
    """Find out whether a study can take a search; none is created.

    Args:
        spec, storage, name, device:
            As for :func:`record`.

    Raises:
        ZenoptError: If the study is another one, or something its evaluation needs is missing.
    """
    if name in optuna.get_all_study_names(storage):
        join(spec, storage, name, device)
    else:
        spec.check()


def join(spec: StudySpec, storage: optuna.storages.BaseStorage, name: str, device: str = "cpu") -> StudySpec:
    """Create or join a study of searches.

    Args:
        spec, storage, name, device:
            As for :func:`record`.

    Returns:
        The spec with the study's score batch.

    Raises:
        ZenoptError: If the study is another one, cannot be written, or something its evaluation needs is missing.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spec.check()
    spec = join_study(spec, storage, name, device)
    load_study(storage, name).set_user_attr(SEARCHES_KEY, True)
    return spec


def record(
    spec: StudySpec,
    storage: optuna.storages.BaseStorage,
    name: str,
    architecture: Any,
    *,
    search: str,
    attributes: Mapping[str, Any],
    values: Mapping[int, float] | None = None,
    device: str = "cpu",
    folder: Path = Path("runs"),
) -> Recorded:
    """Add an architecture to a study, which is created if need be, and evaluate it as the study does.

    Args:
        spec:
            Of the study; a stored one must agree with it.
        storage:
            An open storage.
        name:
            The study's name.
        architecture:
            What was found, in the spec's space.
        search:
            What found it (see :func:`identity`); what was recorded before is not recorded again.
        attributes:
            Kept with the trial.
        values:
            Intermediate values by step, unless the study's evaluator reports its own.
        device:
            Of the evaluation.
        folder:
            Where the study's evaluator may keep files.

    Raises:
        ZenoptError: If the study is another one, or something its evaluation needs is missing.
    """
    spec = join(spec, storage, name, device)
    study = load_study(storage, name)
    structure = str(architecture)
    for known in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
        if known.user_attrs.get(SEARCH_KEY) == search and known.user_attrs.get("structure") == structure:
            return _recorded(study, known.number, is_new=False)
    objective = Objective(spec, study, device, folder=folder)
    backend = study._storage
    trial_id = backend.create_new_trial(study._study_id)
    # As Optuna keeps the parameters of a trial that was enqueued.
    backend.set_trial_system_attr(trial_id, "fixed_params", spec.build_space().encode(architecture))
    trial = optuna.Trial(study, trial_id)
    for key, value in {SEARCH_KEY: search, **attributes}.items():
        trial.set_user_attr(key, value)
    if spec.evaluator()(spec, device, folder).last_step is None:
        for step, value in (values or {}).items():
            trial.report(value, step)
    settle(study, trial, objective)
    return _recorded(study, trial.number, is_new=True)


def _recorded(study: optuna.Study, number: int, *, is_new: bool) -> Recorded:
    trial = study.get_trials(deepcopy=False)[number]
    value = trial.values[0] if trial.state == TrialState.COMPLETE and trial.values else None
    return Recorded(study.study_name, number, trial.state, value, is_new)
