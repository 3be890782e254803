"""Figures that put several studies side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from zenopt.report.analysis import pareto_front, running_best, thin_out
from zenopt.report.figure import (
    GREEN,
    SERIES,
    Figure,
    duration_of,
    elapsed_seconds,
    key_label,
    new_figure,
    points,
    score_source,
    step,
    time_unit,
)
from zenopt.report.objective_figures import hypervolume_caption
from zenopt.report.objectives import hypervolume_history, objective_box
from zenopt.report.reading import StudyData
from zenopt.report.scales import Scale, robust_scale, short

_COSTS = (("params", "params", "~s"), ("macs", "MACs", "~s"), ("latency_ms", "latency, ms", ""))
#: Small multiples: figures in a row, their height, and the points of each.
_COLUMNS, _ROW, _POINTS = 3, 190, 500


def comparison(datas: Sequence[StudyData]) -> list[Figure]:
    """Return figures of several studies: best score over trials and time, fronts, and every candidate by study."""
    proxies = ", ".join(dict.fromkeys(score_source(data.spec) for data in datas))
    divisor, unit = time_unit(max(duration_of(data) for data in datas))
    by_trial = new_figure("trial", f"best score ({proxies})")
    by_time = new_figure(f"time since the first trial, {unit}", f"best score ({proxies})")
    for index, (data, colour) in enumerate(_coloured(datas)):
        best, values = running_best(data)
        words: dict[str, Any] = {"numbers": data.numbers[best]}
        step(by_trial, data.numbers[best], values, _last(data), _name(data), colour, **words)
        times = elapsed_seconds(data)[best] / divisor
        step(by_time, times, values, duration_of(data) / divisor, _name(data), colour, x_label=unit, **words)
        for figure in (by_trial, by_time):
            figure.data[-1].meta = {"study": index}
    scale = _common_scale(datas, running=True)
    for figure in (by_trial, by_time):
        if scale is not None:
            figure.update_yaxes(range=[scale.low, scale.high])
    found = [
        Figure("compare-trials", "Best score over trials", _comparable(datas), by_trial, "Comparison"),
        Figure("compare-time", "Best score over time", _comparable(datas), by_time, "Comparison"),
    ]
    found += _hypervolumes(datas, divisor, unit)
    # True counts here: the studies may count their budgets differently.
    for key, label, ticks in _COSTS:
        found += _fronts(datas, key, label, ticks, proxies)
    return [*found, *_multiples(datas, proxies)]


def _fronts(datas: Sequence[StudyData], key: str, label: str, ticks: str, proxies: str) -> list[Figure]:
    figure = new_figure(label, f"score ({proxies})")
    figure.update_xaxes(tickformat=ticks)
    for index, (data, colour) in enumerate(_coloured(datas)):
        costs = data.columns[key]
        known = np.flatnonzero(data.scored & np.isfinite(costs))
        if not len(known):
            continue
        front = known[pareto_front(costs[known], data.values[known], data.maximize)]
        points(
            figure, costs[front], data.values[front], data.numbers[front], name=_name(data), x_label=label,
            y_label="score", mode="lines+markers", line={"color": colour, "shape": "hv"}, meta={"study": index},
            marker={"color": colour, "opacity": 1}, showlegend=True,
        )  # fmt: skip
    name = f"compare-{key.replace('_', '-')}"
    return (
        [Figure(name, f"Pareto fronts in {key_label(key)}", "", figure, "Comparison")] if figure.data else []
    )


def _multiples(datas: Sequence[StudyData], proxies: str) -> list[Figure]:
    """Return every study's candidates in score against params, one small figure each, on the same axes."""
    columns = min(_COLUMNS, len(datas))
    rows = math.ceil(len(datas) / columns)
    figure = make_subplots(
        rows, columns, shared_xaxes="all", shared_yaxes="all", subplot_titles=[_name(data) for data in datas],
        horizontal_spacing=0.02, vertical_spacing=min(0.1, 0.28 / rows),
    )  # fmt: skip
    scale = _common_scale(datas)
    costs = [data.columns["params"][data.scored] for data in datas]
    frame = robust_scale(np.concatenate(costs))
    if scale is None or frame is None:
        return []
    for index, data in enumerate(datas):
        known = np.flatnonzero(data.scored & np.isfinite(data.columns["params"]))
        front = known[pareto_front(data.columns["params"][known], data.values[known], data.maximize)]
        small = go.Figure()
        words: dict[str, Any] = {
            "x_label": "params",
            "y_label": "score",
            "showlegend": False,
            "meta": {"study": index},
        }
        for chosen, name, marker in (
            (thin_out(known, front, _POINTS), "candidate", {"size": 3}),
            (front, "Pareto front", {"size": 4, "color": GREEN, "opacity": 1}),
        ):
            points(
                small, data.columns["params"][chosen], data.values[chosen], data.numbers[chosen],
                name=name, scale=scale, marker=marker, **words,
            )  # fmt: skip
        for trace in small.data:
            figure.add_trace(trace, row=index // columns + 1, col=index % columns + 1)
    figure.update_xaxes(range=[frame.low, frame.high], tickformat="~s", automargin=True)
    figure.update_yaxes(range=[scale.low, scale.high], automargin=True)
    figure.update_annotations(font={"size": 12})
    layout = new_figure("", "", height=90 + _ROW * rows).layout
    figure.update_layout(
        template=None, height=layout.height, hovermode="closest", margin={"l": 56, "r": 12, "t": 30, "b": 44}
    )
    for column in range(1, columns + 1):
        figure.update_xaxes(title={"text": "params", "standoff": 6}, row=rows, col=column)
    for row in range(1, rows + 1):
        figure.update_yaxes(title={"text": f"score ({proxies})", "standoff": 6}, row=row, col=1)
    caption = (
        f"Candidates of each study, at most {_POINTS:,} drawn, with its front, all on the same axes "
        f"(params {short(frame.low)} to {short(frame.high)})."
    )
    title = "Candidates of each study"
    return [Figure("compare-candidates", title, caption, figure, "Comparison", least_width=230 * columns)]


def _hypervolumes(datas: Sequence[StudyData], divisor: float, unit: str) -> list[Figure]:
    """Volumes of one box, where all studies have the same several objectives."""
    alike = {(data.spec.objectives, data.directions) for data in datas}
    if len(alike) > 1 or not datas[0].is_multi or not any(data.scored.any() for data in datas):
        return []
    box = objective_box(datas)
    by_trial = new_figure("trial", "hypervolume")
    by_time = new_figure(f"time since the first trial, {unit}", "hypervolume")
    for index, (data, colour) in enumerate(_coloured(datas)):
        joined, shares = hypervolume_history(data, box)
        words: dict[str, Any] = {"y_label": "hypervolume", "y_format": ".1%", "numbers": data.numbers[joined]}
        step(by_trial, data.numbers[joined], shares, _last(data), _name(data), colour, **words)
        times = elapsed_seconds(data)[joined] / divisor
        step(by_time, times, shares, duration_of(data) / divisor, _name(data), colour, x_label=unit, **words)
        for figure in (by_trial, by_time):
            figure.data[-1].meta = {"study": index}
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


def _common_scale(datas: Sequence[StudyData], *, running: bool = False) -> Scale | None:
    """Return one axis for the scores of all studies, or for their running bests."""
    parts = [running_best(data)[1] if running else data.values[data.scored] for data in datas]
    bests = [
        part.max() if data.maximize else part.min()
        for part, data in zip(parts, datas, strict=True)
        if len(part)
    ]
    return robust_scale(np.concatenate(parts), tuple(bests))


def _comparable(datas: Sequence[StudyData]) -> str:
    settings = {
        (data.spec.proxy.name, data.spec.proxy.batch_size, data.spec.proxy.gamma, data.spec.resolution)
        for data in datas
    }
    if len(settings) == 1:
        return ""
    return "These studies differ in proxy, batch, gamma or resolution: their scores are not on one scale."


def _last(data: StudyData) -> int:
    return int(data.numbers[-1]) if data.size else 0


def _name(data: StudyData) -> str:
    # Plotly reads names as markup.
    return escape(data.name)


def _coloured(datas: Sequence[StudyData]) -> list[tuple[StudyData, str]]:
    return [(data, SERIES[index % len(SERIES)]) for index, data in enumerate(datas)]
