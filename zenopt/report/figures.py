"""Figures of candidates: progress, costs, closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import TrialState

from zenopt.core.costs import COST_KINDS
from zenopt.report.analysis import feasible_share, pareto_front, rank_correlation, running_best, thin_out
from zenopt.report.figure import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    Figure,
    amount,
    beyond_words,
    budget_line,
    duration_of,
    elapsed_seconds,
    key_label,
    latency_label,
    latency_words,
    new_figure,
    points,
    score_label,
    step,
    time_unit,
)
from zenopt.report.reading import StudyData
from zenopt.report.scales import Scale, robust_scale
from zenopt.study.spec import StudySpec

#: Points drawn per figure; more of them are sampled, and the caption says so.
POINTS = 2500
_BEST_KEPT = 200
#: Costs that are drawn whether or not the budget limits them, and first.
_ALWAYS = ("params", "macs", "latency_ms")
_CROSS = {"size": 4, "color": ORANGE, "opacity": 0.5, "symbol": "x"}


@dataclass(frozen=True)
class Cost:
    """A cost that candidates are drawn against: the trial attribute, its label, and how its axis is written."""

    column: str
    label: str
    tick_format: str


def costs_of(data: StudyData) -> dict[str, Cost]:
    """Return the costs worth drawing: params, MACs, latency where known, and whatever else the budget limits.

    Params and MACs are the counts that the budget is written in.
    """
    limits = data.spec.limits().budget.limits()
    return {
        key: cost
        for key, cost in budget_costs(data.spec).items()
        if (key in _ALWAYS or key in limits) and np.isfinite(data.columns[cost.column]).any()
    }


def budget_costs(spec: StudySpec) -> dict[str, Cost]:
    """Return every cost that a budget may limit, in the counts that the budget is written in."""
    costs = {key: Cost(key, kind.title, "") for key, kind in COST_KINDS.items()}
    costs["latency_ms"] = Cost("latency_ms", latency_label(spec), "")
    for key, column in (("params", "zennas_params"), ("macs", "zennas_flops")):
        title = COST_KINDS[key].title
        if spec.budget.counting == "zennas":
            costs[key] = Cost(column, f"{title} (ZenNAS count)", "~s")
        else:
            costs[key] = Cost(key, title, "~s")
    costs["activation_bytes"] = Cost("activation_bytes", COST_KINDS["activation_bytes"].title, "~s")
    first = [key for key in _ALWAYS if key in costs]
    return {key: costs[key] for key in [*first, *(key for key in costs if key not in first)]}


def score_scale(data: StudyData) -> Scale | None:
    """Return the axis of a study's scores: outliers leave it on the bad side only."""
    values = data.values[data.scored]
    if not len(values):
        return None
    best = values.max() if data.maximize else values.min()
    scale = robust_scale(values, (best,))
    assert scale is not None
    # What is better than the rest is no outlier: it is what is searched for.
    if data.maximize:
        return Scale(scale.low, max(scale.high, best + 0.04 * (best - scale.low)))
    return Scale(min(scale.low, best - 0.04 * (scale.high - best)), scale.high)


