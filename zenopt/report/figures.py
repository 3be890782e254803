"""Figures of candidates: progress, costs, closed form. Plotly figures without colours of a theme.

Backgrounds, grids and text take their colours from the template that whoever shows the figure gives (a page in light
or dark); data colours are readable on both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from optuna.trial import TrialState

from zenopt.report.analysis import feasible_share, pareto_front, rank_correlation, running_best, thin_out
from zenopt.report.reading import StudyData
from zenopt.study.spec import StudySpec

BLUE, GREY, ORANGE, GREEN, RED, PURPLE = "#4c8bd0", "#98a2b3", "#d98324", "#3aa675", "#d4574e", "#9a6fd0"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, RED, "#3aa0a6", "#b58b2a", "#c46aa0")
#: Points drawn per figure; more of them are sampled, and the caption says so.
POINTS = 2500
_BEST_KEPT = 200


@dataclass(frozen=True)
class Figure:
    """A figure with its words.

    Attributes:
        key: Name for export and links.
        title: Heading.
        caption: What it shows and what it left out, in a sentence or two.
        figure: The plotly figure, without a theme.
        group: Heading of the page under which it stands.
    """

    key: str
    title: str
    caption: str
    figure: go.Figure
    group: str = "Search"

    def titled(self) -> go.Figure:
        """Returns the figure with its title and a light theme, to stand alone."""
        title = {"text": self.title, "y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 14}}
        return go.Figure(self.figure).update_layout(template="plotly_white", title=title, margin_t=84)


@dataclass(frozen=True)
class Cost:
    """A cost that candidates are drawn against: the trial attribute, its label, and how its axis is written."""

    column: str
    label: str
    tick_format: str


def costs_of(data: StudyData) -> dict[str, Cost]:
    """Returns the costs worth drawing: params, MACs, latency where known, and whatever else the budget limits.

    Params and MACs are the counts that the budget is written in.
    """
    zennas = data.spec.budget.counting == "zennas"
    found = {
        "params": Cost("zennas_params", "params (ZenNAS count)", "~s")
        if zennas
        else Cost("params", "params", "~s"),
        "macs": Cost("zennas_flops", "MACs (ZenNAS count)", "~s") if zennas else Cost("macs", "MACs", "~s"),
    }
    found["latency_ms"] = Cost("latency_ms", latency_label(data.spec), "")
    limits = data.spec.limits().budget.limits()
    for name in ("layers", "convs"):
        if name in limits:
            found[name] = Cost(name, name, "")
    return {key: cost for key, cost in found.items() if np.isfinite(data.columns[cost.column]).any()}


def score_source(spec: StudySpec) -> str:
    """Returns what gives the scores of a study: a proxy, or the column of a table."""
    return str(spec.objective.column) if spec.objective.kind == "table" else spec.proxy.name


def score_label(spec: StudySpec) -> str:
    """Returns the score of a study as the title of an axis."""
    return f"score ({score_source(spec)})"


def latency_label(spec: StudySpec) -> str:
    """Returns what a latency of a study is, with its unit, short enough for an axis of a phone's width."""
    mode = "predicted" if spec.latency is None else spec.latency.mode
    return f"latency, ms ({'block table' if mode == 'table' else mode})"


def latency_words(spec: StudySpec) -> str:
    """Returns the sentence that names the device, for captions."""
    return f" Latency is {spec.latency.label}." if spec.latency is not None else ""


def new_figure(x_title: str, y_title: str, height: int = 340, **layout: Any) -> go.Figure:
    """Returns an empty figure that fits a phone and takes its theme later."""
    figure = go.Figure()
    figure.update_layout(
        template=None,
        height=height,
        margin={"l": 56, "r": 12, "t": 30, "b": 52},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        hovermode="closest",
        xaxis={"title": {"text": x_title, "standoff": 8}, "automargin": True},
        yaxis={"title": {"text": y_title, "standoff": 8}, "automargin": True},
        **layout,
    )
    return figure


