"""Choosing what to export: the best candidates of a study, scored again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import optuna
from optuna.study import StudyDirection

from zenopt.core.errors import EvaluationError, ProxyError, StudyError
from zenopt.core.progress import SILENT, Progress
from zenopt.core.score import Score
from zenopt.core.seeds import derive_seed
from zenopt.core.words import plural
from zenopt.export.bundle import Bundle
from zenopt.storage.history import count_by_state, top
from zenopt.storage.records import TrialRecord
from zenopt.study.bundles import bundle_of
from zenopt.study.evaluators import make_evaluator
from zenopt.study.finalists import keeps_budget, measure_finalists, nothing_keeps_budget
from zenopt.study.spec import StudySpec
from zenopt.study.study import BEST_KEYS, read_front, read_spec

if TYPE_CHECKING:
    from zenopt.latency.live import FinalistLatency


@dataclass(frozen=True)
class Rescored:
    """A candidate with its score from the search and its fresh one.

    Attributes:
        record: Its trial.
        score: Its fresh score.
        latency: Its measured latency, where the device of the budget is at hand.
    """

    record: TrialRecord
    score: Score
    latency: FinalistLatency | None = None


def rescore_top(
    study: optuna.Study,
    *,
    count: int = 5,
    repeats: int = 8,
    device: str = "cpu",
    needs_networks: bool = True,
    progress: Progress = SILENT,
) -> tuple[StudySpec, list[Rescored]]:
    """Score the best feasible candidates of a study again, with fresh draws.

    The search keeps single noisy draws, so its best is partly luck; the best fresh mean is not chosen by the draw that
    judges it. With several objectives the candidates are those of the Pareto front with the best scores. Where the
    latency budget is of a device that was calibrated and is at hand, they are measured whole as well.

    Args:
        study:
            A study made by zenopt.
        count:
            How many of the best to score.
        repeats:
            Fresh draws of each, where scores are drawn.
        device:
            Torch device.
        needs_networks:
            Whether studies of architectures without networks, rows of a table, are refused.
        progress:
            Is told of every candidate that is scored, and of the visits while finalists are measured.

    Returns:
        The study's spec, and the candidates by fresh mean, best first; those that break the latency budget when
        measured come last.

    Raises:
        StudyError: If the study is empty, nothing in it is feasible, or no candidate keeps the budget when measured.
        ProxyError: If no candidate can be scored.
    """
    spec = read_spec(study)
    assert spec is not None
    if needs_networks:
        spec.require_networks()
    if spec.objective.kind == "train":
        # A score is drawn again in seconds; a training would be the whole evaluation once more.
        raise StudyError(
            f"The trainings of study {study.study_name!r} have chosen no winner yet; run zenopt optimize --study-name "
            f"{study.study_name} --trials 0."
        )
    # Duplicates share a structure with an earlier trial; ask for a few more and drop them.
    records: dict[str, TrialRecord] = {}
    for record in top(study, 4 * count, BEST_KEYS) if len(study.directions) == 1 else read_front(study):
        if record.structure is not None:
            records.setdefault(record.structure, record)
    if not records:
        trials = sum(count_by_state(study).values())
        if trials == 0:
            raise StudyError(f"Study {study.study_name!r} has no trials yet; run zenopt optimize first.")
        raise StudyError(
            f"Study {study.study_name!r} has no feasible trial among {trials}; raise the budget or run on."
        )
    space = spec.build_space()
    evaluator = make_evaluator(spec, device)
    spec.direction()
    if evaluator.is_noisy:
        progress.note(
            f"Scoring the best of study {study.study_name} again, {plural(repeats, 'fresh draw')} each."
        )
    else:
        # Equal networks have equal scores.
        repeats = 1
    found: list[Rescored] = []
    errors = []
    wanted = list(records.values())[:count]
    sign = -1.0 if study.directions[0] == StudyDirection.MAXIMIZE else 1.0
    progress.start(len(wanted), "candidate")
    for record in wanted:
        try:
            score = evaluator.evaluate(
                space.parse(record.structure),
                seed=derive_seed(spec.seed, record.number, "export"),
                settings={},
                repeats=repeats,
            )
        except EvaluationError as error:
            errors.append(f"trial {record.number}: {error}")
            progress.note(f"Warning: trial {record.number} cannot be scored again: {error}")
            progress.advance()
            continue
        found.append(Rescored(record, score))
        best = min(found, key=lambda item: sign * item.score.mean)
        progress.advance(best=best.score.mean, of_trial=best.record.number)
    if not found:
        raise ProxyError(f"No candidate could be scored again: {'; '.join(errors)}")
    found.sort(key=lambda item: (sign * item.score.mean, item.record.number))
    return spec, _measured(spec, found, progress)


def _measured(spec: StudySpec, candidates: list[Rescored], progress: Progress) -> list[Rescored]:
    """Return the candidates with measured latencies, those that break the budget last."""
    space = spec.build_space()
    latencies = measure_finalists(spec, [space.parse(item.record.structure) for item in candidates], progress)
    if latencies is None:
        return candidates
    limits = spec.limits()
    measured = [replace(item, latency=latency) for item, latency in zip(candidates, latencies, strict=True)]
    # Sorting is stable: by fresh mean within those that keep the budget, and within the others.
    measured.sort(key=lambda item: not keeps_budget(limits, item.latency))
    if not keeps_budget(limits, measured[0].latency):
        raise nothing_keeps_budget(limits, latencies)
    return measured


def make_bundle(study: optuna.Study, spec: StudySpec, candidates: list[Rescored]) -> Bundle:
    """Return the bundle of the first candidate; the others are listed in it."""
    best = candidates[0]
    structure = best.record.structure
    assert structure is not None
    limits = spec.limits()
    latency: dict[str, Any] | None = None
    violations: dict[str, float] = {}
    if best.latency is not None:
        latency = {
            "latency_ms": best.latency.latency_ms,
            "latency_kind": "measured",
            "latency_standard_error": best.latency.standard_error,
        }
        if limits.full_latency_ms is not None:
            # A margin is for predictions; what was measured is held against the budget itself.
            violations["latency_ms"] = best.latency.latency_ms / limits.full_latency_ms - 1
    elif spec.latency is not None and best.record.user_attrs.get("latency_ms"):
        # A trial keeps what was measured; a fresh check would only predict.
        latency = {
            "latency_ms": best.record.user_attrs["latency_ms"],
            "latency_kind": spec.latency.label,
        }
    return bundle_of(
        spec,
        spec.build_space().parse(structure),
        study=study.study_name,
        trial=best.record.number,
        scores={
            "proxy": best.score.source,
            "search": best.record.value,
            "mean": best.score.mean,
            "std": best.score.std,
            "values": list(best.score.values),
            "batch_size": best.score.batch_size,
            "closed_form": best.record.user_attrs.get("closed_form"),
        },
        candidates=[
            {
                "trial": item.record.number,
                "structure": item.record.structure,
                "search": item.record.value,
                "mean": item.score.mean,
                "std": item.score.std,
                **({"latency_ms": item.latency.latency_ms} if item.latency is not None else {}),
            }
            for item in candidates
        ],
        latency=latency,
        violations=violations,
    )
