"""The best of a study, as an export would choose it, without a bundle; and what trained alphas stand for."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna

from zenopt.core.budget import Budget
from zenopt.core.errors import SpecError, StudyError
from zenopt.core.files import CHECKPOINT
from zenopt.core.progress import SILENT, Progress
from zenopt.core.seeds import derive_rng
from zenopt.core.statistics import average_ranks
from zenopt.core.text import one_line, shortened_path
from zenopt.core.words import plural
from zenopt.latency.limits import Limits
from zenopt.predictors.networks import NetworkReader
from zenopt.samplers.candidates import gather
from zenopt.storage.history import top
from zenopt.study.best import rescore_top
from zenopt.study.lists import Sample, costs_of, sample_of
from zenopt.study.prediction import predict_networks
from zenopt.study.sections import SpaceSection
from zenopt.study.spec import StudySpec
from zenopt.study.study import read_spec
from zenopt.train.checkpoint import LAST
from zenopt.verify.final import decide


@dataclass(frozen=True)
class Derived:
    """An architecture that was chosen.

    Attributes:
        sample: The architecture with its costs.
        value: What it was chosen by.
        std: Spread of that over draws or training seeds; ``None`` where there was one.
        trial: Number of its trial in the search; ``None`` where trainings of a study of their own decided.
        search: Its value in the search, where that is another one.
        latency_ms: Its measured latency, where the device of a latency budget is at hand.
    """

    sample: Sample
    value: float
    std: float | None = None
    trial: int | None = None
    search: float | None = None
    latency_ms: float | None = None

    @property
    def structure(self) -> str:
        """Canonical text of the architecture."""
        return self.sample.structure

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data, the architecture first."""
        facts = {"value": self.value, "std": self.std, "trial": self.trial, "search": self.search}
        measured = {} if self.latency_ms is None else {"measured_ms": self.latency_ms}
        return {"structure": self.structure, **facts, **measured, **self.sample.costs}


@dataclass(frozen=True)
class Derivation:
    """What was chosen, and by what.

    Attributes:
        by: ``"score"``: fresh draws; ``"training"``: short trainings; ``"search"``: the values of the search;
            ``"prediction"``: what is expected of networks; ``"alphas"``: the weights of operations after an epoch.
        label: What a value is, in words.
        best: The architectures, best first.
    """

    by: Literal["score", "training", "search", "prediction", "alphas"]
    label: str
    best: tuple[Derived, ...]


