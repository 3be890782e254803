"""One HTML file a run: the curves of loss and accuracy, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from zenopt.train.checkpoint import write_file


def write_report(
    path: Path,
    *,
    history: Sequence[dict[str, Any]],
    confusion: torch.Tensor,
    classes: Sequence[str],
    title: str,
) -> None:
    """Write a page that needs no network: plotly is part of it.

    Args:
        path:
            The file.
        history:
            The rows of `metrics.csv`; without any, the page holds the confusion matrix alone.
        confusion:
            `classes x classes` counts; rows are true classes.
        classes:
            Their names.
        title:
            What the page is about.
    """
    figures = ([curves(history, title)] if history else []) + [confusion_matrix(confusion, classes)]
    parts = [
        figure.to_html(full_html=False, include_plotlyjs=number == 0) for number, figure in enumerate(figures)
    ]
    head = '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Training report</title></head><body>\n'
    write_file(path, (head + "\n".join(parts) + "\n</body></html>\n").encode())


def curves(history: Sequence[dict[str, Any]], title: str) -> Any:
    """Return a figure of losses, accuracies and the learning rate over epochs."""
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=3, subplot_titles=("Loss", "Test accuracy, %", "Learning rate"))
    for column, name, key in (
        (1, "train", "train_loss"),
        (1, "test", "test_loss"),
        (2, "top-1", "top1"),
        (2, "top-5", "top5"),
        (3, "learning rate", "lr"),
    ):
        rows = [row for row in history if row[key] is not None]
        figure.add_scatter(
            x=[row["epoch"] for row in rows],
            y=[row[key] for row in rows],
            name=name,
            mode="lines+markers",
            row=1,
            col=column,
        )
    figure.update_xaxes(title_text="epoch")
    figure.update_layout(title=title, template="plotly_white", height=420)
    return figure


def confusion_matrix(confusion: torch.Tensor, classes: Sequence[str]) -> Any:
    """Return a heat map of the share of each true class (rows) predicted as each class, with the counts on hover."""
    import plotly.graph_objects as go

    counts = confusion.double()
    shares = (100 * counts / counts.sum(1, keepdim=True).clamp(min=1)).numpy()
    figure = go.Figure(
        go.Heatmap(
            z=shares,
            x=list(classes),
            y=list(classes),
            customdata=confusion.numpy(),
            colorscale="Blues",
            zmin=0,
            zmax=100,
            hovertemplate="true %{y}<br>predicted %{x}<br>%{z:.1f} % (%{customdata} images)<extra></extra>",
        )
    )
    size = min(1000, 380 + 24 * len(classes))
    figure.update_layout(
        title="Confusion, % of each true class", template="plotly_white", width=size, height=size
    )
    figure.update_xaxes(title_text="predicted", type="category")
    figure.update_yaxes(title_text="true", type="category", autorange="reversed")
    return figure