def progress(data: StudyData) -> list[Figure]:
    """Best score over trials and over time, and the share of trials within the budget."""
    best, best_values = running_best(data)
    shown, note = shown_candidates(data, best)
    score, scale = score_label(data.spec), score_scale(data)
    last = data.numbers[-1] if data.size else 0
    by_trial = new_figure("trial", score)
    points(
        by_trial, data.numbers[shown].astype(float), data.values[shown], data.numbers[shown],
        name="candidate", x_label="trial", y_label=score, scale=scale,
    )  # fmt: skip
    over, over_values = _over_budget(data)
    if len(over):
        points(
            by_trial, data.numbers[over].astype(float), over_values, data.numbers[over],
            name="over budget", x_label="trial", y_label="closed form", marker=_CROSS,
        )  # fmt: skip
        note = f"What is over budget was not measured and is drawn at its closed form. {note}".strip()
    step(by_trial, data.numbers[best], best_values, last, "best so far", GREEN, numbers=data.numbers[best])
    divisor, unit = time_unit(duration_of(data))
    elapsed = elapsed_seconds(data) / divisor
    by_time = new_figure(f"time since the first trial, {unit}", score)
    step(
        by_time, elapsed[best], best_values, duration_of(data) / divisor, "best so far", GREEN,
        mode="lines+markers", x_label=unit, numbers=data.numbers[best],
    )  # fmt: skip
    set_score_axis(by_trial, scale)
    set_score_axis(by_time, robust_scale(best_values, best_values[-1:]))
    final = (
        f"Best {best_values[-1]:.4g}, found at trial {data.numbers[best[-1]]}."
        if len(best)
        else "No candidate yet."
    )
    beyond = beyond_words(scale, data.values[data.scored])
    return [
        Figure(
            "best-trials", "Best score over trials", " ".join(filter(None, (final, beyond, note))), by_trial
        ),
        Figure("best-time", "Best score over time", f"{final} {_rate(data)}".strip(), by_time),
        _feasible(data),
    ]


