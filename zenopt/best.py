"""Choosing what to export: the best candidates of a study, scored again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import optuna
from optuna.study import StudyDirection

from zenopt.errors import ProxyError, StudyError
from zenopt.evaluators import evaluate_architecture
from zenopt.export import Bundle, versions
from zenopt.proxies import Score
from zenopt.seeds import derive_seed
from zenopt.spec import StudySpec
from zenopt.storage.history import count_by_state, top
from zenopt.storage.records import TrialRecord
from zenopt.study import BEST_KEYS, read_front, read_spec


@dataclass(frozen=True)
class Rescored:
    """A candidate with its score from the search and its fresh one."""

    record: TrialRecord
    score: Score


def rescore_top(
    study: optuna.Study, *, count: int = 5, repeats: int = 8, device: str = "cpu"
) -> tuple[StudySpec, list[Rescored]]:
    """Scores the best feasible candidates of a study again, with fresh draws.

    The search keeps single noisy draws, so its best is partly luck; the best fresh mean is not chosen by the draw that
    judges it. With several objectives the candidates are those of the Pareto front with the best scores.

    Args:
        study:
            A study made by zenopt.
        count:
            How many of the best to score.
        repeats:
            Fresh draws of each.
        device:
            Torch device.

    Returns:
        The study's spec, and the candidates by fresh mean, best first.

    Raises:
        StudyError: If the study is empty or nothing in it is feasible.
        ProxyError: If no candidate can be scored.
    """
    spec = read_spec(study)
    assert spec is not None
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
    found, errors = [], []
    for record in list(records.values())[:count]:
        try:
            score = evaluate_architecture(
                spec,
                space.parse(record.structure),
                repeats=repeats,
                seed=derive_seed(spec.seed, record.number, "export"),
                device=device,
            )
        except ProxyError as error:
            errors.append(f"trial {record.number}: {error}")
            continue
        found.append(Rescored(record, score))
    if not found:
        raise ProxyError(f"No candidate could be scored again: {'; '.join(errors)}")
    sign = -1.0 if study.directions[0] == StudyDirection.MAXIMIZE else 1.0
    return spec, sorted(found, key=lambda item: (sign * item.score.mean, item.record.number))


def make_bundle(study: optuna.Study, spec: StudySpec, candidates: list[Rescored]) -> Bundle:
    """Returns the bundle of the first candidate; the others are listed in it."""
    best = candidates[0]
    space = spec.build_space()
    structure = best.record.structure
    assert structure is not None
    check = spec.limits().check(space.parse(structure))
    costs: dict[str, Any] = dict(check.costs.__dict__)
    if check.latency_ms is not None and spec.latency is not None:
        costs["latency_ms"] = check.latency_ms
        costs["latency_kind"] = spec.latency.label
        # A trial keeps what was measured; the check only predicts.
        costs["latency_ms"] = best.record.user_attrs.get("latency_ms") or check.latency_ms
    return Bundle(
        structure=structure,
        family=getattr(space, "family", "chain"),
        resolution=spec.resolution,
        num_classes=spec.num_classes,
        use_se=spec.use_se,
        costs=costs,
        scores={
            "proxy": best.score.proxy,
            "search": best.record.value,
            "mean": best.score.mean,
            "std": best.score.std,
            "values": list(best.score.values),
            "batch_size": best.score.batch_size,
            "closed_form": best.record.user_attrs.get("closed_form"),
        },
        constraints=check.violations,
        study=study.study_name,
        trial=best.record.number,
        spec=spec.model_dump(mode="json"),
        versions=versions(),
        seed=spec.seed,
        candidates=tuple(
            {
                "trial": item.record.number,
                "structure": item.record.structure,
                "search": item.record.value,
                "mean": item.score.mean,
                "std": item.score.std,
            }
            for item in candidates
        ),
    )
