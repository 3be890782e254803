"""Networks of a study that are trained: an ordinary study of its own, linked to it by its name.

Every training is a trial with the evaluator ``train``, queued with its network, seed and learning rate.
Workers, resuming, pruners and learning curves are those of any study; what was trained before is read, not
trained again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from zenopt.core.errors import StudyError
from zenopt.core.paths import file_name
from zenopt.core.text import quoted, shortened
from zenopt.study.evaluators.train import LABEL_KEY, LEARNING_RATE_KEY, RUN_KEY, SEED_KEY, TrainEvaluator
from zenopt.study.queued import Place, Queued, finished, work_through
from zenopt.study.sections import PrunerSection
from zenopt.study.spec import NO_CLASS, StudySpec
from zenopt.study.study import join_study, load_study

#: Study user attribute that names the study whose networks are trained.
LINK_KEY = "zenopt:verifies"


@dataclass(frozen=True)
class Candidate:
    """A network to be trained.

    Args:
        label:
            The class or origin it is reported under, e.g. ``zen``, ``params-max``, ``convs <= 10``.
        structure:
            Text of the architecture.
        facts:
            What was said of it without training: scores and costs by name.
        trial:
            The trial of the search that trained it first; ``None`` where that trained nothing.
    """

    label: str
    structure: str
    facts: Mapping[str, float] = field(default_factory=dict)
    trial: int | None = None

    @property
    def title(self) -> str:
        """What people know it by: its class, the trial, or both."""
        names = [self.label] if self.trial is None or self.label != NO_CLASS else []
        return ", ".join([*names, *([] if self.trial is None else [f"trial {self.trial}"])])


@dataclass(frozen=True)
class Training:
    """One network trained with one seed.

    Attributes:
        candidate: The network.
        seed: Training seed.
        learning_rate: The rate used, for 256 images a step.
        curve: Accuracy in percent after each epoch.
        seconds: Wall time.
        state: ``COMPLETE``; ``PRUNED`` where a pruner ended it early; ``FAIL`` where it diverged.
        error: Why it failed.
    """

    candidate: Candidate
    seed: int
    learning_rate: float
    curve: tuple[float, ...]
    seconds: float
    state: TrialState
    error: str = ""

    @property
    def top1(self) -> float | None:
        """Accuracy after the last epoch, in percent; ``None`` where it was not trained to the end."""
        return self.curve[-1] if self.state == TrialState.COMPLETE else None


@dataclass(frozen=True)
class Verified:
    """A network with its accuracies.

    Attributes:
        candidate: The network and what was said of it without training.
        top1: Accuracy in percent, one a seed that was trained to the end.
        pruned: Seeds that a pruner ended early, or that diverged; their accuracies are not in ``top1``.
        learning_rate: Rate used, for 256 images a step.
        expected: What a predictor that learned from all trainings expects of the network, in percent; ``None`` where
            none did.
    """

    candidate: Candidate
    top1: tuple[float, ...]
    pruned: int
    learning_rate: float
    expected: float | None = None

    @property
    def mean(self) -> float:
        """Mean accuracy over finished seeds; NaN where none finished."""
        return float(np.mean(self.top1)) if self.top1 else float("nan")


def class_of(label: str | None) -> str:
    """Return the class of a training's label, behind which finalists of a study that trains had a number once."""
    return str(label or NO_CLASS).partition(" #")[0]


def training_spec(spec: StudySpec, **training: Any) -> StudySpec:
    """Return the spec of a study in which networks of another one are trained.

    Args:
        spec:
            The other study's spec: space, resolution, classes and budget are kept.
        training:
            Fields of the section ``training`` that differ.

    Raises:
        SpecError: If a field is wrong.
    """
    content = spec.model_dump(mode="json")
    content["description"] = f"Networks of the study {spec.name}, trained"
    content["objective"] = {"kind": "train"}
    content["objectives"] = ["score"]
    content["sampler"] = {"name": "queue"}
    content["training"].update(training)
    # A latency budget was kept by whoever chose the networks; here it would only ask for its device again.
    content["latency"] = None
    content["budget"]["latency_ms"] = None
    return StudySpec.validated_data(content, f"spec of the trainings of {spec.name}")


