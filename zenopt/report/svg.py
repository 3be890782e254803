"""What the pictures of networks share: their size, their style, and the words in them."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

STYLE_FILE = Path(__file__).resolve().parent / "assets" / "picture.css"
#: Width of a picture in SVG units: that of a phone's screen; it scales from there.
WIDTH = 420
_KERNELS = (1, 3, 5, 7)
_TITLE_CHARACTERS, _LINE = 58, 16


def frame(content: str, height: float, title: str, *, standalone: bool) -> str:
    """Return an ``<svg>`` element around some content.

    Args:
        content:
            Elements, laid out in :data:`WIDTH` units.
        height:
            Their height.
        title:
            Label for those who cannot see it.
        standalone:
            Bring style, margin and background along, for a file of its own.
    """
    left, top, width, total = (-10, -8, WIDTH + 20, height + 16) if standalone else (0, 0, WIDTH, height)
    style = f"<style>{STYLE_FILE.read_text(encoding='utf-8')}</style>" if standalone else ""
    size = f' width="{width}" height="{total:.0f}"' if standalone else ""
    page = f'<rect class="zp-page" x="{left}" y="{top}" width="{width}" height="{total:.0f}"/>'
    return (
        f'<svg class="zp" xmlns="http://www.w3.org/2000/svg" viewBox="{left} {top} {width} {total:.0f}"{size} '
        f'role="img" aria-label="{escape(title)}">{style}{page if standalone else ""}'
        f"<title>{escape(title)}</title>{content}</svg>"
    )


def text(x: float, y: float, words: str, css: str = "", anchor: str = "") -> str:
    """Return a line of text; ``anchor`` is ``"middle"`` or ``"end"``."""
    place = f' text-anchor="{anchor}"' if anchor else ""
    return f'<text class="zp-text {css}"{place} x="{x:.0f}" y="{y:.1f}">{escape(words)}</text>'


def heading(title: str) -> tuple[str, float]:
    """Return the lines of a title, broken between its parts, and their height."""
    lines: list[str] = []
    for part in title.split(", ") if title else []:
        if lines and len(lines[-1]) + len(part) + 2 <= _TITLE_CHARACTERS:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    shown = "".join(text(0, 13 + _LINE * index, line, "zp-strong") for index, line in enumerate(lines))
    return shown, _LINE * len(lines)


def kernel_class(kernel: int) -> str:
    """Return the style of a kernel size."""
    return f"zp-k{kernel}" if kernel in _KERNELS else "zp-kx"


def nice_below(value: float) -> int:
    """Return the largest of 1, 2, 4, 5, 8, 10, 20, ... that is not above ``value`` (at least 1)."""
    scale = 10 ** math.floor(math.log10(max(1.0, value)))
    return int(max(factor * scale for factor in (1, 2, 4, 5, 8) if factor * scale <= max(1.0, value)))
