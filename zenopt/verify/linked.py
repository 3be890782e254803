"""``zenopt verify``: short trainings of a study's best and of baselines, kept as a linked study beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from zenopt.core.errors import StudyError
from zenopt.study.spec import StudySpec
from zenopt.study.study import PARENT_KEY, open_existing
from zenopt.train.data import DataSet
from zenopt.train.errors import TrainError
from zenopt.train.recipe import Recipe
from zenopt.verify.agreement import Agreement, rank_agreement
from zenopt.verify.parallel import run_jobs
from zenopt.verify.trainings import Candidate, TrainedNetwork, train_briefly

#: Study user attribute that names the study whose networks were trained.
VERIFIES_KEY = PARENT_KEY
PRUNERS = ("none", "median", "halving")


@dataclass(frozen=True)
class Verified:
    """A network with its accuracies.

    Attributes:
        candidate: The network and what was said of it without training.
        top1: Test accuracy in percent, one a seed that was trained to the end.
        pruned: Seeds that a pruner ended early; their accuracies are not in ``top1``.
        learning_rate: Rate used, for 256 images a step.
    """

    candidate: Candidate
    top1: tuple[float, ...]
    pruned: int
    learning_rate: float

    @property
    def mean(self) -> float:
        """Mean accuracy over finished seeds; NaN where none finished."""
        return float(np.mean(self.top1)) if self.top1 else float("nan")


def verify(
    storage: optuna.storages.BaseStorage,
    name: str,
    spec: StudySpec,
    candidates: Sequence[Candidate],
    data: DataSet,
    recipe: Recipe,
    *,
    output: Path,
    seeds: Sequence[int] = (0,),
    devices: Sequence[str] = ("cpu",),
    workers: int = 1,
    url: str | None = None,
    pruner: str = "none",
    learning_rates: dict[str, float] | None = None,
    on_result: Callable[[TrainedNetwork], None] | None = None,
    suffix: str = "verify",
) -> list[Verified]:
    """Trains candidates for a short time and records every accuracy in a linked study, ``NAME-verify``.

    One trial of the linked study is one (network, seed). What an earlier run finished with the same recipe is read,
    not trained again.

    Args:
        storage:
            The storage of the verified study.
        name:
            Its name.
        spec:
            Its spec.
        candidates:
            The networks.
        data:
            Training and test images.
        recipe:
            How to train, epochs included.
        output:
            Folder of the runs.
        seeds:
            Training seeds.
        devices:
            Torch devices, which take turns.
        workers:
            Trainings at a time, each in a process of its own, which opens the storage by ``url``.
        url:
            URL of the storage; needed for several workers.
        pruner:
            ``"none"``, ``"median"`` or ``"halving"``: Optuna's pruners over epochs. Pruned networks take no part in
            rank agreement.
        learning_rates:
            A rate by label, for 256 images a step; the recipe's for others.
        on_result:
            Told of each network as it is done.
        suffix:
            Of the linked study's name.

    Returns:
        The networks with their accuracies, best mean first.
    """
    if workers > 1 and url is None:
        raise TrainError("Several workers need the URL of the storage.")
    linked, chosen = f"{name}-{suffix}", _pruner(pruner, recipe.epochs)
    study = optuna.create_study(
        storage=storage,
        study_name=linked,
        direction="maximize",
        load_if_exists=True,
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=chosen,
    )
    if study.user_attrs.get(VERIFIES_KEY, name) != name:
        raise StudyError(f"Study {study.study_name!r} verifies another study; rename one of them.")
    study.set_user_attr(VERIFIES_KEY, name)
    # What a pruner ended stays ended, unless this run wants none.
    known = _finished(
        study, (TrialState.COMPLETE,) if pruner == "none" else (TrialState.COMPLETE, TrialState.PRUNED)
    )
    rows: dict[str, list[TrainedNetwork]] = {}
    jobs: dict[str, _Job] = {}
    different: dict[str, Candidate] = {}
    for candidate in candidates:
        different.setdefault(candidate.structure, candidate)
    for candidate in different.values():
        for seed in seeds:
            rate = (learning_rates or {}).get(candidate.label, recipe.optimizer.lr)
            key = _key(candidate, seed, rate, recipe, data)
            if key in known:
                row = TrainedNetwork(candidate, *known[key])
                rows.setdefault(candidate.structure, []).append(row)
                if on_result is not None:
                    on_result(row)
                continue
            device = devices[len(jobs) % len(devices)]
            jobs[key] = _Job(
                study, url, candidate, seed, rate, key, spec, data, recipe, output, device, linked, chosen
            )
    for row in run_jobs(_train, list(jobs.values()), workers=workers, on_result=on_result):
        rows.setdefault(row.candidate.structure, []).append(row)
    verified = []
    for own in rows.values():
        finished = tuple(row.top1 for row in sorted(own, key=lambda row: row.seed) if not row.stopped)
        stopped = sum(row.stopped for row in own)
        verified.append(Verified(own[0].candidate, finished, stopped, own[0].learning_rate))
    return sorted(verified, key=lambda item: -item.mean if item.top1 else float("inf"))


def agreement(verified: Sequence[Verified], *, seed: int = 0) -> list[Agreement]:
    """Returns the rank agreement of every score and cost with accuracy, strongest first.

    Raises:
        TrainError: If fewer than three networks were trained to the end.
    """
    trained = [item for item in verified if item.top1]
    facts = [item.candidate.facts for item in trained]
    shared = [key for key in (facts[0] if facts else {}) if all(key in row for row in facts)]
    varied = [key for key in shared if len({row[key] for row in facts}) > 1]
    found = rank_agreement(facts, [item.top1 for item in trained], columns=varied, seed=seed)
    return sorted(found, key=lambda item: -abs(item.spearman) if isfinite(item.spearman) else 1.0)


@dataclass(frozen=True)
class _Job:
    """One training; in another process it opens the storage itself."""

    study: optuna.Study | None
    url: str | None
    candidate: Candidate
    seed: int
    rate: float
    key: str
    spec: StudySpec
    data: DataSet
    recipe: Recipe
    output: Path
    device: str
    linked: str
    pruner: optuna.pruners.BasePruner

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "study": None}

    def open(self) -> optuna.Study:
        if self.study is not None:
            return self.study
        assert self.url is not None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return optuna.load_study(
            storage=open_existing(self.url),
            study_name=self.linked,
            sampler=optuna.samplers.RandomSampler(),
            pruner=self.pruner,
        )


def _train(job: _Job) -> TrainedNetwork:
    study, candidate = job.open(), job.candidate
    trial = study.ask()
    for attribute, value in (
        ("structure", candidate.structure),
        ("label", candidate.label),
        ("training_seed", job.seed),
        ("learning_rate", job.rate),
        ("epochs", job.recipe.epochs),
        ("data", job.data.name),
        ("verify_key", job.key),
        *candidate.facts.items(),
    ):
        trial.set_user_attr(attribute, value)

    reported: set[int] = set()

    def should_stop(candidate: Candidate, seed: int, epoch: int, top1: float) -> bool:
        trial.report(top1, epoch)
        reported.add(epoch)
        # Stopping after the last epoch would throw a finished network away.
        return epoch < job.recipe.epochs and trial.should_prune()

    try:
        (row,) = train_briefly(
            [candidate],
            job.data,
            job.recipe,
            resolution=job.spec.resolution,
            output=job.output,
            seeds=(job.seed,),
            use_se=job.spec.use_se,
            devices=(job.device,),
            learning_rates={candidate.label: job.rate},
            should_stop=should_stop,
        )
    except BaseException as error:
        trial.set_user_attr("error", f"{type(error).__name__}: {error}")
        study.tell(trial, state=TrialState.FAIL)
        raise
    # Epochs of an earlier run that was read or continued.
    for epoch, top1 in enumerate(row.curve, start=1):
        if epoch not in reported:
            trial.report(top1, epoch)
    trial.set_user_attr("seconds", row.seconds)
    if row.stopped:
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, row.top1)
    return row


def _key(candidate: Candidate, seed: int, rate: float, recipe: Recipe, data: DataSet) -> str:
    return f"{candidate.structure}|{seed}|{data.name}|{recipe.at_rate(rate).model_dump_json()}"


def _finished(study: optuna.Study, states: tuple[TrialState, ...]) -> dict[str, tuple[Any, ...]]:
    """Returns what earlier runs were done with: key -> the fields of a TrainedNetwork after its candidate."""
    found: dict[str, tuple[Any, ...]] = {}
    # A network that was pruned once and trained to the end later counts as trained.
    for trial in sorted(
        study.get_trials(deepcopy=False, states=states), key=lambda trial: trial.state.value, reverse=True
    ):
        attributes = trial.user_attrs
        curve = tuple(trial.intermediate_values[step] for step in sorted(trial.intermediate_values))
        found[attributes["verify_key"]] = (
            attributes["training_seed"],
            attributes["learning_rate"],
            max(trial.intermediate_values, default=attributes["epochs"]),
            curve[-1] if curve else trial.value,
            curve,
            attributes["seconds"],
            trial.state == TrialState.PRUNED,
        )
    return found


def _pruner(name: str, epochs: int) -> optuna.pruners.BasePruner:
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=max(1, epochs // 4))
    if name == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=max(1, epochs // 4), reduction_factor=2)
    return optuna.pruners.NopPruner()
