"""Studies: created from a spec, joined under the condition that they agree with it, and summarised."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState
from pydantic import ValidationError

from zenopt.core.errors import StudyError
from zenopt.core.files import STORED_SPEC, first_problem, parse_json
from zenopt.core.pareto import first_front
from zenopt.core.text import one_line, quoted, quoted_list, shortened
from zenopt.core.words import plural
from zenopt.storage import open_storage
from zenopt.storage.history import StudyHistory, count_by_state, top
from zenopt.storage.records import TrialRecord
from zenopt.study.spec import StudySpec

#: Study user attribute with the resolved spec, as JSON.
SPEC_KEY = "zenopt:spec"
#: Attributes read for the best trial.
BEST_KEYS = ("structure", "params", "macs", "layers", "latency_ms", "closed_form", "score_std", "score_batch")
# With the counts of a budget that goes by ZenNAS's.
_READ_KEYS = (*BEST_KEYS, "zennas_params", "zennas_flops")
#: Longest attribute that optuna-dashboard writes of a note.
_NOTE_LENGTH = 2045


def join_study(
    spec: StudySpec,
    storage: optuna.storages.BaseStorage,
    name: str,
    device: str,
    *,
    linked: bool = False,
) -> StudySpec:
    """Create the study, or join a stored one that agrees with the spec.

    Args:
        spec:
            What to search.
        storage:
            Where.
        name:
            Name of the study in the storage.
        device:
            Kind of device that will score; fixes the score batch of a new study.
        linked:
            The study keeps trainings for another one. They may differ in recipe, epochs and data, since every
            trial says how it was trained; those of version 0.1 had no spec.

    Returns:
        The spec to use: the given one with the study's score batch.

    Raises:
        StudyError: If the stored study has another space, proxy or budget (the fields are listed), or is not ours.
    """
    directions = spec.directions()
    resolved = spec.with_batch_size(device)
    study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
    stored = read_spec(study, missing_ok=True)
    if stored is None:
        if study.directions != [StudyDirection[direction.upper()] for direction in directions]:
            found = ", ".join(item.name.lower() for item in study.directions)
            raise StudyError(
                f"Study {name!r} is to {found}, the spec's objective to {', '.join(directions)}; "
                f"choose another name with --study-name."
            )
        if study.get_trials(deepcopy=False) and not linked:
            raise StudyError(f"Study {name!r} was not made by zenopt; choose another name with --study-name.")
        study.set_user_attr(SPEC_KEY, resolved.model_dump_json())
        _describe(study, resolved)
        # Another worker may have created the study in the same moment: the one spec that is stored counts.
        stored = read_spec(study)
        assert stored is not None
    if spec.proxy.batch_size is None:
        resolved = spec.model_copy(
            update={"proxy": spec.proxy.model_copy(update={"batch_size": stored.proxy.batch_size})}
        )
    if linked:
        return resolved
    differences = _differences(stored.identity(), resolved.identity())
    if differences:
        raise StudyError(
            f"Study {name!r} was made with another spec; these fields differ (stored -> asked for): "
            f"{'; '.join(differences)}. Choose another name with --study-name."
        )
    return resolved


def _describe(study: optuna.Study, spec: StudySpec) -> None:
    """Tell readers that know Optuna alone what the values are, and what is searched."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([spec.evaluator().label(spec), *spec.objectives[1:]])
    note = note_of(spec)
    # As optuna-dashboard keeps the note of a study; it need not be installed here.
    storage, study_id = study._storage, study._study_id
    for start in range(0, len(note), _NOTE_LENGTH):
        storage.set_study_system_attr(
            study_id,
            f"dashboard:note_str:{start // _NOTE_LENGTH}",
            note[start : start + _NOTE_LENGTH],
        )
    storage.set_study_system_attr(study_id, "dashboard:note_ver", 1)


def note_of(spec: StudySpec) -> str:
    """Return the note that a new study has in optuna-dashboard."""
    limits = ", ".join(f"{name} {limit:g}" for name, limit in spec.limits().budget.limits().items())
    return (
        f"{spec.description or spec.name}\n\nMade by zenopt: space {spec.space.name}, {spec.resolution} px, "
        f"{plural(spec.num_classes, 'class')}; budget: {limits or 'none'}. A trial is feasible where all of its "
        "constraints are at most 0; infeasible trials are pruned, or have the worst value there is."
    )


