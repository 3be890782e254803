"""What is trained again is decided by what it would tell, the winner by all of it.

One training after another (as many at a time as there are workers) goes to the network by which the expected accuracy
of the winner grows most: the knowledge gradient of Frazier, Powell & Dayanik, "The Knowledge-Gradient Policy for
Correlated Normal Beliefs", 2009, over the posterior of all trainings. The winner is the network of the best posterior
mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from optuna.trial import FrozenTrial, TrialState

from zenopt.core.words import plural
from zenopt.study.evaluators.train import LEARNING_RATE_KEY, RUN_KEY, SEED_KEY
from zenopt.study.prediction import LearnedStudy
from zenopt.study.queued import finished
from zenopt.verify.linked import TrainingStudy, Verified


def train_again(
    trainings: TrainingStudy, ranked: Sequence[Verified], count: int, on_step: Callable[[str], None]
) -> list[Verified]:
    """Train again what tells most, and return all networks, best posterior mean first; what was done is not done again.

    Args:
        trainings:
            The study of the trainings.
        ranked:
            Networks that were trained, each with the learning rate it keeps.
        count:
            Trainings; those since a network was trained for the first time count.
        on_step:
            Told in words what comes next.

    Raises:
        StudyError: If a training could not be done.
    """
    spec = trainings.spec
    items = {item.candidate.structure: item for item in ranked if item.top1}
    known = _known(trainings)
    left = count - _done(known)
    if left > 0:
        on_step(f"Training {plural(left, 'time')} again, always what tells most about which network is best.")
    # Every training counts: the mean of those that a pruner let live would be that of the lucky ones.
    whole = trainings.unpruned()
    while left > 0:
        seeds: dict[str, list[int]] = {}
        learned = LearnedStudy(trainings.study, spec)
        for structure in learned.repeats(min(left, trainings.place.workers or 1), items):
            own = seeds.setdefault(structure, [])
            own.append(_next_seed(known, structure) + len(own))
        chosen = [items[structure] for structure in seeds]
        rates = {item.candidate.structure: item.learning_rate for item in chosen}
        whole.train([item.candidate for item in chosen], seeds=seeds, rates=rates)
        known = _known(trainings)
        left = count - _done(known)
    architectures = [trainings.space.parse(structure) for structure in items]
    found = LearnedStudy(trainings.study, spec).predict(architectures).networks
    judged = [
        replace(items[own.structure], top1=_accuracies(known, items[own.structure]), expected=own.mean)
        for own in found
    ]
    judged.sort(key=lambda item: -(item.expected or 0.0))
    return judged + [item for item in ranked if not item.top1]


def _known(trainings: TrainingStudy) -> list[FrozenTrial]:
    """Return the finished trainings, by trial."""
    return sorted(finished(trainings.study, RUN_KEY).values(), key=lambda trial: trial.number)


def _done(known: Sequence[FrozenTrial]) -> int:
    """Return how many trainings with further seeds are finished since the last network was trained first."""
    last = max((trial.number for trial in known if not trial.user_attrs.get(SEED_KEY)), default=-1)
    return sum(trial.number > last for trial in known)


def _next_seed(known: Sequence[FrozenTrial], structure: str) -> int:
    own = [trial.user_attrs for trial in known if trial.user_attrs.get("structure") == structure]
    return 1 + max((int(attributes.get(SEED_KEY, 0)) for attributes in own), default=0)


def _accuracies(known: Sequence[FrozenTrial], item: Verified) -> tuple[float, ...]:
    """Return the accuracies of a network at its learning rate, in the order of the trials."""
    return tuple(
        trial.value
        for trial in known
        if trial.state == TrialState.COMPLETE
        and trial.value is not None
        and trial.user_attrs.get("structure") == item.candidate.structure
        and trial.user_attrs.get(LEARNING_RATE_KEY) == item.learning_rate
    )