def _feasible(data: StudyData) -> Figure:
    numbers, shares = feasible_share(data)
    figure = new_figure("trial", "share within the budget")
    figure.add_scatter(
        x=numbers, y=shares, mode="lines+markers", name="within budget", line={"color": BLUE},
        hovertemplate="within budget: %{y:.1%}<br>up to trial %{x:,}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(yaxis={"tickformat": ".0%", "range": [-0.03, 1.03]}, showlegend=False)
    finished = data.scored.sum() + data.over_budget.sum()
    share = (
        f"{data.scored.sum() / finished:.1%} of {finished:,} settled trials" if finished else "No trial yet"
    )
    caption = (
        f"{share} kept the budget; one point is a run of consecutive trials. Candidates that the sampler itself "
        f"dropped are not trials."
    )
    return Figure("feasible", "Share within the budget", caption, figure)


def set_score_axis(figure: object, scale: Scale | None) -> None:
    """Give a figure the vertical axis of a scale."""
    if scale is not None:
        figure.update_yaxes(range=[scale.low, scale.high])  # type: ignore[attr-defined]


def against_costs(data: StudyData) -> list[Figure]:
    """Every candidate in score against each cost, with budget and Pareto front; costs that are objectives aside."""
    found = []
    limits = data.spec.limits().budget.limits()
    score, scale = score_label(data.spec), score_scale(data)
    for key, cost in costs_of(data).items():
        if key in data.spec.objectives and cost.column == key:
            continue
        costs = data.columns[cost.column]
        known = np.flatnonzero(data.scored & np.isfinite(costs))
        front = known[pareto_front(costs[known], data.values[known], data.maximize)]
        shown, note = shown_candidates(data, front)
        figure = new_figure(cost.label, score)
        figure.update_xaxes(tickformat=cost.tick_format)
        words: dict[str, Any] = {
            "x_label": cost.label,
            "x_format": ",.5g" if cost.column == "latency_ms" else ",.0f",
        }
        points(
            figure, costs[shown], data.values[shown], data.numbers[shown],
            name="candidate", y_label=score, scale=scale, **words,
        )  # fmt: skip
        over, over_values = _over_budget(data)
        if len(over):
            points(
                figure, costs[over], over_values, data.numbers[over],
                name="over budget", y_label="closed form", marker=_CROSS, **words,
            )  # fmt: skip
        points(
            figure, costs[front], data.values[front], data.numbers[front], name="Pareto front", y_label=score,
            mode="lines+markers", line={"color": GREEN, "width": 2, "shape": "hv"},
            marker={"size": 6, "color": GREEN, "opacity": 1}, **words,
        )  # fmt: skip
        caption = [
            f"{len(front)} network{'s' * (len(front) != 1)} on the front of score against {cost.label}."
        ]
        if key == "latency_ms":
            caption.append(latency_words(data.spec).strip())
        if key in limits:
            budget_line(figure, limits[key])
            margin = ""
            if key == "latency_ms" and data.spec.latency is not None:
                margin = f" (the margin of {data.spec.latency.margin:g} applied)"
            caption.append(f"The line is the budget of {amount(limits[key])}{margin}.")
        # Of the front, what has a score that is shown.
        is_shown = np.zeros(len(front), dtype=bool) if scale is None else ~scale.outside(data.values[front])
        frame = robust_scale(
            costs[known], (*costs[front[is_shown]], *((limits[key],) if key in limits else ()))
        )
        if frame is not None:
            figure.update_xaxes(range=[frame.low, frame.high])
            beside = int(frame.outside(costs[known]).sum())
            caption.append(f"{beside:,} candidates lie beyond the frame." if beside else "")
        set_score_axis(figure, scale)
        caption.append(beyond_words(scale, data.values[data.scored]))
        if len(over):
            caption.append(
                "What is over budget was not measured: it is drawn at its closed form, as far as the frame goes."
            )
        title = f"Score against {key_label(key)}"
        text = " ".join(filter(None, (*caption, note)))
        found.append(Figure(f"score-{key.replace('_', '-')}", title, text, figure, "Costs"))
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
    scale = score_scale(data)
    score = score_label(data.spec)
    figure = new_figure("closed form", score)
    points(
        figure, formula[shown], data.values[shown], data.numbers[shown],
        name="candidate", x_label="closed form", y_label=score, scale=scale,
    )  # fmt: skip
    low = max(formula[shown].min(), data.values[shown].min())
    high = min(formula[shown].max(), data.values[shown].max())
    if data.is_zen and high > low:
        figure.add_scatter(
            x=[low, high], y=[low, high], mode="lines", name="equal", hoverinfo="skip",
            line={"color": GREY, "dash": "dot", "width": 1.5},
        )  # fmt: skip
    set_score_axis(figure, scale)
    frame = robust_scale(formula[known])
    if frame is not None:
        figure.update_xaxes(range=[frame.low, frame.high])
    caption = f"Rank correlation {everyone:.3f} over {len(known):,} candidates"
    is_part = np.isfinite(top) and len(best) < len(known)
    caption += f", {top:.3f} within the best {len(best):,}." if is_part else "."
    beyond = beyond_words(scale, data.values[known])
    return [
        Figure("closed-form", "Closed form against measured", f"{caption} {beyond}".strip(), figure, "Costs")
    ]


def shown_candidates(data: StudyData, keep: np.ndarray) -> tuple[np.ndarray, str]:
    """Return the positions of the candidates to draw, and a sentence where they are not all."""
    positions = np.flatnonzero(data.scored)
    shown = thin_out(positions, np.union1d(keep, data.ranked()[:_BEST_KEPT]), POINTS)
    if len(shown) == len(positions):
        return shown, ""
    return shown, (
        f"{len(shown):,} of {len(positions):,} points are drawn: the front, the best {_BEST_KEPT} and a uniform "
        f"sample; lines use all."
    )


def _over_budget(data: StudyData) -> tuple[np.ndarray, np.ndarray]:
    """Return what is over budget, with closed-form values: such candidates are not measured."""
    values = data.columns["closed_form"]
    if not data.is_zen:
        # The closed form is on the scale of Zen-scores alone.
        return np.array([], dtype=int), np.array([])
    positions = np.flatnonzero(data.over_budget & np.isfinite(values))
    positions = thin_out(positions, np.array([], dtype=int), POINTS // 4)
    return positions, values[positions]


def _rate(data: StudyData) -> str:
    """Trials per hour between the first start and the last end, pauses included."""
    seconds = duration_of(data)
    ended = int((~data.in_state(TrialState.RUNNING) & ~data.in_state(TrialState.WAITING)).sum())
    return (
        f"{ended / seconds * 3600:,.0f} trials per hour on the clock, pauses included." if seconds > 0 else ""
    )
