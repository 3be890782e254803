"""A plotly figure as a page of its own: needs no network, as wide as can be read, light or dark like other pages."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from zenopt.core.errors import OutputError
from zenopt.core.outputs import prepare_output

#: Ends of the names of files that a figure is written to: a page, or plotly's JSON.
ENDINGS = (".html", ".json")


def lay_out(figure: Any, height: int, *, top: int = 60, **layout: Any) -> Any:
    """Give a figure that stands alone its theme, margins and a legend above it; return it.

    Args:
        figure:
            A ``plotly.graph_objects.Figure``.
        height:
            Pixels.
        top:
            Pixels above the axes, for legend and title.
        **layout:
            Further settings of its layout.
    """
    return figure.update_layout(
        template="plotly_white",
        height=height,
        hovermode="closest",
        margin={"l": 60, "r": 16, "t": top, "b": 50},
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
        **layout,
    )


def write_figure(figure: Any, title: str, words: str, output: str | Path) -> None:
    """Write a figure as an HTML page with a title and words above it, or as plotly's JSON.

    Args:
        figure:
            A ``plotly.graph_objects.Figure``; in the page it does without a title of its own.
        title:
            Title of the page.
        words:
            What it shows, in a sentence or two.
        output:
            A file whose name ends in ``.html`` or ``.json``.

    Raises:
        OutputError: If the ending is another, or the file cannot be written.
    """
    path = prepare_output(output, ENDINGS)
    text = _page(figure, title, words) if path.suffix == ".html" else figure.to_json()
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror}.") from error


def _page(figure: Any, title: str, words: str) -> str:
    # Words of a page break on a phone, those of a figure do not.
    figure.update_layout(title=None, margin_t=90)
    content = figure.to_html(
        full_html=False,
        include_plotlyjs=True,
        div_id="figure",
        config={"responsive": True, "displaylogo": False},
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; }}
h1 {{ font-size: 1.2rem; }}
body {{ margin: 0 auto; max-width: 900px; padding: 8px; font-family: system-ui, "DejaVu Sans", sans-serif; }}
</style></head><body><h1>{escape(title)}</h1><p>{escape(words)}</p>{content}
<script>
const dark = matchMedia("(prefers-color-scheme: dark)");
function colours() {{
  const grid = dark.matches ? "#2a303a" : "#e6e9ef", ink = dark.matches ? "#e6e9ef" : "#1d2430";
  const page = dark.matches ? "#0f1216" : "#ffffff", axes = {{}};
  for (const axis of Object.keys(document.getElementById("figure").layout).filter((key) => /^[xy]axis/.test(key)))
    for (const line of ["gridcolor", "zerolinecolor", "linecolor"]) axes[axis + "." + line] = grid;
  document.body.style.background = page;
  document.body.style.color = ink;
  Plotly.relayout("figure", {{ paper_bgcolor: page, plot_bgcolor: page, "font.color": ink, ...axes }});
}}
dark.addEventListener("change", colours);
colours();
</script></body></html>
"""
