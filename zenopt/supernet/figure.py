"""Figures of a supernet's ranking: over known accuracies, and over the epochs of its training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from zenopt.core.figurepage import lay_out
from zenopt.core.statistics import Interval
from zenopt.core.words import plural

if TYPE_CHECKING:
    from zenopt.supernet.rank import Ranking

_BLUE, _COLOURS, _HEIGHT = "#4c8bd0", {"params": "#98a2b3", "macs": "#d98324"}, 460
_NAMES = {"params": "params", "macs": "MACs"}


def ranking_figure(found: Ranking) -> Any:
    """Draw the accuracy of every path over the known accuracy of its network.

    Returns:
        A ``plotly.graph_objects.Figure``.
    """
    texts = [text for text, value in found.accuracies.items() if math.isfinite(value)]
    figure = _figure("known accuracy", "accuracy of the path, %")
    figure.add_scatter(
        x=[found.known[text] for text in texts],
        y=[found.accuracies[text] for text in texts],
        mode="markers",
        marker={"size": 7, "opacity": 0.6, "color": _BLUE},
        text=[escape(text) for text in texts],
        hovertemplate="%{text}<br>known %{x:.2f}<br>path %{y:.2f} %<extra></extra>",
        showlegend=False,
    )
    return figure


def epochs_figure(found: Sequence[Ranking]) -> Any:
    """Draw how orders agree over the epochs of a training, with intervals, beside the lines of params and MACs.

    Returns:
        A ``plotly.graph_objects.Figure``; where pairs of equal MACs were compared, with a line of these.
    """
    figure = _figure("epoch", "Kendall's tau with the known accuracies")
    epochs = [own.epoch for own in found]
    # The lines of costs reach from edge to edge, so that one epoch has lines beside it, too.
    ends = [0, max(epochs)]
    last = found[-1].of_costs
    for name, own in last.items():
        _band(figure, ends, [own.kendall] * 2, _NAMES[name], _COLOURS[name], dash="dash")
    if found[-1].statistics.alike is not None:
        alike = [own.statistics.alike or Interval(None) for own in found]
        _band(figure, epochs, alike, "supernet, equal MACs", "#3aa675", markers=True)
    _band(figure, epochs, [own.statistics.kendall for own in found], "supernet", _BLUE, markers=True)
    figure.update_layout(xaxis_rangemode="tozero", legend_traceorder="reversed")
    return figure


def words_of(found: Sequence[Ranking]) -> str:
    """Return what a figure shows, in a sentence or two."""
    own = found[-1]
    count = f"{plural(len(own.known), 'network')}, judged on {plural(own.images, 'held-back image')}"
    if len(found) == 1:
        tau, macs = _written(own.statistics.kendall), _written(own.of_costs["macs"].kendall)
        return f"{count}; Kendall's tau {tau}, of MACs {macs}."
    return f"{count}; bands are 95 % bootstrap intervals over networks."


def _written(found: Interval) -> str:
    if found.value is None:
        return "undefined"
    ends = "" if found.low is None or found.high is None else f" [{found.low:.2f}, {found.high:.2f}]"
    return f"{found.value:.2f}{ends}"


def _band(
    figure: Any,
    epochs: Sequence[int],
    values: Sequence[Interval],
    name: str,
    colour: str,
    *,
    dash: str = "solid",
    markers: bool = False,
) -> None:
    """Draw a line with its interval."""
    rows = [(x, own.value, own.low, own.high) for x, own in zip(epochs, values, strict=True)]
    inside = [(x, low, high) for x, _, low, high in rows if low is not None and high is not None]
    if inside:
        places = [x for x, _, _ in inside]
        figure.add_scatter(
            x=[*places, *reversed(places)],
            y=[*(high for _, _, high in inside), *(low for _, low, _ in reversed(inside))],
            fill="toself", fillcolor=colour, opacity=0.15 if markers else 0.08, line={"width": 0}, mode="lines",
            hoverinfo="skip", showlegend=False, legendgroup=name,
        )  # fmt: skip
    figure.add_scatter(
        x=[x for x, *_ in rows], y=[value for _, value, _, _ in rows], name=name, legendgroup=name,
        mode="lines+markers" if markers else "lines", line={"color": colour, "width": 2, "dash": dash},
        customdata=[_written(own) for own in values],
        hovertemplate=("epoch %{x}: " if markers else "") + "%{customdata}<extra>" + name + "</extra>",
    )  # fmt: skip


def _figure(x_title: str, y_title: str) -> Any:
    import plotly.graph_objects as go

    return lay_out(go.Figure(), _HEIGHT, xaxis={"title": x_title}, yaxis={"title": y_title})
