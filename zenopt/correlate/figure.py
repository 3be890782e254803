"""Scatter of proxies against accuracies, as one HTML file."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from zenopt.core.errors import DataError
from zenopt.core.statistics import average_ranks
from zenopt.core.tables import Table
from zenopt.correlate.measure import Scores
from zenopt.correlate.report import Correlation, oriented

#: Pixels of one panel.
_PANEL = (300, 280)


def write_figure(
    path: str | Path, table: Table, scores: Scores, correlations: Sequence[Correlation], title: str
) -> None:
    """Write one panel per data set (row) and proxy (column): accuracy over the rank of the score.

    Ranks are what the statistics read, and scores such as synflow span 60 orders of magnitude. Failures are the crosses
    at the lowest rank. The page holds all it needs.

    Raises:
        DataError: If the file cannot be written.
    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    columns = list(dict.fromkeys(item.column for item in correlations))
    proxies = list(dict.fromkeys(item.proxy for item in correlations))
    by_place = {(item.column, item.proxy): item for item in correlations}
    titles = [_panel_title(by_place[column, proxy]) for column in columns for proxy in proxies]
    figure = make_subplots(
        rows=len(columns),
        cols=len(proxies),
        subplot_titles=titles,
        horizontal_spacing=0.15 / len(proxies),
        vertical_spacing=0.3 / max(2, len(columns)),
    )
    for row, column in enumerate(columns, start=1):
        truth = table.column(column)
        for place, proxy in enumerate(proxies, start=1):
            texts = [text for text in scores[proxy] if text in truth]
            ranks = average_ranks([oriented(scores[proxy][text].value, proxy) for text in texts])
            has_failed = [scores[proxy][text].value is None for text in texts]
            figure.add_trace(
                go.Scattergl(
                    x=ranks.tolist(),
                    y=[truth[text] for text in texts],
                    mode="markers",
                    marker={
                        "size": 5,
                        "opacity": 0.6,
                        "color": ["#c0392b" if failed else "#1f6fb2" for failed in has_failed],
                        "symbol": ["x" if failed else "circle" for failed in has_failed],
                    },
                    text=[f"{html.escape(text)}<br>score {scores[proxy][text].value}" for text in texts],
                    hovertemplate="%{text}<br>%{y}<extra></extra>",
                    showlegend=False,
                ),
                row=row,
                col=place,
            )
        figure.update_yaxes(title_text=column, row=row, col=1)
    figure.update_xaxes(title_text="rank of the score", row=len(columns))
    figure.update_annotations(font_size=12)
    figure.update_layout(
        title=title,
        template="plotly_white",
        width=max(640, 100 + _PANEL[0] * len(proxies)),
        height=140 + _PANEL[1] * len(columns),
    )
    try:
        figure.write_html(str(path), include_plotlyjs=True)
    except OSError as error:
        raise DataError(f"Figure {path} cannot be written: {error.strerror}.") from None


def _panel_title(item: Correlation) -> str:
    value = item.statistics.spearman
    if value.value is None:
        return f"{item.proxy}: undefined"
    interval = "" if value.low is None else f" [{value.low:.2f}, {value.high:.2f}]"
    return f"{item.proxy}: {value.value:.2f}{interval}"
