"""What all figures of a report share: colours, words, empty axes. Plotly figures without colours of a theme.

Backgrounds, grids and text take their colours from the template that whoever shows the figure gives (a page in light
or dark); data colours are readable on both.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
import plotly.graph_objects as go

from zenopt.core.costs import COST_KINDS
from zenopt.core.errors import ExtensionError, SpecError
from zenopt.report.reading import StudyData
from zenopt.report.scales import Scale
from zenopt.study.spec import StudySpec

BLUE, GREY, ORANGE, GREEN, RED, PURPLE = "#4c8bd0", "#98a2b3", "#d98324", "#3aa675", "#d4574e", "#9a6fd0"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, RED, "#3aa0a6", "#b58b2a", "#c46aa0")
HEIGHT = 340
#: Letters of an upright title that fit such a height.
_TITLE_LETTERS = 36


@dataclass(frozen=True)
class Figure:
    """A figure with its words.

    Attributes:
        key: Name for export and links.
        title: Heading.
        caption: What it shows and what it left out, in a sentence or two.
        figure: The plotly figure, without a theme.
        group: Heading of the page under which it stands.
        least_width: Pixels below which it is scrolled instead of squeezed.
        is_wide: Whether it takes a whole row of a page.
    """

    key: str
    title: str
    caption: str
    figure: go.Figure
    group: str = "Search"
    least_width: int = 0
    is_wide: bool = False

    def titled(self) -> go.Figure:
        """Return the figure with its title and a light theme, to stand alone."""
        title = {"text": self.title, "y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 14}}
        return go.Figure(self.figure).update_layout(template="plotly_white", title=title, margin_t=84)


def new_figure(x_title: str, y_title: str, height: int = HEIGHT, **layout: Any) -> go.Figure:
    """Return an empty figure that fits a phone and takes its theme later."""
    figure = go.Figure()
    y_title = "<br>".join(wrap(y_title, _TITLE_LETTERS, break_long_words=False))
    figure.update_layout(
        template=None,
        height=height,
        margin={"l": 56, "r": 12, "t": 30, "b": 52},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "itemsizing": "constant"},
        hovermode="closest",
        xaxis={"title": {"text": x_title, "standoff": 8}, "automargin": True},
        yaxis={"title": {"text": y_title, "standoff": 8}, "automargin": True},
        **layout,
    )
    return figure


def score_source(spec: StudySpec) -> str:
    """Return what gives the scores of a study: a proxy, the column of a table, trainings."""
    try:
        return str(spec.evaluator().label(spec))
    except (ExtensionError, SpecError):
        # An evaluator that is not installed, or whose module is not imported: its name says enough.
        return spec.objective.kind


def score_label(spec: StudySpec) -> str:
    """Return the score of a study as the title of an axis."""
    source = score_source(spec)
    return source if spec.objective.kind == "train" else f"score ({source})"


def latency_label(spec: StudySpec) -> str:
    """Return what a latency of a study is, with its unit, short enough for an axis of a phone's width."""
    mode = "predicted" if spec.latency is None else spec.latency.mode
    return f"latency, ms ({'block table' if mode == 'table' else mode})"


def latency_words(spec: StudySpec) -> str:
    """Return the sentence that names the device, for captions."""
    return f" Latency is {spec.latency.label}." if spec.latency is not None else ""


def amount(value: float) -> str:
    """Return a cost as text: thousands with commas, the rest with four digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def key_label(key: str) -> str:
    """Return a cost's name in running text."""
    return "latency" if key == "latency_ms" else COST_KINDS[key].title if key in COST_KINDS else key


