"""Cells as diagrams and as text: what a network that branches does between its inputs and its output."""

from __future__ import annotations

from typing import Any

from zenopt.core.cells import Sketch, sketch_of, sketches_of
from zenopt.core.description import Unit
from zenopt.report.graph import Box, Diagram

#: Words of operations in narrow boxes.
_SHORT = (
    ("separable", "sep"),
    ("dilated", "dil"),
    (" pool", ""),
    ("identity", "skip"),
    ("skip, halved", "skip /2"),
    ("depthwise", "dw"),
)
#: Characters of a place in the text.
_COLUMN = 7


def cells_of(architecture: Any) -> tuple[tuple[str, Diagram], ...]:
    """Return name and diagram of every different cell of an architecture, in the order in which they come."""
    return tuple((name, _diagram(sketch)) for name, sketch in sketches_of(architecture))


def diagram_of(unit: Unit) -> Diagram | None:
    """Return the diagram of a cell; ``None`` for a unit that does not branch."""
    sketch = sketch_of(unit)
    return None if sketch is None else _diagram(sketch)


def _diagram(sketch: Sketch) -> Diagram:
    """Return places and operations as boxes."""
    last = len(sketch.places) - 1
    boxes = [Box("place0", sketch.places[0], "state")]
    if sketch.on_vertices:
        boxes += [
            Box(
                f"place{step.target}",
                f"{step.target}: {step.label}",
                "operation",
                step.kernel,
                f"{step.target}: {_short(step.label)}",
            )
            for step in sketch.steps[:-1]
        ]
        boxes.append(Box(f"place{last}", "output", "state"))
        arrows = [
            (f"place{source}", f"place{step.target}") for step in sketch.steps for source in step.sources
        ]
        return Diagram(tuple(boxes), tuple(arrows))
    boxes += [Box(f"place{place}", name, "state") for place, name in enumerate(sketch.places) if place]
    arrows = []
    for index, step in enumerate(sketch.steps):
        if sketch.is_joined and step.target == last:
            arrows += [(f"place{source}", f"place{last}") for source in step.sources]
            continue
        key = f"step{index}"
        boxes.append(Box(key, step.label, "operation", step.kernel, _short(step.label)))
        arrows += [(f"place{step.sources[0]}", key), (key, f"place{step.target}")]
    return Diagram(tuple(boxes), tuple(arrows))


def _short(label: str) -> str:
    for long, short in _SHORT:
        label = label.replace(long, short)
    return label


def cell_text(name: str, sketch: Sketch) -> str:
    """Return a cell in letters: a column for each place, a line for each operation from ``o`` to ``>``."""
    labels = [step.label.replace("×", "x") for step in sketch.steps]
    left = max(map(len, [name, *labels])) + 2
    heads = "".join(place.removeprefix("node ").center(_COLUMN) for place in sketch.places)
    lines = [f"{name:{left}}{heads}".rstrip()]
    for step, label in zip(sketch.steps, labels, strict=True):
        row = [" "] * (_COLUMN * len(sketch.places))
        for place in range(len(sketch.places)):
            row[_middle(place)] = ":"
        if step.sources:
            first, end = _middle(step.sources[0]), _middle(step.target)
            row[first:end] = "-" * (end - first)
            for source in step.sources:
                row[_middle(source)] = "o"
            row[end] = ">"
        lines.append(f"{label:{left}}{''.join(row)}".rstrip())
    return "\n".join(lines)


def _middle(place: int) -> int:
    return place * _COLUMN + _COLUMN // 2