def derive_best(
    study: optuna.Study,
    count: int = 1,
    *,
    by: str = "auto",
    candidates: int = 5,
    repeats: int = 8,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> Derivation:
    """Return the best architectures of a study, chosen as ``zenopt export-best`` chooses.

    Where short trainings chose, in their order; else the best few are scored again with fresh draws, so that one lucky
    draw does not win, and measured where the device of a latency budget is at hand.

    Args:
        study:
            A study made by zenopt.
        count:
            How many; fewer are returned where there are no more.
        by:
            ``"score"``, ``"training"``, or ``"auto"``: training where there was any.
        candidates:
            How many of the best are scored again, at least ``count``.
        repeats:
            Fresh draws of each, where scores are drawn.
        device:
            Torch device.
        progress:
            Is told of every candidate that is scored.

    Raises:
        StudyError: If nothing in the study is within the budget, or trainings are to decide and there were none.
        ProxyError: If no candidate can be scored.
    """
    spec = read_spec(study)
    assert spec is not None
    winner = decide(study, by)
    if winner is not None:
        trained = [item for item in winner.verified if item.top1][:count]
        found = tuple(
            Derived(_sample(spec, item.candidate.structure), item.mean, _spread(item.top1))
            for item in trained
        )
        return Derivation("training", "top-1 accuracy (%) on held-back images", found)
    label = spec.evaluator().label(spec)
    if spec.evaluator().keeps_files:
        # Its values are trainings: nobody asks for another one just to name the best.
        return Derivation("search", label, _as_searched(study, spec, count))
    _, scored = rescore_top(
        study,
        count=max(count, candidates),
        repeats=repeats,
        device=device,
        needs_networks=False,
        progress=progress,
    )
    found = tuple(
        Derived(
            _sample(spec, str(item.record.structure)),
            item.score.mean,
            item.score.std if len(item.score.values) > 1 else None,
            item.record.number,
            item.record.value,
            None if item.latency is None else item.latency.latency_ms,
        )
        for item in scored[:count]
    )
    return Derivation("score", label, found)


def derive_alphas(folder: Path, epoch: int | None = None) -> tuple[Derivation, int]:
    """Return the architecture that a differentiable search stands for, and after which of its epochs.

    Args:
        folder:
            What ``zenopt differentiable`` was given as ``--output``; the search need not be over.
        epoch:
            After which of its epochs, counted from 1; by default the last one, or the one chosen by the rule that ended
            it.

    Raises:
        CheckpointError: If there is no search in the folder, or it does not fit its space.
        SpecError: If the epoch is none of the search's.
    """
    from zenopt.differentiable.files import read_search

    facts, state = read_search(folder)
    chosen = epoch or state.taken or state.epoch
    if chosen > state.epoch:
        raise SpecError(
            f"The search in {shortened_path(folder)} has done {plural(state.epoch, 'epoch')}; it has no epoch {chosen}."
        )
    row = state.curve[chosen - 1]
    path = folder / LAST
    try:
        options = dict(facts["options"])
        section = SpaceSection(name=facts["space"], initial=options.pop("initial", None), options=options)
        limits = Limits(Budget(), facts["resolution"], len(facts["classes"]))
        epochs = int(facts["recipe"]["epochs"])
    except (LookupError, TypeError, ValueError) as error:
        raise CHECKPOINT.refusal(
            path, f"it does not say what was searched ({one_line(str(error), 120)})"
        ) from None
    architecture = section.build().parse(row.architecture)
    sample = Sample(row.architecture, costs_of(limits.check(architecture)), True, architecture)
    known = row.held_back_top1 if row.value is None else row.value
    what = "held-back top-1 (%) of the search network" if row.value is None else "its value in the table"
    ended = "" if chosen != state.taken else f", chosen after {state.epoch}"
    label = f"{what}, after epoch {chosen} of {epochs}{ended}"
    return Derivation("alphas", label, (Derived(sample, known),)), chosen


def derive_predicted(study: optuna.Study, count: int = 1, *, beside: str | None = None) -> Derivation:
    """Return the architectures of which a study's values make most expected, whether or not they were evaluated.

    They are chosen among the whole space within the budget, where it can be listed, else among some thousands of it.
    Values that scatter, or that a supernet gives, are smoothed by the predictor.

    Args:
        study:
            A study made by zenopt, of :data:`zenopt.study.prediction.FEWEST` values or more.
        count:
            How many; fewer are returned where there are no more.
        beside:
            A cost of which more is thought better, such as ``"macs"``: the mean of the ranks by prediction and by it
            decides.

    Raises:
        StudyError: If the study has too few values.
        BudgetError: If nothing fits the budget.
    """
    spec = read_spec(study)
    assert spec is not None
    space, limits = spec.build_space(), spec.limits()
    reader = NetworkReader(space, limits.resolution, limits.num_classes, limits.use_se)
    candidates = gather(
        space, limits, reader, spec.sampler.surrogate.candidates, derive_rng(spec.seed, 0, "candidates")
    )
    architectures = [space.parse(text) for text in candidates.texts]
    sign = 1.0 if spec.direction() == "maximize" else -1.0
    means = [own.mean for own in predict_networks(study, spec, architectures).networks]
    order = average_ranks([sign * mean for mean in means])
    if beside is not None:
        costs = [float(getattr(limits.count(own), beside)) for own in architectures]
        if not np.isfinite(costs).all():
            raise StudyError(f"The {beside} of networks of this space are not known; leave out --beside.")
        order = order + average_ranks(costs)
    chosen = np.argsort(-order, kind="stable")[:count]
    found = tuple(Derived(sample_of(spec, architectures[place]), means[place]) for place in chosen.tolist())
    label = f"predicted {spec.evaluator().label(spec)}"
    return Derivation("prediction", label if beside is None else f"{label}; mean rank with {beside}", found)


def _as_searched(study: optuna.Study, spec: StudySpec, count: int) -> tuple[Derived, ...]:
    found: dict[str, Derived] = {}
    for record in top(study, 4 * count, ("structure",)):
        if record.structure is not None and record.value is not None and len(found) < count:
            derived = Derived(_sample(spec, record.structure), record.value, trial=record.number)
            found.setdefault(record.structure, derived)
    if not found:
        raise StudyError(f"Study {study.study_name!r} has no feasible trial with a value yet.")
    return tuple(found.values())


def _sample(spec: StudySpec, structure: str) -> Sample:
    return sample_of(spec, spec.space.build().parse(structure))


def _spread(values: tuple[float, ...]) -> float | None:
    return statistics.pstdev(values) if len(values) > 1 else None
