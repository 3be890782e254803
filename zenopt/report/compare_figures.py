"""Figures that put several studies side by side."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from zenopt.report.analysis import pareto_front, running_best
from zenopt.report.figures import (
    SERIES,
    Figure,
    duration_of,
    elapsed_seconds,
    key_label,
    new_figure,
    score_source,
    step,
    time_unit,
)
from zenopt.report.objective_figures import hypervolume_caption
from zenopt.report.objectives import hypervolume_history, objective_box
from zenopt.report.reading import StudyData


def comparison(datas: Sequence[StudyData]) -> list[Figure]:
    """Several studies: best score over trials and time, and their Pareto fronts."""
    proxies = ", ".join(dict.fromkeys(score_source(data.spec) for data in datas))
    divisor, unit = time_unit(max(duration_of(data) for data in datas))
    by_trial = new_figure("trial", f"best score ({proxies})")
    by_time = new_figure(f"time since the first trial, {unit}", f"best score ({proxies})")
    for data, colour in zip(datas, _cycle(len(datas)), strict=True):
        best, values = running_best(data)
        step(by_trial, data.numbers[best], values, data.numbers[-1] if data.size else 0, _name(data), colour)
        times = elapsed_seconds(data)[best] / divisor
        step(by_time, times, values, duration_of(data) / divisor, _name(data), colour)
    found = [
        Figure("compare-trials", "Best score over trials", _comparable(datas), by_trial, "Comparison"),
        Figure("compare-time", "Best score over time", _comparable(datas), by_time, "Comparison"),
    ]
    found += _hypervolumes(datas, divisor, unit)
    # True counts here: the studies may count their budgets differently.
    for key, label, ticks in (
        ("params", "params", "~s"),
        ("macs", "MACs", "~s"),
        ("latency_ms", "latency, ms", ""),
    ):
        figure = new_figure(label, f"score ({proxies})")
        figure.update_xaxes(tickformat=ticks)
        drawn = 0
        for data, colour in zip(datas, _cycle(len(datas)), strict=True):
            costs = data.columns[key]
            known = np.flatnonzero(data.scored & np.isfinite(costs))
            if not len(known):
                continue
            front = known[pareto_front(costs[known], data.values[known], data.maximize)]
            figure.add_scatter(
                x=costs[front], y=data.values[front], mode="lines+markers", name=_name(data), showlegend=True,
                line={"color": colour, "shape": "hv"}, customdata=data.numbers[front],
                hovertemplate="trial %{customdata}<br>%{y:.4g} at %{x:,}<extra>" + _name(data) + "</extra>",
            )  # fmt: skip
            drawn += 1
        if drawn:
            name = f"compare-{key.replace('_', '-')}"
            found.append(Figure(name, f"Pareto fronts in {key_label(key)}", "", figure, "Comparison"))
    return found


def _hypervolumes(datas: Sequence[StudyData], divisor: float, unit: str) -> list[Figure]:
    """Volumes of one box, where all studies have the same several objectives."""
    alike = {(data.spec.objectives, data.directions) for data in datas}
    if len(alike) > 1 or not datas[0].is_multi or not any(data.scored.any() for data in datas):
        return []
    box = objective_box(datas)
    by_trial = new_figure("trial", "hypervolume")
    by_time = new_figure(f"time since the first trial, {unit}", "hypervolume")
    for data, colour in zip(datas, _cycle(len(datas)), strict=True):
        joined, shares = hypervolume_history(data, box)
        step(
            by_trial, data.numbers[joined], shares, data.numbers[-1] if data.size else 0, _name(data), colour
        )
        times = elapsed_seconds(data)[joined] / divisor
        step(by_time, times, shares, duration_of(data) / divisor, _name(data), colour)
    caption = (
        f"{hypervolume_caption(len(datas[0].directions))} The box is that of all candidates of all studies."
    )
    found = []
    for key, figure in (("trials", by_trial), ("time", by_time)):
        figure.update_layout(yaxis={"tickformat": ".0%"})
        found.append(
            Figure(f"compare-hypervolume-{key}", f"Hypervolume over {key}", caption, figure, "Comparison")
        )
    return found


def _comparable(datas: Sequence[StudyData]) -> str:
    settings = {
        (data.spec.proxy.name, data.spec.proxy.batch_size, data.spec.proxy.gamma, data.spec.resolution)
        for data in datas
    }
    if len(settings) == 1:
        return ""
    return "These studies differ in proxy, batch, gamma or resolution: their scores are not on one scale."


def _name(data: StudyData) -> str:
    # Plotly reads names as markup.
    return escape(data.name)


def _cycle(count: int) -> list[str]:
    return [SERIES[index % len(SERIES)] for index in range(count)]