def _differences(stored: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    missing = object()
    return [
        f"{key}: {_show(stored.get(key, missing), missing)} -> {_show(asked.get(key, missing), missing)}"
        for key in dict.fromkeys((*stored, *asked))
        if stored.get(key, missing) != asked.get(key, missing)
    ]


def _show(value: Any, missing: object) -> str:
    return "(not set)" if value is missing else shortened(json.dumps(value))


def open_existing(url: str) -> optuna.storages.BaseStorage:
    """Open a storage for reading; unlike a search, a look does not create the file.

    Raises:
        StorageError: If there is nothing to open.
    """
    return open_storage(url, create=False)


def load_study(
    storage: optuna.storages.BaseStorage,
    name: str,
    sampler: optuna.samplers.BaseSampler | None = None,
    pruner: optuna.pruners.BasePruner | None = None,
) -> optuna.Study:
    """Load a stored study.

    Raises:
        StudyError: If there is none of this name; the message lists those there are.
    """
    try:
        # A given sampler keeps Optuna from making a TPESampler, which imports what nobody uses.
        return optuna.load_study(
            study_name=name,
            storage=storage,
            sampler=sampler or optuna.samplers.RandomSampler(),
            pruner=pruner or optuna.pruners.NopPruner(),
        )
    except KeyError:
        names = sorted(study.study_name for study in storage.get_all_studies())
        known = f"stored studies: {quoted_list(names, 1000)}" if names else "the storage holds no study yet"
        raise StudyError(f"No study {quoted(name)} in this storage; {known}.") from None


def read_spec(study: optuna.Study, *, missing_ok: bool = False) -> StudySpec | None:
    """Return the spec stored with a study.

    Raises:
        StudyError: If there is none, or it cannot be read by this version.
    """
    text = study.user_attrs.get(SPEC_KEY)
    if text is None and missing_ok:
        return None
    name = quoted(study.study_name)
    if not isinstance(text, str):
        raise StudyError(
            f"Study {name} was not made by zenopt optimize (it stores no spec): zenopt status and Optuna's own tools "
            "read it."
        )
    try:
        return StudySpec.model_validate(parse_json(text, study.study_name, STORED_SPEC))
    except ValidationError as error:
        place, problem = first_problem(error)
        raise StudyError(
            f"Study {name} stores a spec this version cannot read: {place}: {one_line(problem, 200)}."
        ) from None


@dataclass(frozen=True)
class StudyStatus:
    """Counts of trials by state, and the best feasible one."""

    name: str
    trials: int
    complete: int
    pruned: int
    running: int
    waiting: int
    failed: int
    best: TrialRecord | None
    spec: StudySpec | None
    front: tuple[TrialRecord, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the status as plain data; the front only where there are several objectives."""
        content = {
            "study": self.name,
            "trials": self.trials,
            "complete": self.complete,
            "pruned": self.pruned,
            "running": self.running,
            "waiting": self.waiting,
            "failed": self.failed,
            "latency_device": self.spec.latency.device if self.spec and self.spec.latency else None,
            "best": best_json(self.best),
        }
        if self.spec is not None and len(self.spec.objectives) > 1:
            content["objectives"] = list(self.spec.objectives)
            content["front"] = [
                {**(best_json(record) or {}), "values": list(record.values or ())} for record in self.front
            ]
        return content


def best_json(best: TrialRecord | None) -> dict[str, Any] | None:
    """Return the facts of a best trial as plain data."""
    if best is None:
        return None
    attributes = {key: best.user_attrs.get(key) for key in BEST_KEYS}
    return {"number": best.number, "value": best.value, **attributes}


def read_status(study: optuna.Study) -> StudyStatus:
    """Return counts and the best feasible trial of a study; slim queries only."""
    counts = count_by_state(study)
    single = len(study.directions) == 1 and study.direction != StudyDirection.NOT_SET
    front = read_front(study) if len(study.directions) > 1 else []
    spec = read_spec(study, missing_ok=True)
    # Our studies put the score first; which objective of a foreign one decides is not ours to say.
    best = top(study, 1, _READ_KEYS) if single else front[:1] if spec is not None else []
    return StudyStatus(
        name=study.study_name,
        trials=sum(counts.values()),
        complete=counts[TrialState.COMPLETE],
        pruned=counts[TrialState.PRUNED],
        running=counts[TrialState.RUNNING],
        waiting=counts[TrialState.WAITING],
        failed=counts[TrialState.FAIL],
        best=best[0] if best else None,
        spec=spec,
        front=tuple(front),
    )


def read_front(study: optuna.Study) -> list[TrialRecord]:
    """Return the feasible trials of a study with several objectives that no other one dominates, best score first."""
    records: dict[str, TrialRecord] = {}
    for record in StudyHistory(study, _READ_KEYS).sync():
        if record.state == TrialState.COMPLETE and record.values is not None and record.is_feasible:
            records.setdefault(record.structure or f"trial {record.number}", record)
    if not records:
        return []
    signs = [1.0 if item == StudyDirection.MAXIMIZE else -1.0 for item in study.directions]
    found = list(records.values())
    points = [
        [sign * value for sign, value in zip(signs, record.values or (), strict=True)] for record in found
    ]
    best = [(points[index], found[index]) for index in first_front(points)]
    return [record for _, record in sorted(best, key=lambda item: (-item[0][0], item[1].number))]
