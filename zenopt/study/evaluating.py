"""Values of architectures that somebody names, by any evaluator: a study with a queue in place of a sampler."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from zenopt.core.errors import StructureError
from zenopt.core.progress import SILENT, Progress
from zenopt.storage import open_storage
from zenopt.study.lists import Sample, sample_of
from zenopt.study.queued import Place, Queued, finished, work_through
from zenopt.study.search import SearchResult, checked_executor
from zenopt.study.spec import StudySpec
from zenopt.study.study import join_study, load_study

#: Trial user attribute by which architectures are told apart.
_KEY = "structure"


@dataclass(frozen=True)
class Evaluated:
    """An architecture and what became of its evaluation.

    Attributes:
        sample: The architecture with its costs, and whether it keeps the budget.
        value: Its value; ``None`` where it has none.
        std: Spread of the draws of a score, where there were several.
        trial: Number of its trial; ``None`` where it was not finished.
        seconds: What the evaluation took, where that is known.
        note: Why there is no value.
    """

    sample: Sample
    value: float | None = None
    std: float | None = None
    trial: int | None = None
    seconds: float | None = None
    note: str = ""

    @property
    def structure(self) -> str:
        """Canonical text of the architecture."""
        return self.sample.structure

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data, the architecture first."""
        return {
            "structure": self.structure,
            "value": self.value,
            "std": self.std,
            "trial": self.trial,
            "seconds": self.seconds,
            "note": self.note,
            **self.sample.costs,
            "feasible": self.sample.is_feasible,
        }


@dataclass(frozen=True)
class Evaluation:
    """What is known of a list of architectures.

    Attributes:
        study: Name of the study that holds the values.
        label: What a value is, in words.
        results: The architectures, best first; those without a value last, in the order of the list.
        run: What this run did; ``None`` where everything was known.
    """

    study: str
    label: str
    results: tuple[Evaluated, ...]
    run: SearchResult | None

    @property
    def missing(self) -> int:
        """How many are not finished."""
        return sum(item.trial is None for item in self.results)


def evaluation_spec(spec: StudySpec) -> StudySpec:
    """Return the spec of a study that evaluates what it is told to: space and objective are kept, limits are not.

    Raises:
        SpecError: If the rest of the spec makes no study.
    """
    content = spec.model_dump(mode="json")
    content["description"] = f"Architectures evaluated as those of the study {spec.name}"
    content["sampler"] = {"name": "queue"}
    content["objectives"], content["objective"]["then"] = ["score"], None
    # Whoever asks for a value wants it whatever the architecture costs.
    content["budget"], content["latency"], content["classes"] = {}, None, []
    return StudySpec.validated_data(content, f"spec of {spec.name}")


def open_place(
    spec: StudySpec,
    url: str,
    *,
    workers: int | None = 1,
    devices: Sequence[str] = ("cpu",),
    runs: str | Path = "runs",
    on: str = "processes",
    resources: str = "",
    progress: Progress = SILENT,
) -> Place:
    """Return where architectures are evaluated; nothing is written before it is sure that they can be.

    Args:
        spec:
            As :func:`evaluate_list` takes it.
        url:
            Storage URL.
        workers, devices, on, resources, runs:
            See :func:`~zenopt.study.search.run_search`.
        progress:
            Told of every architecture that is done now.

    Raises:
        ZenoptError: If a table, data or a device is missing, or the storage cannot be opened or shared.
    """
    evaluation_spec(spec).check()
    checked_executor(url, workers, devices, on, resources)
    return Place(
        open_storage(url),
        url,
        Path(runs),
        tuple(devices),
        workers,
        on=on,
        resources=resources,
        progress=progress,
    )


def evaluate_list(
    architectures: Iterable[Any],
    spec: StudySpec,
    place: Place,
    name: str | None = None,
    *,
    on_result: Callable[[Evaluated], None] = lambda result: None,
) -> Evaluation:
    """Evaluate architectures by a spec's objective; each is a trial of a study, and is evaluated once.

    A second call reads what is known and evaluates what is missing; several processes may share a list.

    Args:
        architectures:
            Architectures, or their texts.
        spec:
            Space, resolution and objective; its budget only says which of them would keep it.
        place:
            Where values are kept and evaluations run; see :func:`open_place`.
        name:
            Name of the study; by default the spec's with ``-evaluated`` behind it.
        on_result:
            Told of every architecture that is finished now.

    Raises:
        ZenoptError: If an architecture is not of the space, or the study was made with another objective.
    """
    own = evaluation_spec(spec)
    space = spec.space.build()
    samples: dict[str, Sample] = {}
    queue: dict[str, Queued] = {}
    for architecture in architectures:
        parsed = space.parse(architecture) if isinstance(architecture, str) else architecture
        sample = sample_of(spec, parsed)
        samples.setdefault(sample.structure, sample)
        queue.setdefault(sample.structure, Queued(space.encode(parsed), {}))
    if not samples:
        raise StructureError("There is no architecture to evaluate.")
    name = name or f"{spec.name}-evaluated"
    own = join_study(own, place.storage, name, place.devices[0])
    known = finished(load_study(place.storage, name), _KEY)

    def tell(structure: str, trial: FrozenTrial) -> None:
        on_result(_evaluated(samples[structure], trial))

    missing = {structure: item for structure, item in queue.items() if structure not in known}
    run = work_through(own, name, place, missing, key=_KEY, noun="architecture", on_done=tell)
    study = load_study(place.storage, name)
    known = finished(study, _KEY)
    results = [_evaluated(sample, known.get(structure)) for structure, sample in samples.items()]
    return Evaluation(name, own.evaluator().label(own), tuple(_ranked(results, study)), run)


def _evaluated(sample: Sample, trial: FrozenTrial | None) -> Evaluated:
    if trial is None:
        return Evaluated(sample, note="not finished")
    attributes = trial.user_attrs
    seconds = attributes.get("seconds", attributes.get("score_seconds"))
    value = trial.value if trial.state == TrialState.COMPLETE and isfinite(trial.value or 0.0) else None
    return Evaluated(
        sample,
        value,
        attributes.get("score_std") or None,
        trial.number,
        seconds,
        "" if value is not None else _why(trial, attributes),
    )


def _why(trial: FrozenTrial, attributes: Mapping[str, Any]) -> str:
    if attributes.get("error"):
        return str(attributes["error"])
    steps = trial.intermediate_values
    return f"ended by the pruner after step {max(steps)}" if steps else "there is no value of it"


def _ranked(results: Sequence[Evaluated], study: optuna.Study) -> list[Evaluated]:
    sign = -1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1.0
    # Sorting is stable: equal values, and those without one, keep the order of the list.
    return sorted(results, key=lambda item: (item.value is None, sign * (item.value or 0.0)))
