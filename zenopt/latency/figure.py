"""Predicted against measured, as a plotly figure."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from zenopt.core.errors import DeviceError
from zenopt.core.text import one_line, quoted
from zenopt.latency.output import prepare_output
from zenopt.latency.profile import DeviceProfile

#: Shaded band around the diagonal.
BAND = 0.10


def held_out_pairs(profile: DeviceProfile) -> list[tuple[str, float, float]]:
    """Returns ``(network, measured_ms, predicted_ms)`` of networks the profile was not fitted to.

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
    rows = [row for row in rows if row[1] > 0 and row[2] > 0 and isfinite(row[1]) and isfinite(row[2])]
    if not rows:
        raise DeviceError(f"Device profile {quoted(profile.name)} keeps no held-out networks to draw.")
    return rows


def predicted_against_measured(pairs: Sequence[tuple[str, float, float]], title: str) -> Any:
    """Draws predictions over measurements on logarithmic axes, with a band of 10 %.

    Args:
        pairs:
            ``(network, measured_ms, predicted_ms)``.
        title:
            Title of the figure.

    Returns:
        A ``plotly.graph_objects.Figure``.
    """
    import plotly.graph_objects as go

    measured = [row[1] for row in pairs]
    predicted = [row[2] for row in pairs]
    low, high = min(measured + predicted) / 1.3, max(measured + predicted) * 1.3
    errors = [p / m - 1 for m, p in zip(measured, predicted, strict=True)]
    figure = go.Figure()
    figure.add_scatter(
        x=[low, high, high, low],
        y=[low * (1 + BAND), high * (1 + BAND), high * (1 - BAND), low * (1 - BAND)],
        fill="toself", mode="none", fillcolor="rgba(60,110,180,0.12)", name="within 10 %", hoverinfo="skip",
    )  # fmt: skip
    figure.add_scatter(
        x=[low, high],
        y=[low, high],
        mode="lines",
        line={"color": "#888", "width": 1},
        name="exact",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=measured, y=predicted, mode="markers", name="networks", marker={"size": 8, "color": "#1f5fa8"},
        text=[row[0] if len(row[0]) <= 60 else row[0][:57] + "..." for row in pairs], customdata=errors,
        hovertemplate="%{text}<br>measured %{x:.4g} ms<br>predicted %{y:.4g} ms (%{customdata:+.1%})<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(type="log", title="measured, ms per image")
    figure.update_yaxes(type="log", title="predicted, ms per image", scaleanchor="x")
    figure.update_layout(title=title, template="plotly_white", width=760, height=720)
    return figure


def write_figure(pairs: Sequence[tuple[str, float, float]], title: str, output: str | Path) -> None:
    """Writes the figure as one HTML page (``.html``, needs no network) or as plotly's JSON (``.json``).

    Raises:
        DeviceError: If the ending is another, or the file cannot be written.
    """
    path = prepare_output(output, (".html", ".json"))
    figure = predicted_against_measured(pairs, title)
    text = figure.to_html(include_plotlyjs=True) if path.suffix == ".html" else figure.to_json()
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DeviceError(f"Cannot write {path}: {error.strerror}.") from error
