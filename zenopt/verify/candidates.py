"""Which networks of a study are worth a short training: its best ones, and baselines of the same budget."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import optuna

from zenopt.core.errors import BudgetError, StudyError
from zenopt.core.progress import SILENT, Progress
from zenopt.latency.limits import Limits
from zenopt.samplers.screening import Screening, screen
from zenopt.storage.history import top
from zenopt.storage.records import TrialRecord
from zenopt.study.spec import StudySpec
from zenopt.verify.linked import Candidate

#: Facts that the search recorded and that are compared with accuracy.
RECORDED = ("score_mean", "closed_form", "latency_ms")
BASELINES = ("random", "params-max", "macs-max")
#: Depth classes of a study whose spec names none.
QUANTILES = (0.25, 0.5, 0.75, 1.0)
#: Trials that are looked through, best first, for candidates of the classes.
LOOKED_AT = 20_000


def facts_of(structure: str, spec: StudySpec, recorded: dict[str, float] | None = None) -> dict[str, float]:
    """Return scores and costs of a structure, by name."""
    architecture = spec.build_space().parse(structure)
    check = spec.limits().check(architecture)
    costs = check.costs
    facts = {
        "params": costs.params,
        "macs": costs.macs,
        "layers": costs.layers,
        "convs": costs.convs,
        "macs_per_conv": costs.macs / costs.convs,
        "depth_to_width": costs.depth_to_width,
        "min_width": costs.min_width,
    }
    closed_form = architecture.closed_form("zen", resolution=spec.resolution, batch_size=64)
    if closed_form is not None:
        facts = {"closed_form": closed_form, **facts}
    if check.latency_ms is not None:
        facts["latency_ms"] = check.latency_ms
    return {**facts, **(recorded or {})}


def study_best(study: optuna.Study, spec: StudySpec, count: int) -> list[Candidate]:
    """Return the best feasible structures of a study, under the label of its proxy.

    Raises:
        StudyError: If there is none.
    """
    spec.require_networks()
    found: dict[str, Candidate] = {}
    for record in top(study, 4 * count, ("structure", *RECORDED)):
        structure = record.structure
        if structure is None or structure in found or len(found) == count:
            continue
        found[structure] = candidate_of(record, spec, spec.proxy.name)
    if not found:
        raise StudyError(
            f"Study {study.study_name!r} has no feasible trial to verify; run zenopt optimize first."
        )
    return list(found.values())


def candidate_of(record: TrialRecord, spec: StudySpec, label: str) -> Candidate:
    """Return a recorded trial as a network to be trained; the record has a structure and :data:`RECORDED`."""
    assert record.structure is not None
    recorded = {
        key: float(record.user_attrs[key]) for key in RECORDED if record.user_attrs.get(key) is not None
    }
    return Candidate(label, record.structure, facts_of(record.structure, spec, recorded))


def baselines(
    spec: StudySpec,
    *,
    each: int = 2,
    conv_caps: Sequence[int] = (),
    candidates: int = 3000,
    seed: int = 0,
    progress: Progress = SILENT,
) -> list[Candidate]:
    """Return networks of the same budget that were not chosen by the study's score.

    Random architectures shrunk into the budget; the most parameters; the most multiply-adds; and for each cap the best
    closed-form Zen-score with at most so many convolutions. A cap under which nothing fits is left out.

    Args:
        spec:
            Space and budget.
        each:
            Networks of each kind.
        conv_caps:
            Caps on main-path convolutions.
        candidates:
            Mutations tried for each network.
        seed:
            Seed of all of them.
        progress:
            Is told of every network.
    """
    space, limits = spec.build_space(), spec.limits()
    found: list[Candidate] = []
    known: set[str] = set()

    def add(label: str, architecture: Any) -> None:
        structure = str(architecture)
        known.add(structure)
        found.append(Candidate(label, structure, facts_of(structure, spec)))
        progress.advance()

    progress.start(each * (len(BASELINES) + len(conv_caps)), "baseline")
    rng = random.Random(f"baselines:{seed}")
    while sum(candidate.label == "random" for candidate in found) < each:
        drawn = space.draw(rng)
        if drawn is not None and str(fitted := limits.closest_fit(space, drawn)) not in known:
            add("random", fitted)
    kinds: list[tuple[str, Limits, Callable[[Any], float]]] = [
        ("params-max", limits, lambda architecture: float(limits.count(architecture).params)),
        ("macs-max", limits, lambda architecture: float(limits.count(architecture).macs)),
    ]
    for cap in conv_caps:
        capped = replace(limits, budget=limits.budget.with_limits(convs=cap))
        kinds.append((f"zen, convs <= {cap}", capped, partial(_closed_form, resolution=spec.resolution)))
    for label, own_limits, value in kinds:
        try:
            initial = own_limits.closest_fit(space, space.parse(space.initial))
        except BudgetError:
            continue
        for index in range(each):
            best = screen(
                [initial],
                known,
                limits=own_limits,
                mutate=space.mutate,
                value=value,
                settings=Screening(candidates=candidates),
                rng=random.Random(f"{label}:{seed}:{index}"),
            )
            if best is not None:
                add(label, best)
    return found


def _closed_form(architecture: Any, resolution: int) -> float:
    value = architecture.closed_form("zen", resolution=resolution, batch_size=64)
    if value is None:
        raise StudyError(f"{type(architecture).__name__} has no closed-form score for a capped baseline.")
    return float(value)


def class_candidates(study: optuna.Study, spec: StudySpec, per_class: int) -> list[Candidate]:
    """Return the best feasible structures of every class, none twice.

    The classes are the spec's. Without any they are quarters of the study's networks by their number of convolutions;
    where values are accuracies (of a supernet), all networks are one class.

    Raises:
        StudyError: If the study has no feasible trial.
    """
    space = spec.build_space()
    records: dict[str, TrialRecord] = {}
    for record in top(study, LOOKED_AT, ("structure", *RECORDED)):
        if record.structure is not None:
            records.setdefault(record.structure, record)
    if not records:
        raise StudyError(f"Study {study.study_name!r} has no feasible trial to train; search on.")
    limits = spec.limits()
    costs = {structure: limits.count(space.parse(structure)) for structure in records}
    whole = [("best", limits)] if spec.evaluator().gives_accuracies else []
    classes = spec.class_limits() or whole or _depth_classes(limits, [item.convs for item in costs.values()])
    found: dict[str, Candidate] = {}
    for label, own in classes:
        taken = 0
        for structure, record in records.items():
            if taken == per_class:
                break
            if structure not in found and own.keeps(costs[structure]):
                found[structure] = candidate_of(record, spec, label)
                taken += 1
    return list(found.values())


def _depth_classes(limits: Limits, convs: Sequence[int]) -> list[tuple[str, Limits]]:
    caps = sorted({int(cap) for cap in np.quantile(convs, QUANTILES, method="higher")})
    return [
        (f"convs <= {cap}", replace(limits, budget=limits.budget.with_limits(convs=float(cap))))
        for cap in caps
    ]
