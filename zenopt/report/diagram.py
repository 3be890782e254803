"""The picture of a diagram of operations, in the style of the pictures of networks."""

from __future__ import annotations

from html import escape
from typing import Any

from zenopt.report.graph import Box, Diagram, Layout, lay_out
from zenopt.report.svg import WIDTH, frame, heading, kernel_class, text

_LAYER, _NODE, _ARROW = 50.0, 24.0, 4.0
_CHARACTER, _PADDING, _APART = 6.4, 18.0, 4.0


def draw_diagram(diagram: Diagram, title: str = "", *, standalone: bool = False) -> str:
    """Draw a diagram from top to bottom.

    Feature maps are outlined, operations filled with the colour of their kernel; what has no weights stays pale.

    Args:
        diagram:
            Boxes and arrows.
        title:
            Line above the picture.
        standalone:
            Include the style sheet, for a file of its own.

    Returns:
        An ``<svg>`` element.
    """
    lines, top = heading(title)
    content, height = diagram_content(diagram, top + 6)
    return frame(lines + content, top + 6 + height, title or "Diagram", standalone=standalone)


def diagram_content(diagram: Diagram, top: float) -> tuple[str, float]:
    """Return the elements of a diagram drawn below ``top``, and their height."""
    layout = lay_out(diagram)
    points = {key: _point(layout, key, top) for key in layout.places}
    parts = [_edge(start, end, points, layout) for start, end in diagram.arrows]
    parts += [_box(box, points[box.key], layout.columns) for box in diagram.boxes]
    return "".join(parts), layout.layers * _LAYER - (_LAYER - _NODE)


def _point(layout: Layout, key: Any, top: float) -> tuple[float, float]:
    layer, place = layout.places[key]
    return place * WIDTH, top + layer * _LAYER + _NODE / 2


def _edge(start: str, end: str, points: dict[Any, tuple[float, float]], layout: Layout) -> str:
    passed = sorted(
        (key for key in layout.places if key[:2] == (start, end) and len(key) == 3), key=lambda key: key[2]
    )
    (x, y), (last_x, last_y) = points[start], points[end]
    y += _NODE / 2
    tip = last_y - _NODE / 2
    path = [f"M{x:.1f} {y:.1f}"]
    for px, py in [*(points[key] for key in passed), (last_x, tip - _ARROW)]:
        middle = (y + py) / 2
        path.append(f"C{x:.1f} {middle:.1f} {px:.1f} {middle:.1f} {px:.1f} {py:.1f}")
        x, y = px, py
    arrow = f"M{last_x - _ARROW:.1f} {tip - 2 * _ARROW:.1f}h{2 * _ARROW:.1f}L{last_x:.1f} {tip:.1f}z"
    return f'<path class="zp-link" d="{"".join(path)}"/><path class="zp-tip" d="{arrow}"/>'


def _box(box: Box, point: tuple[float, float], columns: int) -> str:
    x, y = point
    room = WIDTH / columns - _APART
    letters = max(1, int((room - 8) / _CHARACTER))
    label = box.label if len(box.label) <= letters + 1 else box.short or box.label
    label = label if len(label) <= letters + 1 else f"{label[: letters - 1]}…"
    width = min(room, _CHARACTER * len(label) + _PADDING)
    kernel = "" if box.kernel is None else f" {kernel_class(box.kernel)}"
    radius = _NODE / 2 if box.kind == "state" else 4
    return (
        f'<g class="zp-node zp-{escape(box.kind)}{kernel}"><title>{escape(box.label)}</title>'
        f'<rect x="{x - width / 2:.1f}" y="{y - _NODE / 2:.1f}" width="{width:.1f}" height="{_NODE}" rx="{radius}"/>'
        f"{text(x, y + 4, label, '', 'middle')}</g>"
    )
