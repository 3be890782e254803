"""Parallel coordinates: what candidates of different rank have in common, one line a candidate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from optuna.distributions import BaseDistribution, CategoricalDistribution

from zenopt.report.figure import BLUE, GREEN, GREY, Figure, key_label, new_figure, score_label
from zenopt.report.figures import costs_of
from zenopt.report.importances import Sample, distributions_of
from zenopt.report.reading import StudyData
from zenopt.report.scales import robust_scale, short

#: Parameters beside score and costs, and candidates drawn.
_PARAMETERS, _LINES = 7, 240
#: Where a line passes an axis whose parameter the candidate does not have.
_ABSENT = -0.13
_AXIS_WIDTH = 92


@dataclass(frozen=True, eq=False)
class _Axis:
    """One axis: the height of each candidate on it (0 to 1), its value in words, and the axis's ticks."""

    name: str
    heights: np.ndarray
    words: Sequence[str]
    ticks: Sequence[tuple[float, str]]


def parallel_figure(data: StudyData, sample: Sample, weights: dict[str, float]) -> list[Figure]:
    """Return the candidates over score, costs and the most important parameters; empty without parameters.

    Args:
        data:
            The study.
        sample:
            Candidates with their parameters.
        weights:
            Importances of the parameters, largest first.
    """
    if not weights:
        return []
    chosen = _spread_by_rank(data, sample)
    positions = sample.positions[chosen]
    axes = [_number_axis(score_label(data.spec), data.values[positions], is_robust=True)]
    for key, cost in costs_of(data).items():
        axes.append(_number_axis(key_label(key), data.columns[cost.column][positions]))
    distributions = distributions_of(sample)
    for name in list(weights)[:_PARAMETERS]:
        values = [sample.trials[index].params.get(name) for index in chosen]
        axes.append(_parameter_axis(name, distributions[name], values))
    figure = new_figure("", "", height=400)
    rank = np.argsort(np.argsort(-data.points(positions)[:, 0], kind="stable"))
    groups = (
        ("the rest", rank >= len(rank) // 2, GREY, 0.35, 1.0),
        ("the better half", (rank < len(rank) // 2) & (rank >= len(rank) // 10), BLUE, 0.45, 1.0),
        ("the best tenth", rank < max(1, len(rank) // 10), GREEN, 0.95, 1.8),
    )
    for name, members, colour, opacity, width in groups:
        if members.any():
            _lines(
                figure, axes, np.flatnonzero(members), data.numbers[positions], name, colour, opacity, width
            )
    for place, axis in enumerate(axes):
        figure.add_shape(type="line", x0=place, x1=place, y0=0, y1=1, line={"color": GREY, "width": 1})
        for height, words in axis.ticks:
            figure.add_annotation(
                x=place, y=height, text=words, showarrow=False, xanchor="left", xshift=4, font={"size": 10}
            )
    figure.update_xaxes(
        tickmode="array", tickvals=list(range(len(axes))), ticktext=[_broken(axis.name) for axis in axes],
        range=[-0.25, len(axes) - 0.4], showgrid=False, zeroline=False, tickangle=0,
    )  # fmt: skip
    figure.update_yaxes(visible=False, range=[_ABSENT - 0.06, 1.06])
    caption = (
        f"One line is one of {len(chosen)} candidates, spread over the ranks of {len(sample.trials):,}; the parameters "
        f"are the {min(_PARAMETERS, len(weights))} most important ones. A line that passes below an axis has no such "
        f"parameter. A click in the legend hides a group."
    )
    title = "Parallel coordinates"
    return [Figure("parallel", title, caption, figure, "Survivors", least_width=_AXIS_WIDTH * len(axes))]


def _spread_by_rank(data: StudyData, sample: Sample) -> np.ndarray:
    """Return which candidates to draw: all where they are few, else evenly by rank, the best first."""
    order = np.argsort(-data.points(sample.positions)[:, 0], kind="stable")
    if len(order) <= _LINES:
        return order
    return order[np.unique(np.linspace(0, len(order) - 1, _LINES).round().astype(int))]


def _number_axis(name: str, values: np.ndarray, *, is_robust: bool = False) -> _Axis:
    scale = robust_scale(values) if is_robust else None
    low = float(np.nanmin(values)) if scale is None else max(scale.low, float(np.nanmin(values)))
    high = float(np.nanmax(values))
    span = high - low or 1.0
    heights = np.clip((values - low) / span, 0.0, 1.0)
    ticks = [
        (share, short(float(f"{low + share * span:.3g}")))
        for share in ((0.0, 0.5, 1.0) if high > low else (0.0,))
    ]
    return _Axis(
        name, np.where(np.isfinite(heights), heights, _ABSENT), [f"{value:,.5g}" for value in values], ticks
    )


def _parameter_axis(name: str, distribution: BaseDistribution, values: Sequence[object]) -> _Axis:
    words = [
        "absent" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
        for value in values
    ]
    if isinstance(distribution, CategoricalDistribution):
        choices = [str(choice) for choice in distribution.choices]
        last = max(1, len(choices) - 1)
        place = {choice: index / last for index, choice in enumerate(choices)}
        heights = np.array([_ABSENT if value is None else place[str(value)] for value in values])
        return _Axis(
            name,
            heights,
            words,
            [(place[choice], choice.removeprefix("SuperRes")[-10:]) for choice in choices],
        )
    is_log = bool(getattr(distribution, "log", False))
    known = np.array([np.nan if value is None else float(value) for value in values])  # type: ignore[arg-type]
    present = known[np.isfinite(known)]
    low, high = (float(present.min()), float(present.max())) if len(present) else (0.0, 1.0)
    forward, back = (math.log, math.exp) if is_log and low > 0 else (float, float)
    start, span = forward(low), forward(high) - forward(low)
    heights = np.array(
        [_ABSENT if np.isnan(value) else (forward(value) - start) / (span or 1.0) for value in known]
    )
    shares = (0.0, 0.5, 1.0) if span else (0.0,)
    ticks = [(share, short(float(f"{back(start + share * span):.3g}"))) for share in shares]
    return _Axis(name, heights, words, ticks)


def _lines(
    figure: go.Figure,
    axes: Sequence[_Axis],
    members: np.ndarray,
    numbers: np.ndarray,
    name: str,
    colour: str,
    opacity: float,
    width: float,
) -> None:
    x: list[float | None] = []
    y: list[float | None] = []
    custom: list[list[object] | None] = []
    for member in members:
        for place, axis in enumerate(axes):
            x.append(place)
            y.append(round(float(axis.heights[member]), 4))
            custom.append([int(numbers[member]), f"{axis.name}: {axis.words[member]}"])
        # A gap, so that one trace holds many lines.
        x.append(None)
        y.append(None)
        custom.append(None)
    figure.add_scatter(
        x=x, y=y, customdata=custom, mode="lines", name=name, opacity=opacity, line={"color": colour, "width": width},
        hovertemplate="<b>trial %{customdata[0]}</b><br>%{customdata[1]}<extra></extra>",
    )  # fmt: skip


def _broken(name: str) -> str:
    """Return a dotted name over several lines."""
    return name.replace(".", "<br>").replace(" (", "<br>(")
