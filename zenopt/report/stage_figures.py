"""Figures of what survives: widths, depths and kernels of the best candidates, stage by stage, and importances."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import plotly.graph_objects as go

from zenopt.report.analysis import StageHistory, Survivors
from zenopt.report.figure import BLUE, HEIGHT, SERIES, Figure, new_figure
from zenopt.report.scales import log_ticks

_BARS = 14
#: Shares are drawn from transparent to this colour, so that they read on light and dark pages.
_SHARE_COLOURS = ((0.0, "rgba(76,139,208,0)"), (1.0, "rgba(76,139,208,1)"))


def stage_figures(found: Survivors) -> list[Figure]:
    """Widths, bottlenecks, depths, kernels and block types of the survivors over the search."""
    what = (
        f"The best tenth of the candidates seen so far ({found.counts[0]} to {found.counts[-1]} networks), at "
        f"{len(found.numbers)} moments."
    )
    band = f"{what} Lines are medians, bands the middle half."
    figures = [
        Figure(
            "stage-width",
            "Width per stage",
            band,
            _lines(found, "channels", lambda s: s.width, True),
            "Survivors",
        ),
        Figure(
            "stage-bottleneck",
            "Bottleneck per stage",
            band,
            _lines(found, "channels", lambda s: s.bottleneck, True),
            "Survivors",
        ),
        Figure(
            "stage-depth",
            "Depth per stage",
            band,
            _lines(found, "units", lambda s: s.depth, False),
            "Survivors",
        ),
    ]
    for key, title, pick in (
        ("stage-kernel", "Kernels per stage", _kernels),
        ("stage-type", "Block types per stage", _types),
    ):
        rows = _rows(found, pick)
        if len({name for _, name, _ in rows}) > 1:
            caption = f"{what} Colour is the share of a stage's depth."
            figures.append(Figure(key, title, caption, _shares(found, rows), "Survivors"))
    return figures


def importance_figure(found: dict[str, float], trials: int) -> Figure:
    """Bars of the most important parameters."""
    names = list(found)[:_BARS][::-1]
    figure = new_figure("importance", "", height=max(HEIGHT, 60 + 20 * len(names)))
    figure.add_bar(
        x=[found[name] for name in names], y=names, orientation="h", marker={"color": BLUE},
        hovertemplate="%{y}<br>importance: %{x:.1%}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(showlegend=False, margin={"l": 8, "r": 12, "t": 8, "b": 48})
    figure.update_xaxes(tickformat=".0%")
    shown = f"The first {len(names)} of {len(found)} parameters. " if len(found) > len(names) else ""
    caption = (
        f"How much a parameter decides whether a candidate is among the best tenth (PED-ANOVA, {trials:,} trials). "
        f"{shown}What a sampler hardly varied cannot show as important."
    )
    return Figure("importances", "Parameter importances", caption, figure, "Survivors")


def _lines(
    found: Survivors, label: str, pick: Callable[[StageHistory], np.ndarray], is_log: bool
) -> go.Figure:
    figure = new_figure("trial (log scale)", label)
    x = np.maximum(1, found.numbers)
    figure.update_xaxes(log_ticks(float(x.min()), float(x.max())))
    for index, stage in enumerate(found.stages):
        low, middle, high = pick(stage)
        colour = SERIES[index % len(SERIES)]
        name = f"stage {index + 1}"
        figure.add_scatter(
            x=np.concatenate((x, x[::-1])), y=np.concatenate((low, high[::-1])), fill="toself", mode="lines",
            line={"width": 0}, fillcolor=_faded(colour), hoverinfo="skip", showlegend=False, legendgroup=name,
        )  # fmt: skip
        figure.add_scatter(
            x=x, y=middle, mode="lines", name=name, line={"color": colour, "width": 2}, legendgroup=name,
            hovertemplate=f"{label}: %{{y:,}} (median)<br>up to trial %{{x:,}}<extra>{name}</extra>",
        )  # fmt: skip
    if is_log:
        values = np.concatenate([pick(stage)[::2].ravel() for stage in found.stages])
        figure.update_yaxes(_doublings(values[np.isfinite(values) & (values > 0)]))
    else:
        figure.update_yaxes(rangemode="tozero")
    return figure


def _doublings(values: np.ndarray) -> dict[str, Any]:
    """Return a logarithmic axis with ticks at powers of two, as widths are."""
    if not len(values):
        return {"type": "log"}
    powers = range(math.floor(math.log2(values.min())), math.ceil(math.log2(values.max())) + 1)
    ticks = [2**power for power in powers if power >= 0]
    return {
        "type": "log",
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": [f"{tick:,}" for tick in ticks],
    }


def _rows(
    found: Survivors, pick: Callable[[StageHistory], dict[str, np.ndarray]]
) -> list[tuple[str, str, np.ndarray]]:
    return [
        (f"stage {index + 1}", name, shares)
        for index, stage in enumerate(found.stages)
        for name, shares in pick(stage).items()
    ]


def _shares(found: Survivors, rows: list[tuple[str, str, np.ndarray]]) -> go.Figure:
    rows = rows[::-1]
    labels = [f"{stage}: {name}" for stage, name, _ in rows]
    figure = new_figure("trial", "", height=max(HEIGHT, 80 + 17 * len(rows)))
    # Moments are unevenly spaced; as categories each gets the same room.
    figure.add_heatmap(
        x=[_short(number) for number in found.numbers], y=labels, z=np.array([shares for _, _, shares in rows]),
        colorscale=_SHARE_COLOURS, zmin=0, zmax=1, showscale=False, xgap=1, ygap=1,
        hovertemplate="%{y}<br>share of the depth: %{z:.0%}<br>up to trial %{x}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(type="category", nticks=5, tickangle=0)
    figure.update_layout(margin={"l": 8, "r": 12, "t": 8, "b": 52})
    return figure


def _kernels(stage: StageHistory) -> dict[str, np.ndarray]:
    return {f"{kernel}×{kernel}": shares for kernel, shares in stage.kernels.items()}


def _types(stage: StageHistory) -> dict[str, np.ndarray]:
    return stage.types


def _short(number: int) -> str:
    return str(number) if number < 10_000 else f"{number / 1000:.1f}k"


def _faded(colour: str) -> str:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.16)"
