"""Networks of a study that are trained on their own: which one, and what became of it.

A finished trial takes no more attributes, so each training is an attribute of the study that names its trial:
``zenopt:training:TRIAL:RUN`` with accuracy, recipe, data, folder and date.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import optuna

from zenopt.core.errors import StudyError
from zenopt.storage.history import count_by_state, top
from zenopt.storage.records import STRUCTURE_KEY
from zenopt.study.exported import read_export
from zenopt.study.spec import StudySpec
from zenopt.study.study import BEST_KEYS, read_front, read_spec

TRAINING_KEY = "zenopt:training"


@dataclass(frozen=True)
class Chosen:
    """The network of a trial.

    Attributes:
        study: The study it is of.
        trial: Number of its trial.
        structure: Canonical text of its architecture.
        family: Family of the architecture: ``"chain"`` for super-blocks, else the name of its space.
        spec: The study's spec.
    """

    study: optuna.Study
    trial: int
    structure: str
    family: str
    spec: StudySpec


def choose(study: optuna.Study, trial: int | None = None) -> Chosen:
    """Return the network of a trial; by default the one that was exported last, else the best one within the budget.

    What was exported has been scored or trained again. Of several objectives the best is the one of the front with the
    best score.

    Raises:
        StudyError: If there is no such trial, it has no network, or nothing is within the budget.
    """
    spec = read_spec(study)
    assert spec is not None
    spec.require_networks()
    if trial is not None:
        number, structure = trial, _structure_of(study, trial)
    else:
        number, structure = _exported(study) or _best(study)
    return Chosen(study, number, structure, spec.build_space().parse(structure).family, spec)


def _exported(study: optuna.Study) -> tuple[int, str] | None:
    export = read_export(study)
    if export is None:
        return None
    if export.trial is not None:
        return export.trial, export.structure
    # Trainings chose it; a trial of the study holds it, unless it was brought from elsewhere.
    trials = study.get_trials(deepcopy=False)
    held = (trial.number for trial in trials if trial.user_attrs.get(STRUCTURE_KEY) == export.structure)
    number = next(held, None)
    return None if number is None else (number, export.structure)


def _best(study: optuna.Study) -> tuple[int, str]:
    records = top(study, 1, BEST_KEYS) if len(study.directions) == 1 else read_front(study)
    for record in records:
        if record.structure is not None:
            return record.number, record.structure
    trials = sum(count_by_state(study).values())
    raise StudyError(
        f"Study {study.study_name!r} has no feasible trial among {trials}; raise the budget, run on, or name a --trial."
    )


def _structure_of(study: optuna.Study, trial: int) -> str:
    storage = study._storage
    try:
        trial_id = storage.get_trial_id_from_study_id_trial_number(study._study_id, trial)
    except KeyError:
        trials = sum(count_by_state(study).values())
        raise StudyError(f"Study {study.study_name!r} has no trial {trial}; it has {trials}.") from None
    found = storage.get_trial(trial_id)
    structure = found.user_attrs.get(STRUCTURE_KEY)
    if not isinstance(structure, str):
        raise StudyError(
            f"Trial {trial} of study {study.study_name!r} has no network (it is {found.state.name.lower()})."
        )
    return structure


def record_training(
    study: optuna.Study, trial: int, folder: Path, metrics: dict[str, Any], recipe: str
) -> None:
    """Record beside a trial how its network trained; a folder that was recorded before is replaced.

    Args:
        folder:
            The run's.
        metrics:
            What its ``metrics.json`` holds.
        recipe:
            The recipe's name or file.
    """
    place = str(folder.resolve())
    run = hashlib.sha256(f"{socket.gethostname()}:{place}".encode()).hexdigest()[:12]
    content = {
        "trial": trial,
        **{key: metrics[key] for key in ("top1", "top5", "best", "epochs", "seed", "seconds", "data")},
        "use_se": metrics["network"]["use_se"],
        "recipe": recipe,
        "learning_rate": metrics["recipe"]["optimizer"]["lr"],
        "folder": place,
        "host": socket.gethostname(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    study.set_user_attr(f"{TRAINING_KEY}:{trial}:{run}", content)


#: Titles of what :func:`run_row` returns.
RUN_HEADER = ("trial", "top-1 %", "epochs", "recipe", "data", "folder")


def run_row(run: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a recorded training as texts of a table."""
    keys = ("epochs", "recipe", "data", "folder")
    return (str(run["trial"]), f"{run['top1']:.2f}", *(str(run[key]) for key in keys))


def read_runs(study: optuna.Study) -> list[dict[str, Any]]:
    """Return what :func:`record_training` recorded, the best top-1 first."""
    found = [value for key, value in study.user_attrs.items() if key.startswith(f"{TRAINING_KEY}:")]
    return sorted(found, key=lambda row: (-row["top1"], row["date"]))
