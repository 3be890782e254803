"""Figures of short trainings: accuracy against score, learning curves, rank agreement."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from optuna.trial import TrialState

from zenopt.core.statistics import spearman
from zenopt.core.words import plural
from zenopt.report.figure import BLUE, GREEN, HEIGHT, SERIES, Figure, key_label, new_figure
from zenopt.report.trainings import Trained, Trainings

#: Networks whose curves are drawn, and that are listed.
_CURVES, _LISTED = 60, 100
_TRIAL = "<br>trial %{customdata[0]} of the search"
#: Networks below which nothing is said of ranks.
_FEWEST = 4
_AGREEMENTS = (
    "score",
    "closed_form",
    "params",
    "macs",
    "layers",
    "convs",
    "macs_per_conv",
    "depth_to_width",
    "latency_ms",
)


def training_figures(found: Trainings, numbers: dict[str, int], group: str) -> list[Figure]:
    """Return the figures of a linked study.

    Args:
        found:
            Its trainings.
        numbers:
            Trials of the search by structure, so that a click opens them.
        group:
            Heading under which the figures stand.
    """
    prefix = "verify" if found.kind == "verification" else "trained"
    figures = []
    if any(run.accuracies for network in found.networks for run in network.runs):
        figures.append(_curves(found, numbers, f"{prefix}-curves", group))
    scored = [network for network in found.different() if network.finished and np.isfinite(network.score)]
    if scored:
        figures.insert(0, _against_score(found, scored, numbers, f"{prefix}-score", group))
    agreement = _agreement(scored, found.scored_by_formula)
    if agreement:
        figures.append(_agreement_figure(agreement, len(scored), f"{prefix}-agreement", group))
    return figures


def _against_score(
    found: Trainings, networks: list[Trained], numbers: dict[str, int], key: str, group: str
) -> Figure:
    figure = new_figure("score without training", "accuracy, %")
    for label, colour in _colours(found).items():
        own = [network for network in networks if network.label == label]
        if not own:
            continue
        means = np.array([network.mean for network in own])
        spread = {
            "array": [max(network.finished) - network.mean for network in own],
            "arrayminus": [network.mean - min(network.finished) for network in own],
        }
        figure.add_scatter(
            x=[network.score for network in own], y=means, mode="markers",
            name=label if found.has_classes else "network",
            marker={"size": 9, "color": colour}, error_y={"type": "data", "width": 3, "thickness": 1, **spread},
            customdata=[[numbers.get(network.structure), _seeds(network)] for network in own],
            hovertemplate="score: %{x:.5g}<br>accuracy: %{y:.2f} % (%{customdata[1]})"
            f"{_TRIAL}<extra>{label}</extra>",
        )  # fmt: skip
    words = f"{plural(len(networks), 'network')} trained on {found.data}; bars reach from the worst to the best seed."
    if found.winner is not None:
        own = [network for network in networks if found.is_winner(network)]
        figure.add_scatter(
            x=[network.score for network in own], y=[network.mean for network in own], mode="markers", name="winner",
            marker={"size": 17, "symbol": "circle-open", "color": GREEN, "line": {"width": 2.5}}, hoverinfo="skip",
        )  # fmt: skip
    rho = spearman([network.score for network in networks], [network.mean for network in networks])
    if rho is not None and len(networks) >= _FEWEST:
        words += f" Rank correlation (Spearman) of score and accuracy: {rho:+.2f}."
    return Figure(key, "Accuracy against score", words, figure, group)


def _curves(found: Trainings, numbers: dict[str, int], key: str, group: str) -> Figure:
    figure = new_figure("epoch", "accuracy, %")
    colours = _colours(found)
    in_legend: set[str] = set()
    pruned = 0
    # The winner is drawn last, over the others.
    for network in sorted(found.networks[:_CURVES], key=found.is_winner):
        for run in network.runs:
            if not run.accuracies:
                continue
            is_pruned = run.state == TrialState.PRUNED
            pruned += is_pruned
            end = "x" if is_pruned else "circle"
            colour, before = colours[network.label], len(run.epochs) - 1
            figure.add_scatter(
                x=run.epochs, y=run.accuracies, mode="lines+markers", name=network.label, legendgroup=network.label,
                showlegend=found.has_classes and network.label not in in_legend,
                line={"color": colour, "width": 3 if found.is_winner(network) else 1.5},
                opacity=0.45 if is_pruned else 1.0,
                marker={"color": colour, "size": [4] * before + [8], "symbol": ["circle"] * before + [end]},
                customdata=[[numbers.get(network.structure), run.seed]] * len(run.epochs),
                hovertemplate="epoch %{x}: %{y:.2f} %<br>seed %{customdata[1]}, learning rate "
                f"{network.learning_rate:g}{_TRIAL}<extra>{network.label}</extra>",
            )  # fmt: skip
            in_legend.add(network.label)
    figure.update_xaxes(_epochs(found))
    words = f"One line is one training: {found.summary()}."
    words += f" Those of the best {_CURVES} networks are drawn." if len(found.networks) > _CURVES else ""
    words += " Lines that end in a cross were pruned." if pruned else ""
    words += " The thick lines are the winner's." if found.winner is not None else ""
    return Figure(key, "Learning curves", words, figure, group)


def _agreement(networks: list[Trained], by_formula: bool) -> dict[str, float]:
    if len(networks) < _FEWEST:
        return {}
    means = [network.mean for network in networks]
    found = {}
    for name in _AGREEMENTS:
        if by_formula and name == "score":
            continue  # the closed form is among them
        values = [network.score if name == "score" else network.facts.get(name) for network in networks]
        rho = None if None in values else spearman([float(value or 0.0) for value in values], means)
        if rho is not None:
            found[name] = rho
    return dict(sorted(found.items(), key=lambda item: abs(item[1])))


def _agreement_figure(found: dict[str, float], networks: int, key: str, group: str) -> Figure:
    names = [_WORDS.get(name, key_label(name).replace("_", " ")) for name in found]
    figure = new_figure("rank correlation with accuracy", "", height=HEIGHT)
    figure.add_bar(
        x=list(found.values()), y=names, orientation="h", marker={"color": BLUE},
        hovertemplate="%{y}: %{x:+.2f}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(range=[-1.05, 1.05])
    figure.update_layout(showlegend=False)
    words = (
        f"How the ranks of {networks} networks by a score or a cost agree with their ranks by accuracy (Spearman); of "
        f"so few networks this is a rough figure (zenopt verify gives intervals)."
    )
    return Figure(key, "What agrees with accuracy", words, figure, group)


_WORDS = {
    "closed_form": "closed form",
    "convs": "convolutions",
    "macs_per_conv": "MACs per convolution",
}


def _colours(found: Trainings) -> dict[str, str]:
    labels = dict.fromkeys(network.label for network in found.networks)
    return {label: SERIES[index % len(SERIES)] for index, label in enumerate(sorted(labels))}


def _seeds(network: Trained) -> str:
    count = len(network.finished)
    return f"mean of {count} seeds" if count > 1 else "one seed"


def training_table(
    found: Trainings, numbers: dict[str, int]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return header and rows of the networks that were trained, best first."""
    header = (
        *(["class"] if found.has_classes else []),
        "accuracy, %",
        "each seed",
        "learning rate",
        "closed form" if found.scored_by_formula else "score",
        "params",
        "MACs",
        "convolutions",
        "trial",
        "",
    )
    rows = []
    for network in found.networks[:_LISTED]:
        pruned = sum(run.state == TrialState.PRUNED for run in network.runs)
        seeds = [f"{value:.2f}" for value in network.finished] + (
            ["pruned" if pruned == 1 else f"{pruned} pruned"] if pruned else []
        )
        rows.append(
            (
                *([network.label] if found.has_classes else []),
                f"{network.mean:.2f}" if network.finished else "-",
                ", ".join(seeds) or "-",
                f"{network.learning_rate:g}",
                f"{network.score:.2f}" if np.isfinite(network.score) else "-",
                *(
                    f"{network.facts[key]:,.0f}" if key in network.facts else "-"
                    for key in ("params", "macs", "convs")
                ),
                str(numbers.get(network.structure, "-")),
                "winner" if found.is_winner(network) else "",
            )
        )
    return header, rows