def points(
    figure: go.Figure,
    x: np.ndarray,
    y: np.ndarray,
    numbers: np.ndarray,
    *,
    name: str,
    x_label: str,
    y_label: str,
    x_format: str = ",.5g",
    scale: Scale | None = None,
    **style: Any,
) -> None:
    """Draw trials as points; those beyond the vertical scale as arrows at its edge, with their true values.

    Args:
        figure:
            Where.
        x, y:
            Values of the trials.
        numbers:
            Their numbers, by which a click finds them.
        name:
            Of the legend.
        x_label, y_label:
            Names of the values where the pointer is over a point.
        x_format:
            How plotly writes the horizontal value.
        scale:
            Of the vertical axis.
        style:
            Further arguments of the plotly trace.
    """
    marker = {"size": 5, "color": BLUE, "opacity": 0.55, **style.pop("marker", {})}
    drawn = y if scale is None else scale.inside(y)
    beyond = np.zeros(len(y), dtype=bool) if scale is None else scale.outside(y)
    symbol = marker.get("symbol", "circle")
    if beyond.any():
        assert scale is not None
        arrows = np.where(y > scale.high, "triangle-up", "triangle-down")
        marker["symbol"] = np.where(beyond, arrows, symbol).tolist()
        marker["size"] = np.where(beyond, 8, marker["size"]).tolist()
    # The true value goes along where the drawn one is another.
    custom = (
        numbers
        if not beyond.any()
        else [[int(number), float(value)] for number, value in zip(numbers, y, strict=True)]
    )
    number, value = (
        ("%{customdata}", "%{y:.5g}") if not beyond.any() else ("%{customdata[0]}", "%{customdata[1]:.5g}")
    )
    x_line = "" if x_label == "trial" else f"<br>{x_label}: %{{x:{x_format}}}"
    figure.add_scatter(
        x=x, y=drawn, name=name, customdata=custom, marker=marker, **{"mode": "markers", **style},
        hovertemplate=f"<b>trial {number}</b><br>{y_label}: {value}{x_line}<extra>{name}</extra>",
    )  # fmt: skip


def beyond_words(scale: Scale | None, values: np.ndarray, what: str = "scores") -> str:
    """Return the sentence that counts what the scale leaves out; empty where it leaves out nothing."""
    if scale is None:
        return ""
    found = []
    low, high = values < scale.low, values > scale.high
    if low.any():
        found.append(f"{low.sum():,} below {scale.low:.4g} (down to {np.nanmin(values):.4g})")
    if high.any():
        found.append(f"{high.sum():,} above {scale.high:.4g} (up to {np.nanmax(values):.4g})")
    return f"Arrows at the edge are {what} off the scale: {', '.join(found)}." if found else ""


def step(
    figure: go.Figure,
    x: np.ndarray,
    y: np.ndarray,
    end: float,
    name: str,
    colour: str,
    mode: str = "lines",
    *,
    x_label: str = "trial",
    y_label: str = "best score",
    y_format: str = ".5g",
    numbers: np.ndarray | None = None,
) -> None:
    """Draw a staircase; the last step lasts until ``end``."""
    is_long = len(x) > 0
    x = np.append(x, end) if is_long else x
    y = np.append(y, y[-1]) if is_long else y
    number = "" if numbers is None else "<br>trial %{customdata}"
    figure.add_scatter(
        x=x, y=y, mode=mode, name=name, line={"color": colour, "shape": "hv", "width": 2}, marker={"size": 5},
        customdata=None if numbers is None else np.append(numbers, numbers[-1:]),
        hovertemplate=f"{y_label}: %{{y:{y_format}}}{number}<br>from {x_label} %{{x:,.4g}}<extra>{name}</extra>",
    )  # fmt: skip


def budget_line(figure: go.Figure, limit: float) -> None:
    """Draw a limit on the horizontal axis."""
    # A shape spans the figure whatever its scale; the empty trace puts the line into the legend.
    line = {"color": RED, "dash": "dash", "width": 1.5}
    figure.add_shape(type="line", x0=limit, x1=limit, y0=0, y1=1, yref="paper", line=line)
    figure.add_scatter(x=[None], y=[None], mode="lines", name="budget", line={"color": RED, "dash": "dash"})


def elapsed_seconds(data: StudyData) -> np.ndarray:
    """Return when each trial ended, in seconds since the first one started; NaN where it has not."""
    return data.ended - first_start(data)


def first_start(data: StudyData) -> float:
    """Return when the first trial started, Unix time in seconds; NaN where none has."""
    known = data.started[np.isfinite(data.started)]
    return float(known.min()) if len(known) else float("nan")


def duration_of(data: StudyData) -> float:
    """Return the seconds between the first start and the last end; 0 before any."""
    return float(np.nanmax(elapsed_seconds(data), initial=0.0))


def time_unit(seconds: float) -> tuple[float, str]:
    """Return the seconds of a readable unit for an axis of this length, and its name."""
    return (1.0, "s") if seconds < 300 else (60.0, "min") if seconds < 18_000 else (3600.0, "h")
