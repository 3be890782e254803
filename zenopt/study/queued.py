"""Studies that propose nothing: what is put into their queue is evaluated, by any number of workers, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from zenopt.core.progress import SILENT
from zenopt.core.progress import Progress as Listener
from zenopt.storage import requeue_orphans
from zenopt.study.search import Progress, SearchResult, run_search
from zenopt.study.spec import StudySpec
from zenopt.study.study import load_study

_DONE = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class Place:
    """Where evaluations run.

    Attributes:
        storage: An open storage.
        url: Its URL; needed for several workers.
        runs: Folder of the runs; every study has a folder of its own in it.
        devices: Torch devices, which take turns.
        workers: Evaluations at a time, each in a process of its own; ``None`` for as many as there is room for.
        on: Where the workers are; see :func:`~zenopt.study.search.run_search`.
        resources: What each of them takes there.
        on_result: Told of every result, also of those that were done before.
        on_progress: Told how far they are.
        progress: Told of every evaluation that is done now, not of those that were done before.
    """

    storage: optuna.storages.BaseStorage
    url: str | None = None
    runs: Path = Path("runs")
    devices: Sequence[str] = ("cpu",)
    workers: int | None = 1
    on: str = "processes"
    resources: str = ""
    on_result: Callable[[Any], None] = lambda result: None
    on_progress: Callable[[Progress], None] = lambda progress: None
    progress: Listener = SILENT


@dataclass(frozen=True)
class Queued:
    """An evaluation that is asked for.

    Attributes:
        params: Parameters of the architecture.
        user_attrs: What its trial brings along.
    """

    params: Mapping[str, Any]
    user_attrs: Mapping[str, Any]


def finished(study: optuna.Study, key: str) -> dict[str, FrozenTrial]:
    """Return the finished trials of a study by a user attribute; one that has a value counts before others."""
    found: dict[str, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False, states=_DONE):
        identity = trial.user_attrs.get(key)
        if identity is not None and found.get(identity, trial).state != TrialState.COMPLETE:
            found[identity] = trial
        elif identity is not None:
            found.setdefault(identity, trial)
    return found


def work_through(
    spec: StudySpec,
    name: str,
    place: Place,
    wanted: Mapping[str, Queued],
    *,
    key: str,
    noun: str,
    on_done: Callable[[str, FrozenTrial], None] = lambda identity, trial: None,
    linked: bool = False,
) -> SearchResult | None:
    """Put what is not in a study's queue into it, and work until the queue is empty.

    Args:
        spec:
            The study's spec; proposals are those of the queue, whatever its sampler.
        name:
            The study's name; it exists.
        place:
            Where evaluations run.
        wanted:
            What is asked for, by identity.
        key:
            User attribute that holds the identity.
        noun:
            What an evaluation is, for the progress.
        on_done:
            Told of everything that is asked for, once, when it is finished.
        linked:
            See :func:`~zenopt.study.study.join_study`.

    Returns:
        What the run did; ``None`` where nothing was asked for.
    """
    study = load_study(place.storage, name)
    requeue_orphans(study)
    if not wanted:
        return None
    active = (TrialState.WAITING, TrialState.RUNNING)
    there = {trial.user_attrs.get(key) for trial in study.get_trials(deepcopy=False, states=active)}
    for identity, item in wanted.items():
        if identity not in there:
            study.enqueue_trial(dict(item.params), user_attrs={**item.user_attrs, key: identity})
    reported: set[str] = set()
    place.progress.start(len(wanted), noun)

    def tell() -> None:
        for identity, trial in finished(study, key).items():
            if identity in wanted and identity not in reported:
                reported.add(identity)
                on_done(identity, trial)
                place.progress.advance()

    def progress(found: Progress) -> None:
        place.on_progress(found)
        if found.new:
            tell()
        place.progress.advance(0, under_way=found.under_way, running=found.running, waiting=found.waiting)

    result = run_search(
        spec.model_copy(update={"sampler": spec.sampler.model_copy(update={"name": "queue"})}),
        place.url or "memory:",
        name,
        trials=len(wanted),
        workers=place.workers,
        devices=place.devices,
        runs=place.runs,
        storage=place.storage,
        on_progress=progress,
        linked=linked,
        on=place.on,
        resources=place.resources,
    )
    tell()
    return result
