"""The body of a block in a picture: its convolutions as slabs, its shortcuts as brackets, its gates as dots."""

from __future__ import annotations

from zenopt.core.lowering import Layer
from zenopt.report.anatomy import BlockFacts
from zenopt.report.links import Shortcut
from zenopt.report.svg import kernel_class

#: Middle of the slabs, and the width of the widest, in SVG units.
BODY_X, BODY_WIDTH = 142, 164
_SLAB, _GAP = 3.2, 0.6
_BRACKET, _CORNER = 6.0, 2.0
_MARK = 4.4


def body_height(block: BlockFacts) -> float:
    """Return how tall the slabs of a block are together."""
    return len(block.convs) * (_SLAB + _GAP)


def is_grouped(conv: Layer) -> bool:
    """Return whether a convolution is depthwise or grouped."""
    return conv.groups > 1


def slabs(block: BlockFacts, y: float, height: float, widest: int) -> str:
    """Return the body of a block in the middle of a row.

    Args:
        block:
            The block.
        y, height:
            The row.
        widest:
            Channels that are drawn :data:`BODY_WIDTH` wide.
    """
    top = y + (height - body_height(block)) / 2
    widths = [max(1.5, BODY_WIDTH * conv.out_channels / widest) for conv in block.convs]
    parts = []
    for index, (conv, width) in enumerate(zip(block.convs, widths, strict=True)):
        grouped = " zp-grouped" if is_grouped(conv) else ""
        parts.append(
            f'<rect class="zp-slab {kernel_class(conv.kernel)}{grouped}" x="{BODY_X - width / 2:.1f}" '
            f'y="{top + index * (_SLAB + _GAP):.1f}" width="{width:.1f}" height="{_SLAB}"/>'
        )
    left = BODY_X - max(widths, default=0.0) / 2 - _BRACKET
    parts += [_bracket(shortcut, left, top) for shortcut in block.shortcuts]
    for index in block.gates:
        x, middle = BODY_X + widths[index] / 2 + 5, top + index * (_SLAB + _GAP) + _SLAB / 2
        parts.append(f'<circle class="zp-gate" cx="{x:.1f}" cy="{middle:.1f}" r="1.9"/>')
    return "".join(parts)


def _bracket(shortcut: Shortcut, left: float, top: float) -> str:
    start = top + shortcut.start * (_SLAB + _GAP)
    end = top + shortcut.end * (_SLAB + _GAP) - _GAP
    path = (
        f"M{left + 4:.1f} {start:.1f}H{left + _CORNER:.1f}Q{left:.1f} {start:.1f} {left:.1f} {start + _CORNER:.1f}"
        f"V{end - _CORNER:.1f}Q{left:.1f} {end:.1f} {left + _CORNER:.1f} {end:.1f}H{left + 4:.1f}"
    )
    mark = ""
    if shortcut.projection is not None:
        y = (start + end) / 2 - _MARK / 2
        mark = f'<rect class="zp-projection" x="{left - _MARK / 2:.1f}" y="{y:.1f}" width="{_MARK}" height="{_MARK}"/>'
    return f'<path class="zp-shortcut" d="{path}"/>{mark}'
