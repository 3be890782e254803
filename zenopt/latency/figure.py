"""Predicted against measured, as a plotly figure and as a page of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from zenopt.core import figurepage
from zenopt.core.errors import DeviceError
from zenopt.core.statistics import spearman
from zenopt.core.text import one_line, quoted
from zenopt.latency.profile import DeviceProfile

#: Shaded bands around the diagonal, as relative errors; beyond the first a network is named.
BANDS = (0.10, 0.20)
_INSIDE, _OUTSIDE, _BAND, _GREY = "#4c8bd0", "#d98324", "rgba(76,139,208,{})", "#98a2b3"
#: Networks whose errors are listed, the largest first, and characters of a name.
_LISTED, _LETTERS = 40, 26
_ROW, _SCATTER = 20, 460


@dataclass(frozen=True)
class Errors:
    """Relative errors of predictions.

    Attributes:
        mean: Mean absolute relative error.
        largest: Largest absolute relative error.
        within_10: Share of networks within 10 %.
        rank: Rank correlation (Spearman) of predicted and measured; ``None`` where one side is constant.
        networks: How many there are.
    """

    mean: float
    largest: float
    within_10: float
    rank: float | None
    networks: int

    def __str__(self) -> str:
        rank = "" if self.rank is None else f", rank correlation {self.rank:.3f}"
        return (
            f"{self.networks} networks: mean error {self.mean:.1%}, largest {self.largest:.1%}, "
            f"{self.within_10:.0%} within 10 %{rank}"
        )


def held_out_pairs(profile: DeviceProfile) -> list[tuple[str, float, float]]:
    """Return ``(network, measured_ms, predicted_ms)`` of networks the profile was not fitted to.

    Raises:
        DeviceError: If the profile keeps none (e.g. because no whole network was measured).
    """
    rows: list[tuple[str, float, float]] = []
    try:
        for row in profile.errors.get("held_out", ()):
            rows.append((str(row["structure"]), float(row["measured_ms"]), float(row["table_ms"])))
        networks = profile.data.get("networks")
        if isinstance(networks, dict):
            for name, row in networks.items():
                rows.append((str(name), float(row["published_ms"]), float(row["held_out_ms"])))
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise DeviceError(
            f"Device profile {quoted(profile.name)}: held-out networks cannot be read: {one_line(repr(error), 99)}."
        ) from None
    rows = [
        row for row in rows if row[1] > 0 and row[2] > 0 and math.isfinite(row[1]) and math.isfinite(row[2])
    ]
    if not rows:
        raise DeviceError(f"Device profile {quoted(profile.name)} keeps no held-out networks to draw.")
    return rows


def errors_of(pairs: Sequence[tuple[str, float, float]]) -> Errors:
    """Return the errors of ``(network, measured_ms, predicted_ms)``."""
    measured, predicted = _times(pairs)
    found = np.abs(predicted / measured - 1.0)
    return Errors(
        float(found.mean()),
        float(found.max()),
        float((found <= BANDS[0]).mean()),
        spearman(predicted, measured),
        len(pairs),
    )


def predicted_against_measured(pairs: Sequence[tuple[str, float, float]], title: str) -> Any:
    """Draw predictions over measurements with bands of 10 and 20 %, and below them every network's error.

    Args:
        pairs:
            ``(network, measured_ms, predicted_ms)``.
        title:
            Title of the figure.

    Returns:
        A ``plotly.graph_objects.Figure``.
    """
    from plotly.subplots import make_subplots

    names = [_label(name, index) for index, (name, _, _) in enumerate(pairs)]
    measured, predicted = _times(pairs)
    errors = predicted / measured - 1.0
    listed = np.argsort(-np.abs(errors), kind="stable")[:_LISTED]
    list_height = 40 + _ROW * len(listed)
    figure = make_subplots(
        2, 1, row_heights=[_SCATTER, list_height], vertical_spacing=90 / (_SCATTER + list_height + 90),
        subplot_titles=("", "Error of each network" if len(listed) == len(pairs) else f"The {_LISTED} largest errors"),
    )  # fmt: skip
    _diagonal(figure, measured, predicted)
    is_outside = np.abs(errors) > BANDS[0]
    for words, chosen, colour in (
        ("within 10 %", ~is_outside, _INSIDE),
        ("beyond 10 %", is_outside, _OUTSIDE),
    ):
        own = np.flatnonzero(chosen)
        if not len(own):
            continue
        hover = {
            "customdata": [[_wrapped(pairs[index][0]), float(errors[index])] for index in own.tolist()],
            "hovertemplate": "<b>%{customdata[0]}</b><br>measured %{x:.4g} ms<br>predicted %{y:.4g} ms "
            "(%{customdata[1]:+.1%})<extra></extra>",
        }
        # Names where something is to be explained; all of them would lie on each other.
        figure.add_scatter(
            x=measured[own], y=predicted[own], mode="markers+text" if colour == _OUTSIDE else "markers", name=words,
            text=[names[index] for index in own], textfont={"size": 10},
            textposition=["middle left" if errors[index] > 0 else "middle right" for index in own.tolist()],
            marker={"size": 9, "color": colour}, row=1, col=1, **hover,
        )  # fmt: skip
    order = listed[::-1]
    figure.add_bar(
        x=errors[order], y=list(range(len(order))), orientation="h", showlegend=False, row=2, col=1,
        marker={"color": [_OUTSIDE if is_outside[index] else _INSIDE for index in order]},
        customdata=[
            [_wrapped(pairs[index][0]), float(measured[index]), float(predicted[index])] for index in order.tolist()
        ],
        hovertemplate="<b>%{customdata[0]}</b><br>%{x:+.1%}: predicted %{customdata[2]:.4g} ms, measured "
        "%{customdata[1]:.4g} ms<extra></extra>",
    )  # fmt: skip
    figure.add_vrect(
        x0=-BANDS[0], x1=BANDS[0], fillcolor=_BAND.format(0.12), line_width=0, layer="below", row=2, col=1
    )
    ticks = _ticks(float(min(measured.min(), predicted.min())), float(max(measured.max(), predicted.max())))
    figure.update_xaxes(title="measured, ms per image", **ticks, row=1, col=1)
    figure.update_yaxes(title="predicted, ms per image", **ticks, row=1, col=1)
    figure.update_xaxes(title="predicted against measured", tickformat="+.0%", row=2, col=1)
    figure.update_yaxes(
        tickmode="array", tickvals=list(range(len(order))), ticktext=[names[index] for index in order.tolist()],
        tickfont={"size": 10}, automargin=True, row=2, col=1,
    )  # fmt: skip
    headline = {"text": f"{escape(title)}<br><sup>{errors_of(pairs)}</sup>", "x": 0, "xref": "paper"}
    return figurepage.lay_out(figure, _SCATTER + list_height + 190, top=110, title=headline)


def write_figure(pairs: Sequence[tuple[str, float, float]], title: str, output: str | Path) -> None:
    """Write the figure as one HTML page (``.html``, needs no network) or as plotly's JSON (``.json``).

    Raises:
        OutputError: If the ending is another, or the file cannot be written.
    """
    figurepage.write_figure(predicted_against_measured(pairs, title), title, f"{errors_of(pairs)}.", output)


def _diagonal(figure: Any, measured: np.ndarray, predicted: np.ndarray) -> None:
    low, high = min(measured.min(), predicted.min()) / 1.3, max(measured.max(), predicted.max()) * 1.3
    for band in BANDS[::-1]:
        figure.add_scatter(
            x=[low, high, high, low], y=[low * (1 + band), high * (1 + band), high * (1 - band), low * (1 - band)],
            fill="toself", mode="none", fillcolor=_BAND.format(0.12), name=f"±{band:.0%}", hoverinfo="skip",
            row=1, col=1,
        )  # fmt: skip
    figure.add_scatter(
        x=[low, high], y=[low, high], mode="lines", line={"color": _GREY, "width": 1}, name="exact", hoverinfo="skip",
        row=1, col=1,
    )  # fmt: skip


def _times(pairs: Sequence[tuple[str, float, float]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([row[1] for row in pairs]), np.array([row[2] for row in pairs])


def _ticks(low: float, high: float) -> dict[str, Any]:
    """Return a logarithmic axis whose ticks are full numbers."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 1000 else (1,)
    ticks = [step * 10.0**power for power in powers for step in steps]
    ticks = [tick for tick in ticks if low / 1.4 <= tick <= high * 1.4]
    return {
        "type": "log",
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": [f"{tick:.4g}" for tick in ticks],
    }


def _label(name: str, index: int) -> str:
    """Return a network's name, or its number where the name is a structure string."""
    if "(" in name or "|" in name:
        return f"network {index + 1}"
    return escape(name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…")


def _wrapped(name: str) -> str:
    """Return a name over several lines, for a hover that fits a screen."""
    return "<br>".join(escape(name[start : start + 60]) for start in range(0, min(len(name), 300), 60))