def progress(data: StudyData) -> list[Figure]:
    """Best score over trials and over time, and the share of trials within the budget."""
    best, best_values = running_best(data)
    shown, note = shown_candidates(data, best)
    score = score_label(data.spec)
    by_trial = new_figure("trial", score)
    _points(by_trial, data, shown, data.numbers[shown].astype(float), "candidate")
    over, over_values = _over_budget(data)
    if len(over):
        by_trial.add_scatter(
            x=data.numbers[over], y=over_values, mode="markers", name="over budget",
            marker={"size": 4, "color": ORANGE, "opacity": 0.5, "symbol": "x"}, hoverinfo="skip",
        )  # fmt: skip
    step(
        by_trial, data.numbers[best], best_values, data.numbers[-1] if data.size else 0, "best so far", GREEN
    )
    divisor, unit = time_unit(duration_of(data))
    elapsed = elapsed_seconds(data) / divisor
    by_time = new_figure(f"time since the first trial, {unit}", score)
    step(
        by_time, elapsed[best], best_values, duration_of(data) / divisor, "best so far", GREEN,
        mode="lines+markers",
    )  # fmt: skip
    if len(over):
        note = f"What is over budget was not measured and is drawn at its closed form. {note}".strip()
    final = (
        f"Best {best_values[-1]:.4g}, found at trial {data.numbers[best[-1]]}."
        if len(best)
        else "No candidate yet."
    )
    rate = _rate(data)
    numbers, shares = feasible_share(data)
    feasible = new_figure("trial", "within budget")
    feasible.add_scatter(
        x=numbers, y=shares, mode="lines+markers", name="within budget", line={"color": BLUE}
    )
    feasible.update_layout(yaxis={"tickformat": ".0%", "range": [-0.03, 1.03]}, showlegend=False)
    finished = data.scored.sum() + data.over_budget.sum()
    share = (
        f"{data.scored.sum() / finished:.1%} of {finished:,} settled trials" if finished else "No trial yet"
    )
    return [
        Figure("best-trials", "Best score over trials", f"{final} {note}".strip(), by_trial),
        Figure("best-time", "Best score over time", f"{final} {rate}".strip(), by_time),
        Figure(
            "feasible",
            "Share within the budget",
            f"{share} kept the budget; one point is a run of consecutive trials. Candidates that the sampler itself "
            f"dropped are not trials.",
            feasible,
        ),
    ]


def against_costs(data: StudyData) -> list[Figure]:
    """Every candidate in score against each cost, with budget and Pareto front; costs that are objectives aside."""
    found = []
    limits = data.spec.limits().budget.limits()
    for key, cost in costs_of(data).items():
        if key in data.spec.objectives and cost.column == key:
            continue
        costs = data.columns[cost.column]
        known = np.flatnonzero(data.scored & np.isfinite(costs))
        front = known[pareto_front(costs[known], data.values[known], data.maximize)]
        shown, note = shown_candidates(data, front)
        figure = new_figure(cost.label, score_label(data.spec))
        figure.update_xaxes(tickformat=cost.tick_format)
        _points(figure, data, shown, costs[shown], "candidate")
        over, over_values = _over_budget(data)
        if len(over):
            figure.add_scatter(
                x=costs[over], y=over_values, mode="markers", name="over budget",
                marker={"size": 4, "color": ORANGE, "opacity": 0.5, "symbol": "x"},
                customdata=data.numbers[over], hovertemplate="trial %{customdata}<br>over budget<extra></extra>",
            )  # fmt: skip
        figure.add_scatter(
            x=costs[front], y=data.values[front], mode="lines+markers", name="Pareto front",
            line={"color": GREEN, "width": 2, "shape": "hv"}, marker={"size": 6}, customdata=data.numbers[front],
            hovertemplate="trial %{customdata}<br>%{y:.4g} at %{x:,}<extra>front</extra>",
        )  # fmt: skip
        words = f"{len(front)} networks on the front of score against {cost.label}."
        if key == "latency_ms":
            words += latency_words(data.spec)
        if key in limits:
            limit = limits[key]
            budget_line(figure, limit)
            words += f" The line is the budget of {amount(limit)}"
            if key == "latency_ms" and data.spec.latency is not None:
                words += f" (the margin of {data.spec.latency.margin:g} applied)"
            words += "."
        _frame(figure, costs[known], limits.get(key))
        if len(over):
            words += " What is over budget was not measured: it is drawn at its closed form, as far as the frame goes."
        found.append(
            Figure(f"score-{key.replace('_', '-')}", f"Score against {key_label(key)}", f"{words} {note}".strip(),
                   figure, "Costs")
        )  # fmt: skip
    return found