def comparison_of(all_found: list[tuple[str, Trainings]]) -> go.Figure:
    """Return the best accuracy so far over epochs of the best network of each of several linked studies."""
    figure = new_figure("epoch", "accuracy, %")
    for (name, found), colour in zip(all_found, _cycle(len(all_found)), strict=True):
        network = found.best
        if network is None:
            continue
        run = max((run for run in network.runs if run.top1 is not None), key=lambda run: run.top1 or 0.0)
        figure.add_scatter(
            x=run.epochs, y=run.accuracies, mode="lines+markers", name=name, line={"color": colour, "width": 2},
            hovertemplate=f"epoch %{{x}}: %{{y:.2f}} %<br>{network.label}<extra>{name}</extra>",
        )  # fmt: skip
    figure.update_xaxes(_epochs(*(found for _, found in all_found)))
    return figure


def _epochs(*all_found: Trainings) -> dict[str, Any]:
    """Return an axis of epochs, whose ticks are whole."""
    runs = [run for found in all_found for network in found.networks for run in network.runs]
    last = max((epoch for run in runs for epoch in run.epochs), default=1)
    return {"dtick": max(1, round(last / 10)), "tickformat": "d", "range": [0, last * 1.04]}


def _cycle(count: int) -> list[str]:
    return [SERIES[index % len(SERIES)] for index in range(count)]
