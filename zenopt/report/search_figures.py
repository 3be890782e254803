"""Figures of differentiable searches: how sure each one became, what it would have derived, and of which operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna

from zenopt.report.figure import SERIES, Figure, new_figure
from zenopt.report.reading import StudyData
from zenopt.storage.history import StudyHistory
from zenopt.study.derived import CURVE_KEY, EPOCH_KEY, METHOD_KEY, SEARCHES_KEY, SEED_KEY, WEIGHTS_KEY

#: Searches that are drawn, the best first.
_DRAWN = 20
_GROUP = "Differentiable search"


@dataclass(frozen=True)
class _Search:
    number: int
    label: str
    curve: Mapping[str, Any]
    weights: Mapping[str, list[float]]
    taken: int

    @property
    def epochs(self) -> list[int]:
        return list(range(1, len(self.curve["architecture"]) + 1))


def search_figures(study: optuna.Study, data: StudyData) -> list[Figure]:
    """Return the figures of a study's differentiable searches; empty where it has none."""
    if not study.user_attrs.get(SEARCHES_KEY):
        return []
    searches = _read(study, data)
    if not searches:
        return []
    left_out = f" The best {_DRAWN} are drawn." if len(searches) > _DRAWN else ""
    shown = searches[:_DRAWN]
    figures = [_lines(shown, "entropy", "entropy, nats", "search-entropy", "Entropy of the weights of operations",
                      "Mean over choices; it falls as a search becomes sure." + left_out)]  # fmt: skip
    if any("value" in search.curve for search in shown):
        figures.append(
            _lines(shown, "value", "value in the table", "search-value", "What would have been derived",
                   "The table's value of the architecture after each epoch; the ring is the one that was taken. "
                   "What the table does not list is left out." + left_out)
        )  # fmt: skip
    figures.append(
        _lines(shown, "skips", "skip connections", "search-skips", "Skip connections of the derived cell",
               "A search that collapses ends with little else." + left_out)
    )  # fmt: skip
    return [*figures, _operations(shown[0]), _weights(shown[0])]


def _read(study: optuna.Study, data: StudyData) -> list[_Search]:
    """Return the searches, the best first; those without a value come last."""
    records = StudyHistory(study, (CURVE_KEY, METHOD_KEY, SEED_KEY, EPOCH_KEY, WEIGHTS_KEY)).sync()
    ranks = {int(data.numbers[position]): rank for rank, position in enumerate(data.ranked())}
    found = [
        _Search(
            record.number,
            f"{record.user_attrs[METHOD_KEY]}, seed {record.user_attrs[SEED_KEY]}",
            record.user_attrs[CURVE_KEY],
            record.user_attrs[WEIGHTS_KEY],
            int(record.user_attrs[EPOCH_KEY]),
        )
        for record in records
        if CURVE_KEY in record.user_attrs
    ]
    return sorted(found, key=lambda search: (ranks.get(search.number, len(ranks)), search.number))


def _lines(searches: list[_Search], column: str, label: str, key: str, title: str, caption: str) -> Figure:
    figure = new_figure("epoch", label)
    for index, search in enumerate(searches):
        if column not in search.curve:
            continue
        colour = SERIES[index % len(SERIES)]
        values = [np.nan if value is None else value for value in search.curve[column]]
        numbers = [[search.number, text] for text in search.curve["architecture"]]
        figure.add_scatter(
            x=search.epochs, y=values, customdata=numbers, mode="lines+markers", name=search.label,
            line={"color": colour, "width": 2}, marker={"size": 5},
            hovertemplate=f"<b>trial %{{customdata[0]}}</b>, epoch %{{x}}<br>{label}: %{{y:.4g}}<br>%{{customdata[1]}}"
            f"<extra>{search.label}</extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=[search.taken], y=[values[search.taken - 1]], customdata=[numbers[search.taken - 1]], mode="markers",
            marker={"size": 11, "symbol": "circle-open", "color": colour, "line": {"width": 2}}, showlegend=False,
            hovertemplate="<b>trial %{customdata[0]}</b> took this<br>%{customdata[1]}"
            f"<extra>{search.label}</extra>",
        )  # fmt: skip
    return Figure(key, title, caption, figure, _GROUP)


def _operations(search: _Search) -> Figure:
    figure = new_figure("epoch", "mean weight")
    for index, (operation, values) in enumerate(search.curve["operations"].items()):
        figure.add_scatter(
            x=search.epochs, y=values, mode="lines", name=operation,
            line={"color": SERIES[index % len(SERIES)], "width": 2},
            hovertemplate=f"epoch %{{x}}<br>mean weight: %{{y:.3f}}<extra>{operation}</extra>",
        )  # fmt: skip
    caption = f"Mean over choices, of the best search (trial {search.number}: {search.label})."
    return Figure("search-operations", "Weights of operations", caption, figure, _GROUP)


def _weights(search: _Search) -> Figure:
    operations, choices = list(search.curve["operations"]), list(search.weights)
    figure = new_figure("", "", height=140 + 22 * len(choices))
    # Choices may have different operations; what one has not is left blank.
    figure.add_heatmap(
        x=operations, y=choices, z=list(search.weights.values()), zmin=0,
        colorscale=((0.0, "rgba(76,139,208,0.04)"), (1.0, "rgba(76,139,208,1)")), showscale=False, xgap=2, ygap=2,
        hovertemplate="%{y}: %{x}<br>weight %{z:.3f}<extra></extra>",
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed")
    caption = (
        f"Of the best search (trial {search.number}: {search.label}) when it derived; the darker, the larger."
    )
    return Figure("search-weights", "Weights of every choice", caption, figure, _GROUP)
