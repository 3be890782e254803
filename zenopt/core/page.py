"""A plotly figure as an HTML page of its own."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from zenopt.core.errors import OutputError


def write_page(path: Path, figure: Any, title: str, words: str) -> None:
    """Write a figure as one HTML page that needs no network (``.html``), or as plotly's JSON (any other ending).

    Args:
        path:
            The file.
        figure:
            A ``plotly.graph_objects.Figure``; its title gives way to the page's.
        title, words:
            What stands above it.

    Raises:
        OutputError: If the file cannot be written.
    """
    text = page(figure, title, words) if path.suffix == ".html" else figure.to_json()
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror}.") from error


def page(figure: Any, title: str, words: str) -> str:
    """Return a figure in a page as wide as can be read, light or dark as the reader's other pages are."""
    # Words of the page break on a phone, those of a figure do not.
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
  for (const axis of Object.keys(document.getElementById("figure").layout).filter(name => /^[xy]axis/.test(name)))
    for (const line of ["gridcolor", "zerolinecolor", "linecolor"]) axes[axis + "." + line] = grid;
  document.body.style.background = page;
  document.body.style.color = ink;
  Plotly.relayout("figure", {{ paper_bgcolor: page, plot_bgcolor: page, "font.color": ink, ...axes }});
}}
dark.addEventListener("change", colours);
colours();
</script></body></html>
"""
