"""Short trainings of a study's networks, read from the linked studies that hold them. Nothing else here knows how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from zenopt.study.study import load_study
from zenopt.verify.linked import LINK_KEY

#: Endings of the names of linked studies, and what they hold.
KINDS = {"trained": "second stage", "verify": "verification"}
_WINNER_KEY = "zenopt:winner"
#: Attributes of a training that are no facts of its network.
_OWN = (
    "structure",
    "label",
    "training_seed",
    "learning_rate",
    "epochs",
    "data",
    "verify_key",
    "seconds",
    "error",
    "worker",
)


@dataclass(frozen=True)
class Training:
    """One network trained with one seed: a trial of a linked study.

    Attributes:
        number: Number of the trial.
        seed: Seed of the training.
        epochs: Epochs after which there is an accuracy.
        accuracies: These accuracies, in percent.
        top1: The final one; ``None`` where it was not trained to the end.
        state: State of the trial.
        seconds: How long it took; ``None`` while it runs.
    """

    number: int
    seed: int
    epochs: tuple[int, ...]
    accuracies: tuple[float, ...]
    top1: float | None
    state: TrialState
    seconds: float | None


@dataclass(frozen=True)
class Trained:
    """A network with all its trainings.

    Attributes:
        structure: Structure string.
        label: Class or origin it was trained for.
        learning_rate: For 256 images a step.
        facts: Scores and costs by name.
        runs: Its trainings.
    """

    structure: str
    label: str
    learning_rate: float
    facts: Mapping[str, float]
    runs: tuple[Training, ...]

    @property
    def finished(self) -> tuple[float, ...]:
        """Accuracies of the trainings that went to the end, by seed, in percent."""
        return tuple(run.top1 for run in sorted(self.runs, key=lambda run: run.seed) if run.top1 is not None)

    @property
    def mean(self) -> float:
        """Mean of :attr:`finished`; NaN where there is none."""
        return float(np.mean(self.finished)) if self.finished else float("nan")

    @property
    def score(self) -> float:
        """Its training-free score, by the search or by formula; NaN where neither is known."""
        found = self.facts.get("score_mean", self.facts.get("closed_form"))
        return float("nan") if found is None else float(found)


@dataclass(frozen=True)
class Winner:
    """What a second stage chose.

    Attributes:
        structure: Structure string.
        label: Class it was trained for.
        held_out: Its accuracies on held-back images, one a seed, in percent.
        test_top1: Accuracy on the test images after training on all others; nothing was chosen by it.
        weights: Where its weights were written.
    """

    structure: str
    label: str
    held_out: tuple[float, ...]
    test_top1: float
    weights: str

    @property
    def mean(self) -> float:
        """Mean accuracy on held-back images, in percent."""
        return float(np.mean(self.held_out))


@dataclass(frozen=True)
class Trainings:
    """All trainings of a linked study.

    Attributes:
        name: Name of the linked study.
        parent: The study whose networks were trained.
        kind: ``"second stage"`` or ``"verification"``.
        data: What they were trained on.
        networks: Networks, best mean accuracy first; those without one last.
        winner: What a finished second stage chose.
    """

    name: str
    parent: str
    kind: str
    data: str
    networks: tuple[Trained, ...]
    winner: Winner | None

    @property
    def count(self) -> int:
        """Number of trainings."""
        return sum(len(network.runs) for network in self.networks)

    def summary(self) -> str:
        """Return what there is in a line."""
        states = [run.state for network in self.networks for run in network.runs]
        parts = [f"{len(self.networks)} networks, {len(states)} trainings"]
        for state, word in (
            (TrialState.PRUNED, "pruned"),
            (TrialState.RUNNING, "running"),
            (TrialState.FAIL, "failed"),
        ):
            if state in states:
                parts.append(f"{states.count(state)} {word}")
        return ", ".join(parts)


def parent_of(study: optuna.Study) -> str | None:
    """Return the study whose networks a linked study trains; ``None`` for any other study."""
    found = study.user_attrs.get(LINK_KEY)
    return None if found is None else str(found)


def read_trainings(study: optuna.Study) -> list[Trainings]:
    """Return the trainings of a study's networks, the second stage first; of a linked study, its own."""
    if parent_of(study) is not None:
        return [_read(study)]
    names = {stored.study_name for stored in study._storage.get_all_studies()}
    found = []
    for suffix in KINDS:
        if f"{study.study_name}-{suffix}" in names:
            linked = load_study(study._storage, f"{study.study_name}-{suffix}")
            # A study may have such a name and be anything.
            if parent_of(linked) == study.study_name:
                found.append(_read(linked))
    return found


def _read(study: optuna.Study) -> Trainings:
    parent = str(parent_of(study))
    trials = [trial for trial in study.get_trials(deepcopy=False) if "structure" in trial.user_attrs]
    rows: dict[str, list[FrozenTrial]] = {}
    for trial in trials:
        rows.setdefault(trial.user_attrs["structure"], []).append(trial)
    networks = sorted(
        (_trained(own) for own in rows.values()), key=lambda item: (np.isnan(item.mean), -item.mean)
    )
    data = dict.fromkeys(str(trial.user_attrs["data"]) for trial in trials if "data" in trial.user_attrs)
    kind = KINDS.get(study.study_name.removeprefix(f"{parent}-"), "trainings")
    winner = study.user_attrs.get(_WINNER_KEY)
    return Trainings(
        study.study_name, parent, kind, ", ".join(data), tuple(networks), winner and _winner(winner)
    )


def _trained(trials: list[FrozenTrial]) -> Trained:
    # Of a network that was pruned once and trained to the end later with the same seed, the latter counts.
    latest: dict[int, FrozenTrial] = {}
    for trial in sorted(trials, key=lambda trial: (trial.state == TrialState.COMPLETE, trial.number)):
        latest[int(trial.user_attrs.get("training_seed", 0))] = trial
    attributes = trials[-1].user_attrs
    numbers = {
        key: float(value)
        for key, value in attributes.items()
        if key not in _OWN and isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    return Trained(
        structure=attributes["structure"],
        label=str(attributes.get("label", "")),
        learning_rate=float(attributes.get("learning_rate", float("nan"))),
        facts=numbers,
        runs=tuple(_training(seed, trial) for seed, trial in sorted(latest.items())),
    )


def _training(seed: int, trial: FrozenTrial) -> Training:
    steps = sorted(trial.intermediate_values)
    return Training(
        number=trial.number,
        seed=seed,
        epochs=tuple(steps),
        accuracies=tuple(trial.intermediate_values[step] for step in steps),
        top1=trial.values[0] if trial.state == TrialState.COMPLETE and trial.values else None,
        state=trial.state,
        seconds=trial.user_attrs.get("seconds"),
    )


def _winner(content: dict[str, Any]) -> Winner:
    first = content["verified"][0]
    return Winner(
        structure=first["candidate"]["structure"],
        label=first["candidate"]["label"],
        held_out=tuple(first["top1"]),
        test_top1=content["test_top1"],
        weights=content["weights"],
    )
