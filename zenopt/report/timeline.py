"""Who worked when: trials by worker over time."""

from __future__ import annotations

import numpy as np
from optuna.trial import TrialState

from zenopt.report.figure import (
    BLUE,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    Figure,
    duration_of,
    first_start,
    new_figure,
    time_unit,
)
from zenopt.report.reading import StudyData
from zenopt.storage.workers import Worker

#: Trials up to which each is a bar of its own; more of them are summed up.
_BARS = 600
_WORKERS, _WINDOWS = 40, 120
_STATES = (
    ("candidate", TrialState.COMPLETE, True, BLUE),
    ("over budget", TrialState.COMPLETE, False, ORANGE),
    ("over budget", TrialState.PRUNED, False, ORANGE),
    ("pruned", TrialState.PRUNED, True, PURPLE),
    ("failed", TrialState.FAIL, True, RED),
    ("failed", TrialState.FAIL, False, RED),
    ("running", TrialState.RUNNING, True, GREY),
)
#: Shares are drawn from transparent to this colour, so that they read on light and dark pages.
_BUSY = ((0.0, "rgba(76,139,208,0.04)"), (1.0, "rgba(76,139,208,1)"))


def timeline(data: StudyData) -> list[Figure]:
    """Return the trials by worker over time; empty where no trial has started.

    Few trials are bars, coloured by what became of them; of many, the share of the time that a worker was busy.
    """
    started = np.flatnonzero(np.isfinite(data.started))
    if not len(started):
        return []
    names = np.array([worker_name(data.workers[position]) for position in started])
    order = [str(name) for name in dict.fromkeys(names)]
    shown = order[:_WORKERS]
    divisor, unit = time_unit(duration_of(data))
    begin = data.started[started] - first_start(data)
    # A trial under way lasts until the study was last heard of.
    end = np.where(
        np.isfinite(data.ended[started]), data.ended[started] - first_start(data), duration_of(data)
    )
    figure = new_figure(f"time since the first trial, {unit}", "", height=140 + 22 * len(shown))
    if len(started) <= _BARS:
        _bars(figure, data, started, names, begin / divisor, np.maximum(end - begin, 0.0) / divisor, unit)
        what = "One bar is one trial."
    else:
        busy = np.array(
            [_busy(begin[names == name], end[names == name], duration_of(data)) for name in shown]
        )
        middles = (np.arange(_WINDOWS) + 0.5) * duration_of(data) / _WINDOWS / divisor
        counts = [int((names == name).sum()) for name in shown]
        figure.add_heatmap(
            x=middles, y=shown, z=busy, colorscale=_BUSY, zmin=0, zmax=1, showscale=False, xgap=0, ygap=2,
            customdata=np.repeat(np.array(counts)[:, None], _WINDOWS, axis=1),
            hovertemplate="%{y}: %{customdata:,} trials<br>busy %{z:.0%} of the time at %{x:.3g} "
            f"{unit}<extra></extra>",
        )  # fmt: skip
        what = "The darker, the larger the share of the time that a worker had a trial under way."
    figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=shown[::-1], range=[-0.6, len(shown) - 0.4]
    )
    left_out = f" The first {_WORKERS} are shown." if len(order) > _WORKERS else ""
    caption = f"{len(order)} worker{'s' * (len(order) > 1)}, one row each.{left_out} {what}"
    return [Figure("timeline", "Trials by worker over time", caption, figure, is_wide=True)]


def worker_name(text: str | None) -> str:
    """Return a worker as people tell it from others: machine and process."""
    worker = Worker.parse(text)
    if worker is None:
        return text or "unknown"
    return f"{worker.host.split('/')[0]} · {worker.pid}"


def _bars(
    figure: object,
    data: StudyData,
    started: np.ndarray,
    names: np.ndarray,
    begin: np.ndarray,
    length: np.ndarray,
    unit: str,
) -> None:
    in_legend: set[str] = set()
    for label, state, is_feasible, colour in _STATES:
        own = np.flatnonzero((data.states[started] == state.value) & (data.feasible[started] == is_feasible))
        if not len(own):
            continue
        figure.add_bar(  # type: ignore[attr-defined]
            base=begin[own], x=length[own], y=names[own], orientation="h", name=label, legendgroup=label,
            showlegend=label not in in_legend, marker={"color": colour, "opacity": 0.75, "line": {"width": 0}},
            customdata=data.numbers[started[own]],
            hovertemplate=f"<b>trial %{{customdata}}</b><br>from %{{base:.3g}} {unit}, for %{{x:.3g}} {unit}"
            f"<extra>{label}</extra>",
        )  # fmt: skip
        in_legend.add(label)
    figure.update_layout(barmode="overlay", bargap=0.25)  # type: ignore[attr-defined]


def _busy(begin: np.ndarray, end: np.ndarray, duration: float) -> np.ndarray:
    """Return the share of each window in which a worker had a trial under way."""
    edges = np.linspace(0.0, duration, _WINDOWS + 1)
    done = np.clip(edges[:, None] - begin[None, :], 0.0, (end - begin)[None, :]).sum(axis=1)
    return np.minimum(1.0, np.diff(done) / (duration / _WINDOWS))
