"""A study in words and numbers: its settings in a line, its tiles, times."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import numpy as np
from optuna.trial import TrialState

from zenopt.core.budget import is_lower_limit
from zenopt.core.words import plural
from zenopt.report.figure import amount, key_label, score_source
from zenopt.report.networks import objective_text
from zenopt.report.objective_figures import objective_words
from zenopt.report.reading import StudyData
from zenopt.report.trainings import Trainings
from zenopt.study.spec import NO_CLASS

Tiles = tuple[tuple[str, str, str], ...]


def describe_settings(data: StudyData) -> str:
    """Return the study's settings in a line."""
    spec = data.spec
    limits = ", ".join(
        f"{key_label(name)} {'≥' if is_lower_limit(name) else '≤'} {amount(value)}"
        for name, value in spec.limits().budget.limits().items()
    )
    parts = [
        f"space {spec.space.name}",
        f"{spec.resolution} px, {plural(spec.num_classes, 'class')}",
        f"score {score_source(spec)}"
        + (f" at batch {spec.proxy.batch_size}" if spec.objective.kind == "proxy" else ""),
        f"budget {limits or 'none'}" + (" (ZenNAS counts)" if spec.budget.counting == "zennas" else ""),
        f"sampler {spec.sampler.label}",
    ]
    if spec.latency is not None:
        parts.append(f"latency {spec.latency.label}")
    if data.is_multi:
        parts.append(f"objectives {objective_words(data)}")
    return " · ".join(parts)


def when(seconds: float) -> str:
    """Return a Unix time as text."""
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def duration(seconds: float) -> str:
    """Return a number of seconds as text."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def search_tiles(data: StudyData, trainings: Sequence[Trainings] = ()) -> Tiles:
    """Return (label, number, remark) of a search."""
    counts = {state: int(data.in_state(state).sum()) for state in TrialState}
    other = [
        f"{counts[state]:,} {state.name.lower().replace('fail', 'failed')}"
        for state in (TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING)
        if counts[state]
    ]
    tiles = [("trials", f"{data.size:,}", ", ".join(other) or "all complete")]
    ranked = data.ranked()
    if len(ranked):
        best = ranked[0]
        if data.is_multi:
            tiles.append(
                ("Pareto front", f"{len(data.front):,}", f"of {len(ranked):,} networks within the budget")
            )
        tiles.append(("best score", f"{data.values[best]:.5g}", f"trial {data.numbers[best]}"))
        for index, name in enumerate(data.spec.objectives[1:], start=1):
            lowest = ranked[np.argmin(data.objectives[ranked, index])]
            value = objective_text(name, data.objectives[lowest, index])
            word = "fewest" if name in ("params", "macs", "layers", "convs", "activation_bytes") else "lowest"
            tiles.append((f"{word} {key_label(name)}", value, f"trial {data.numbers[lowest]}"))
    else:
        tiles.append(("best score", "none", "no candidate within the budget yet"))
    tiles += [_accuracy(found) for found in trainings if found.best is not None]
    settled = int(data.scored.sum() + data.over_budget.sum())
    if settled:
        tiles.append(
            ("within budget", f"{data.scored.sum() / settled:.1%}", f"of {settled:,} settled trials")
        )
    distinct = len({text for text in data.structures if text is not None})
    tiles.append(("networks", f"{distinct:,}", "distinct structures"))
    if np.isfinite(data.ended).any():
        span = float(np.nanmax(data.ended) - np.nanmin(data.started))
        tiles.append(("time", duration(span), f"since {when(float(np.nanmin(data.started)))}"))
        measured = data.columns["score_seconds"]
        if np.isfinite(measured).any():
            what = "training" if data.spec.objective.kind == "train" else "score"
            tiles.append((f"one {what}", f"{np.nanmedian(measured):.2g} s", "median time"))
    return tuple(tiles)


def training_tiles(found: Trainings) -> Tiles:
    """Return (label, number, remark) of a linked study."""
    runs = [run for network in found.networks for run in network.runs]
    tiles = [("trainings", f"{len(runs):,}", f"of {plural(len(found.different()), 'network')}")]
    if found.best is not None:
        tiles.append(_accuracy(found))
    if found.winner is not None:
        tiles.append(("winner on test images", f"{found.winner.test_top1:.2f} %", found.winner.label))
    known = [run.seconds for run in runs if run.seconds is not None]
    if known:
        tiles.append(("time", duration(sum(known)), f"{np.median(known):.0f} s for a training (median)"))
    tiles.append(("data", found.data.split(":")[0] or "-", found.data))
    return tuple(tiles)


def _accuracy(found: Trainings) -> tuple[str, str, str]:
    best = found.best
    assert best is not None
    seeds = len(best.finished)
    return (
        "best accuracy",
        f"{best.mean:.2f} %",
        found.kind
        + ("" if best.label == NO_CLASS else f", {best.label}")
        + (f", {seeds} seeds" if seeds > 1 else ""),
    )