class TrainingStudy:
    """A study whose trials are trainings that somebody asked for.

    Args:
        spec:
            Its spec; see :func:`training_spec`.
        place:
            Where the trainings run.
        name:
            Its name in the storage.
        of:
            Name of the study whose networks are trained; ``None`` if it is the study itself.

    Raises:
        StudyError: If a study of this name belongs to another one.
        ZenoptError: If the data or the recipe is missing or malformed.
    """

    def __init__(self, spec: StudySpec, place: Place, name: str, of: str | None = None) -> None:
        TrainEvaluator.check(spec)
        self.spec = spec
        self.name = name
        self.place = place
        self.space = spec.build_space()
        self.folder = Path(place.runs) / file_name(name, "The study's name")
        self.evaluator = TrainEvaluator(spec, place.devices[0], self.folder)
        if of is not None:
            join_study(spec, place.storage, name, place.devices[0], linked=True)
            if self.study.user_attrs.get(LINK_KEY, of) != of:
                raise StudyError(
                    f"Study {quoted(name)} holds trainings of another study; rename one of them."
                )
            self.study.set_user_attr(LINK_KEY, of)

    @property
    def study(self) -> optuna.Study:
        """The study as it is stored now."""
        return load_study(self.place.storage, self.name)

    def unpruned(self) -> TrainingStudy:
        """Return the same study, in which every training goes on to its end."""
        training = self.spec.training.model_copy(update={"pruner": PrunerSection()})
        return TrainingStudy(self.spec.model_copy(update={"training": training}), self.place, self.name)

    def train(
        self,
        candidates: Iterable[Candidate],
        *,
        seeds: Sequence[int] | Mapping[str, Sequence[int]] = (0,),
        rates: Mapping[str, float] | Sequence[float] = (),
    ) -> list[Training]:
        """Train networks, each with each seed.

        Args:
            candidates:
                The networks; equal structures are trained once.
            seeds:
                Training seeds; by structure where networks have seeds of their own.
            rates:
                A learning rate by label or structure, the recipe's for others; or a list of rates that are all tried.

        Returns:
            The trainings, by candidate, rate and seed.
        """
        different: dict[str, Candidate] = {}
        for candidate in candidates:
            different.setdefault(candidate.structure, candidate)
        wanted: dict[str, tuple[Candidate, dict[str, Any]]] = {}
        for candidate in different.values():
            architecture = self.space.parse(candidate.structure)
            own = seeds[candidate.structure] if isinstance(seeds, Mapping) else seeds
            for rate in self._rates(candidate, rates):
                for seed in own:
                    settings = {SEED_KEY: seed, LEARNING_RATE_KEY: rate, LABEL_KEY: candidate.label}
                    identity = self.evaluator.identity(architecture, settings)
                    wanted.setdefault(identity, (candidate, settings))
        known = self._known()
        told = dict.fromkeys(identity for identity in wanted if self._is_done(known.get(identity)))
        for identity in told:
            self.place.on_result(_training(wanted[identity][0], known[identity]))
        failures = self._queue({identity: item for identity, item in wanted.items() if identity not in told})
        known = self._known()
        missing = [wanted[identity][0].structure for identity in wanted if identity not in known]
        if missing:
            raise StudyError(
                f"{len(missing)} of {len(wanted)} trainings of study {quoted(self.name)} were not done, e.g. of "
                f"{shortened(missing[0], 120)}; {''.join(f'{failure}; ' for failure in failures)}run the command again "
                "to go on."
            )
        return [_training(candidate, known[identity]) for identity, (candidate, _) in wanted.items()]

    def _rates(self, candidate: Candidate, rates: Mapping[str, float] | Sequence[float]) -> Sequence[float]:
        own = self.evaluator.recipe.optimizer.lr
        if isinstance(rates, Mapping):
            return (rates.get(candidate.structure, rates.get(candidate.label, own)),)
        return tuple(rates) or (own,)

    def _is_done(self, trial: FrozenTrial | None) -> bool:
        if trial is None:
            return False
        # What a pruner ended stays ended, unless this run wants none.
        return trial.state != TrialState.PRUNED or self.spec.training.pruner.name != "none"

    def _known(self) -> dict[str, FrozenTrial]:
        return finished(self.study, RUN_KEY)

    def _queue(self, wanted: Mapping[str, tuple[Candidate, dict[str, Any]]]) -> Sequence[str]:
        """Work until the queue is empty, with trainings put into it that are not in it; return what went wrong."""
        queue = {
            identity: Queued(
                self.space.encode(self.space.parse(candidate.structure)),
                {**settings, **candidate.facts, "structure": candidate.structure},
            )
            for identity, (candidate, settings) in wanted.items()
        }

        def tell(identity: str, trial: FrozenTrial) -> None:
            self.place.on_result(_training(wanted[identity][0], trial))

        result = work_through(
            self.spec, self.name, self.place, queue, key=RUN_KEY, noun="training", on_done=tell, linked=True
        )
        return result.failures if result is not None else ()


def verified(trainings: Iterable[Training]) -> list[Verified]:
    """Return networks with the accuracies of their seeds, best mean first.

    Those of which a seed was not trained to its end come after the others, and those without any accuracy last.
    """
    rows: dict[str, list[Training]] = {}
    for training in trainings:
        rows.setdefault(training.candidate.structure, []).append(training)
    found = []
    for own in rows.values():
        finished = [item for item in sorted(own, key=lambda item: item.seed) if item.top1 is not None]
        top1 = tuple(item.top1 for item in finished if item.top1 is not None)
        found.append(Verified(own[0].candidate, top1, len(own) - len(finished), own[0].learning_rate))
    # Where a pruner ended some seeds, the mean is that of the lucky ones: it does not compare with whole ones.
    return sorted(found, key=lambda item: (not item.top1, item.pruned > 0, -item.mean if item.top1 else 0.0))


def best_rates(trainings: Iterable[Training]) -> dict[str, float]:
    """Return, for each label, the learning rate with the best mean accuracy; labels without any are left out."""
    means: dict[str, dict[float, list[float]]] = {}
    for training in trainings:
        if training.top1 is not None:
            rates = means.setdefault(training.candidate.label, {})
            rates.setdefault(training.learning_rate, []).append(training.top1)
    return {label: max(rates, key=lambda rate: float(np.mean(rates[rate]))) for label, rates in means.items()}


def first_of_each(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the first network of each label."""
    found: dict[str, Candidate] = {}
    for candidate in candidates:
        found.setdefault(candidate.label, candidate)
    return list(found.values())


def _training(candidate: Candidate, trial: FrozenTrial) -> Training:
    steps = sorted(trial.intermediate_values)
    return Training(
        candidate,
        int(trial.user_attrs[SEED_KEY]),
        float(trial.user_attrs[LEARNING_RATE_KEY]),
        tuple(trial.intermediate_values[step] for step in steps),
        float(trial.user_attrs.get("seconds", 0.0)),
        trial.state,
        str(trial.user_attrs.get("error", "")),
    )
