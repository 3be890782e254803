"""Figures of studies with several objectives: their front, pair by pair, and its volume over the search."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from zenopt.report.figure import (
    GREEN,
    Figure,
    amount,
    beyond_words,
    budget_line,
    duration_of,
    elapsed_seconds,
    latency_label,
    latency_words,
    new_figure,
    points,
    score_label,
    step,
    time_unit,
)
from zenopt.report.figures import score_scale, set_score_axis, shown_candidates
from zenopt.report.objectives import hypervolume_history
from zenopt.report.reading import StudyData
from zenopt.report.scales import robust_scale


def objective_label(data: StudyData, name: str) -> str:
    """Return an objective as the title of an axis."""
    return {
        "score": score_label(data.spec),
        "macs": "MACs",
        "latency_ms": latency_label(data.spec),
    }.get(name, name)


def objective_words(data: StudyData) -> str:
    """Return the objectives with their directions, e.g. ``score ↑, latency_ms ↓``."""
    pairs = zip(data.spec.objectives, data.directions, strict=True)
    return ", ".join(f"{name} {'↑' if is_up else '↓'}" for name, is_up in pairs)


def front_figures(data: StudyData) -> list[Figure]:
    """Every pair of objectives, with all candidates and the front of all objectives; empty for a single one."""
    if not data.is_multi:
        return []
    names, front = data.spec.objectives, data.front
    found = []
    # Costs lie on the horizontal axis: the score comes first in a spec and so stands upright.
    for upright, level in combinations(range(len(names)), 2):
        shown, note = shown_candidates(data, front)
        labels = (objective_label(data, names[level]), objective_label(data, names[upright]))
        arrows = ["↑" if data.directions[index] else "↓" for index in (level, upright)]
        figure = new_figure(f"{labels[0]} {arrows[0]}", f"{labels[1]} {arrows[1]}")
        figure.update_xaxes(tickformat="" if names[level] == "latency_ms" else "~s")
        x, y = data.objectives[:, level], data.objectives[:, upright]
        scale = score_scale(data) if upright == 0 else robust_scale(y[data.scored], y[front])
        frame = robust_scale(x[data.scored], x[front])
        names_of: dict[str, Any] = {"x_label": labels[0], "y_label": labels[1], "scale": scale}
        points(figure, x[shown], y[shown], data.numbers[shown], name="candidate", **names_of)
        # Only of two objectives is the front a staircase.
        along = front[np.argsort(x[front], kind="stable")]
        points(
            figure, x[along], y[along], data.numbers[along], name="Pareto front",
            mode="lines+markers" if len(names) == 2 else "markers",
            line={"color": GREEN, "width": 2, "shape": "hv"}, marker={"size": 7, "color": GREEN, "opacity": 1},
            **names_of,
        )  # fmt: skip
        set_score_axis(figure, scale)
        if frame is not None:
            figure.update_xaxes(range=[frame.low, frame.high])
        words = f"{len(front)} network{'s' * (len(front) != 1)} on the front of {objective_words(data)}."
        if len(names) > 2:
            words += " One that looks beaten here is better in another objective."
        if "latency_ms" in (names[level], names[upright]):
            words += latency_words(data.spec)
        limit = data.spec.limits().budget.limits().get(names[level])
        if limit is not None and (data.spec.budget.counting == "true" or names[level] == "latency_ms"):
            budget_line(figure, limit)
            words += f" The line is the budget of {amount(limit)}."
        words += f" {beyond_words(scale, y[data.scored], 'values')}".rstrip()
        key = f"front-{names[upright]}-{names[level]}".replace("_", "-")
        title = f"Pareto front: {names[upright]} against {names[level]}"
        found.append(Figure(key, title, f"{words} {note}".strip(), figure, "Front"))
    return found


def hypervolume_figures(data: StudyData) -> list[Figure]:
    """The share of the objectives' box that the front dominates, over trials and over time."""
    if not data.is_multi:
        return []
    joined, shares = hypervolume_history(data)
    divisor, unit = time_unit(duration_of(data))
    by_trial = new_figure("trial", "hypervolume")
    by_time = new_figure(f"time since the first trial, {unit}", "hypervolume")
    words = {"y_label": "hypervolume", "y_format": ".1%", "numbers": data.numbers[joined]}
    step(
        by_trial,
        data.numbers[joined],
        shares,
        data.numbers[-1] if data.size else 0,
        "hypervolume",
        GREEN,
        **words,
    )
    times = elapsed_seconds(data)[joined] / divisor
    step(by_time, times, shares, duration_of(data) / divisor, "hypervolume", GREEN, x_label=unit, **words)
    for figure in (by_trial, by_time):
        figure.update_layout(showlegend=False, yaxis={"tickformat": ".0%"})
    caption = hypervolume_caption(len(data.directions))
    if len(joined):
        caption = f"{shares[-1]:.1%} now; last grown at trial {data.numbers[joined[-1]]}. {caption}"
    return [
        Figure("hypervolume-trials", "Hypervolume over trials", caption, by_trial, "Search"),
        Figure("hypervolume-time", "Hypervolume over time", caption, by_time, "Search"),
    ]


def hypervolume_caption(objectives: int) -> str:
    """Return what the number means, in a sentence."""
    text = "Share that the front dominates of the box between the worst and the best value of each objective"
    return f"{text}{', estimated from 20,000 points' if objectives > 2 else ''}."
