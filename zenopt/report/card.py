"""A study or a network as a small card of HTML, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from zenopt.report.anatomy import Anatomy
from zenopt.report.picture import draw
from zenopt.report.trainings import Trainings
from zenopt.report.words import Tiles

# Notebooks bring their own fonts and colours; what is set here holds within the card alone.
_STYLE = """<style>
.zo-card { display: flex; flex-wrap: wrap; gap: 12px 28px; max-width: 900px; padding: 12px 16px; margin: 4px 0;
  border: 1px solid rgba(127, 127, 127, 0.35); border-radius: 8px; line-height: 1.4; }
.zo-card h4 { margin: 0 0 6px; } .zo-words { flex: 1 1 320px; min-width: 0; }
.zo-card svg { flex: 0 1 380px; height: auto; max-width: 100%; }
.zo-facts { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin: 0; }
.zo-facts dt { opacity: 0.7; font-weight: 400; } .zo-facts dd { margin: 0; font-weight: 600; }
.zo-card code { overflow-wrap: anywhere; white-space: pre-wrap; font-size: 0.85em; }
.zo-next { margin: 10px 0 0; } .zo-next code { display: block; }
</style>"""


def card(
    title: str,
    facts: Sequence[tuple[str, str]],
    *,
    anatomy: Anatomy | None = None,
    structure: str = "",
    following: Sequence[str] = (),
    note: str = "",
) -> str:
    """Return a card.

    Args:
        title:
            Its heading.
        facts:
            (label, text) pairs.
        anatomy:
            The network to draw beside them.
        structure:
            Structure string to show.
        following:
            Lines of code that go on from here.
        note:
            A sentence under the facts.
    """
    words = [f"<h4>{escape(title)}</h4>"]
    rows = "".join(f"<dt>{escape(label)}</dt><dd>{escape(text)}</dd>" for label, text in facts)
    words.append(f'<dl class="zo-facts">{rows}</dl>')
    if note:
        words.append(f"<p>{escape(note)}</p>")
    if structure:
        words.append(f"<p><code>{escape(structure)}</code></p>")
    if following:
        lines = "".join(f"<code>{escape(line)}</code>" for line in following)
        words.append(f'<div class="zo-next">Next:{lines}</div>')
    picture = "" if anatomy is None else draw(anatomy, standalone=True)
    return f'{_STYLE}<div class="zo-card"><div class="zo-words">{"".join(words)}</div>{picture}</div>'


def tile_facts(tiles: Tiles, trainings: Sequence[Trainings] = ()) -> list[tuple[str, str]]:
    """Return tiles as facts, each with its remark."""
    facts = [(label, f"{number} ({remark})") for label, number, remark in tiles]
    for found in trainings:
        facts.append((found.kind, found.summary()))
    return facts