def closed_form(data: StudyData) -> list[Figure]:
    """Closed form against measured score: what the screening by formula can see of what is measured."""
    formula = data.columns["closed_form"]
    known = np.flatnonzero(data.scored & np.isfinite(formula) & np.isnan(data.columns["duplicate_of"]))
    if len(known) < 3:
        return []
    best = data.ranked()[: max(10, data.scored.sum() // 10)]
    best = np.intersect1d(best, known)
    everyone, top = (rank_correlation(formula[part], data.values[part]) for part in (known, best))
    shown = thin_out(known, best[:_BEST_KEPT], POINTS)
    figure = new_figure("closed form", f"measured ({data.spec.proxy.name})")
    _points(figure, data, shown, formula[shown], "candidate")
    low = max(formula[shown].min(), data.values[shown].min())
    high = min(formula[shown].max(), data.values[shown].max())
    if high > low:
        figure.add_scatter(
            x=[low, high], y=[low, high], mode="lines", name="equal", hoverinfo="skip",
            line={"color": GREY, "dash": "dot", "width": 1.5},
        )  # fmt: skip
    caption = f"Rank correlation {everyone:.3f} over {len(known):,} candidates"
    caption += f", {top:.3f} within the best tenth." if np.isfinite(top) else "."
    return [Figure("closed-form", "Closed form against measured", caption, figure, "Costs")]


def amount(value: float) -> str:
    """Returns a cost as text: thousands with commas, the rest with four digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def key_label(key: str) -> str:
    """Returns a cost's name in running text."""
    return {"macs": "MACs", "latency_ms": "latency"}.get(key, key)


def _points(figure: go.Figure, data: StudyData, shown: np.ndarray, x: np.ndarray, name: str) -> None:
    figure.add_scatter(
        x=x, y=data.values[shown], mode="markers", name=name, customdata=data.numbers[shown],
        marker={"size": 4, "color": BLUE, "opacity": 0.55},
        hovertemplate="trial %{customdata}<br>score %{y:.4g}<br>%{x:,}<extra></extra>",
    )  # fmt: skip


def step(
    figure: go.Figure, x: np.ndarray, y: np.ndarray, end: float, name: str, colour: str, mode: str = "lines"
) -> None:
    """Draws a staircase; the last step lasts until ``end``."""
    x = np.append(x, end) if len(x) else x
    y = np.append(y, y[-1]) if len(y) else y
    figure.add_scatter(
        x=x, y=y, mode=mode, name=name, line={"color": colour, "shape": "hv", "width": 2}, marker={"size": 5},
        hovertemplate="%{y:.4g} from %{x:,}<extra>" + name + "</extra>",
    )  # fmt: skip


def budget_line(figure: go.Figure, limit: float) -> None:
    """Draws a limit on the horizontal axis."""
    # A shape spans the figure whatever its scale; the empty trace puts the line into the legend.
    figure.add_shape(
        type="line",
        x0=limit,
        x1=limit,
        y0=0,
        y1=1,
        yref="paper",
        line={"color": RED, "dash": "dash", "width": 1.5},
    )
    figure.add_scatter(x=[None], y=[None], mode="lines", name="budget", line={"color": RED, "dash": "dash"})


def _frame(figure: go.Figure, costs: np.ndarray, limit: float | None) -> None:
    """Frames the candidates and the budget: a few points far over budget would leave them a sliver."""
    if not len(costs):
        return
    low, high = float(costs.min()), max(float(costs.max()), limit or 0.0)
    room = 0.06 * (high - low) or 0.1 * high or 1.0
    figure.update_xaxes(range=[low - room, high + 2 * room])


def shown_candidates(data: StudyData, keep: np.ndarray) -> tuple[np.ndarray, str]:
    """Returns the positions of the candidates to draw, and a sentence where they are not all."""
    positions = np.flatnonzero(data.scored)
    shown = thin_out(positions, np.union1d(keep, data.ranked()[:_BEST_KEPT]), POINTS)
    if len(shown) == len(positions):
        return shown, ""
    return shown, (
        f"{len(shown):,} of {len(positions):,} points are drawn: the front, the best {_BEST_KEPT} and a uniform "
        f"sample; lines use all."
    )


def _over_budget(data: StudyData) -> tuple[np.ndarray, np.ndarray]:
    """Returns what is over budget, with closed-form values: such candidates are not measured."""
    values = data.columns["closed_form"]
    if not data.spec.proxy.name.startswith("zen"):
        # The closed form is on the scale of Zen-scores alone.
        return np.array([], dtype=int), np.array([])
    positions = np.flatnonzero(data.over_budget & np.isfinite(values))
    positions = thin_out(positions, np.array([], dtype=int), POINTS // 4)
    return positions, values[positions]


def elapsed_seconds(data: StudyData) -> np.ndarray:
    """Returns when each trial ended, in seconds since the first one started; NaN where it has not."""
    start = np.nanmin(data.started, initial=np.inf) if data.size else np.inf
    return data.ended - start if np.isfinite(start) else np.full(data.size, np.nan)


def duration_of(data: StudyData) -> float:
    """Returns the seconds between the first start and the last end; 0 before any."""
    return float(np.nanmax(elapsed_seconds(data), initial=0.0))


def time_unit(seconds: float) -> tuple[float, str]:
    """Returns the seconds of a readable unit for an axis of this length, and its name."""
    return (1.0, "s") if seconds < 300 else (60.0, "min") if seconds < 18_000 else (3600.0, "h")


def _rate(data: StudyData) -> str:
    """Trials per hour between the first start and the last end, pauses included."""
    seconds = duration_of(data)
    ended = int((~data.in_state(TrialState.RUNNING) & ~data.in_state(TrialState.WAITING)).sum())
    return (
        f"{ended / seconds * 3600:,.0f} trials per hour on the clock, pauses included." if seconds > 0 else ""
    )
