"""Short trainings of a study's networks, read from the linked studies that hold them. Nothing else here knows how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from zenopt.core.costs import COST_KINDS
from zenopt.core.words import plural
from zenopt.study.spec import NO_CLASS
from zenopt.study.study import load_study, read_spec
from zenopt.verify.linked import LINK_KEY, class_of

#: Endings of the names of linked studies, and what they hold.
KINDS = {"trained": "second stage", "verify": "verification"}
OWN_KIND = "trainings"
# As written by zenopt.verify.final, which loads torch.
_WINNER_KEY = "zenopt:winner"
#: Attributes of a training that are facts of its network.
_FACTS = ("closed_form", *COST_KINDS, "macs_per_conv", "latency_ms")


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
    """A network with all its trainings at one learning rate.

    Attributes:
        structure: Structure string.
        label: Class or origin it was trained for.
        learning_rate: For 256 images a step.
        score: Its training-free score in the search, or by formula; NaN where neither is known.
        facts: Closed form and costs by name.
        runs: Its trainings.
    """

    structure: str
    label: str
    learning_rate: float
    score: float
    facts: Mapping[str, float]
    runs: tuple[Training, ...]

    @property
    def number(self) -> int:
        """The trial of its first training, in the study that holds the trainings."""
        return min(run.number for run in self.runs)

    @property
    def finished(self) -> tuple[float, ...]:
        """Accuracies of the trainings that went to the end, by seed, in percent."""
        return tuple(run.top1 for run in sorted(self.runs, key=lambda run: run.seed) if run.top1 is not None)

    @property
    def mean(self) -> float:
        """Mean of :attr:`finished`; NaN where there is none."""
        return float(np.mean(self.finished)) if self.finished else float("nan")


@dataclass(frozen=True)
class Winner:
    """What a second stage chose.

    Attributes:
        structure: Structure string.
        label: Class it was trained for.
        learning_rate: For 256 images a step.
        held_out: Its accuracies on held-back images, one a seed, in percent.
        test_top1: Accuracy on the test images after training on all others; nothing was chosen by it.
        weights: Where its weights were written.
        expected: What a predictor of all trainings expects of it, where that decided, in percent.
    """

    structure: str
    label: str
    learning_rate: float
    held_out: tuple[float, ...]
    test_top1: float
    weights: str
    expected: float | None = None

    @property
    def mean(self) -> float:
        """Mean accuracy on held-back images, in percent."""
        return float(np.mean(self.held_out))


@dataclass(frozen=True)
class Trainings:
    """All trainings of a study.

    Attributes:
        name: Name of the study that holds them.
        parent: The study whose networks were trained; itself where its own trials are trainings.
        kind: ``"second stage"``, ``"verification"``, or ``"trainings"``.
        data: What they were trained on.
        networks: Networks, best mean accuracy first; those without one last. One that was trained with several learning
            rates occurs with each.
        winner: What a finished second stage chose.
    """

    name: str
    parent: str
    kind: str
    data: str
    networks: tuple[Trained, ...]
    winner: Winner | None

    @property
    def best(self) -> Trained | None:
        """The winner; before there is one, the network with the best mean."""
        chosen = [network for network in self.networks if self.is_winner(network)]
        return next((network for network in [*chosen, *self.networks] if network.finished), None)

    def is_winner(self, network: Trained) -> bool:
        """Return whether a network, at its learning rate, is the winner."""
        winner = self.winner
        return winner is not None and (network.structure, network.learning_rate) == (
            winner.structure,
            winner.learning_rate,
        )

    @property
    def has_classes(self) -> bool:
        """Whether networks were trained for classes or origins that differ."""
        return any(network.label != NO_CLASS for network in self.networks)

    @property
    def scored_by_formula(self) -> bool:
        """Whether all scores are closed forms."""
        return all(network.score == network.facts.get("closed_form") for network in self.networks)

    def different(self) -> list[Trained]:
        """Return each network once, at the rate that suited it best."""
        found: dict[str, Trained] = {}
        for network in self.networks:
            found.setdefault(network.structure, network)
        return list(found.values())

    @property
    def count(self) -> int:
        """Number of trainings."""
        return sum(len(network.runs) for network in self.networks)

    def summary(self) -> str:
        """Return what there is in a line."""
        states = [run.state for network in self.networks for run in network.runs]
        parts = [f"{plural(len(self.different()), 'network')}, {plural(len(states), 'training')}"]
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


def read_trainings(
    study: optuna.Study, scores: Mapping[str, float] | None = None, *, by_formula: bool = True
) -> list[Trainings]:
    """Return the trainings of a study's networks, the second stage first; of a linked study, its own.

    Args:
        study:
            A study of any kind.
        scores:
            What the search said of structures.
        by_formula:
            Whether the closed form stands for the score of a structure that is not among them.
    """
    known = scores or {}
    if parent_of(study) is not None:
        return [_read(study, known, by_formula)]
    names = {stored.study_name for stored in study._storage.get_all_studies()}
    found = []
    for suffix in KINDS:
        if f"{study.study_name}-{suffix}" in names:
            linked = load_study(study._storage, f"{study.study_name}-{suffix}")
            # A study may have such a name and be anything.
            if parent_of(linked) == study.study_name:
                found.append(_read(linked, known, by_formula))
    spec = read_spec(study, missing_ok=True)
    if spec is not None and spec.objective.kind == "train":
        found.append(_read(study, {}, True))
    return found


def _read(study: optuna.Study, scores: Mapping[str, float], by_formula: bool) -> Trainings:
    parent = parent_of(study) or study.study_name
    rows: dict[tuple[str, float], list[FrozenTrial]] = {}
    data: dict[str, None] = {}
    for trial in study.get_trials(deepcopy=False):
        # What was settled without a training has no seed of one.
        if "structure" in trial.user_attrs and "training_seed" in trial.user_attrs:
            rate = float(trial.user_attrs.get("learning_rate", float("nan")))
            rows.setdefault((trial.user_attrs["structure"], rate), []).append(trial)
            if "data" in trial.user_attrs:
                data[str(trial.user_attrs["data"])] = None
    networks = [_trained(own, rate, scores, by_formula) for (_, rate), own in rows.items()]
    networks.sort(key=lambda item: (np.isnan(item.mean), -item.mean))
    kind = KINDS.get(study.study_name.removeprefix(f"{parent}-"), OWN_KIND)
    winner = study.user_attrs.get(_WINNER_KEY)
    return Trainings(
        study.study_name, parent, kind, ", ".join(data), tuple(networks), winner and _winner(winner)
    )


def _trained(
    trials: list[FrozenTrial], rate: float, scores: Mapping[str, float], by_formula: bool
) -> Trained:
    # Of a network that was pruned once and trained to the end later with the same seed, the latter counts.
    latest: dict[int, FrozenTrial] = {}
    for trial in sorted(trials, key=lambda trial: (trial.state == TrialState.COMPLETE, trial.number)):
        latest[int(trial.user_attrs["training_seed"])] = trial
    attributes = trials[-1].user_attrs
    facts = {key: float(attributes[key]) for key in _FACTS if attributes.get(key) is not None}
    structure = attributes["structure"]
    return Trained(
        structure=structure,
        label=class_of(attributes.get("label")),
        learning_rate=rate,
        score=scores.get(structure, facts.get("closed_form", float("nan")) if by_formula else float("nan")),
        facts=facts,
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
        label=class_of(first["candidate"]["label"]),
        learning_rate=float(first["learning_rate"]),
        held_out=tuple(first["top1"]),
        test_top1=content["test_top1"],
        weights=content["weights"],
        expected=first.get("expected"),
    )
