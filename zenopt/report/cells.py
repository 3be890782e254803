"""Cells as diagrams and as text: what a network that branches does between its inputs and its output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zenopt.core.description import Unit, VertexGraph, describe
from zenopt.core.primitives import Branches, Choice, Conv, Graph, Identity, Node, Pool, Residual, Shift, Zero
from zenopt.report.graph import Box, Diagram

#: Different cells that are drawn; a network has one or two kinds.
_MOST = 4
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


@dataclass(frozen=True)
class Step:
    """An operation: the places it takes the sum of, and the one it leads to.

    Attributes:
        label: In words.
        kernel: Side of its kernel; ``None`` where it has no weights.
    """

    sources: tuple[int, ...]
    target: int
    label: str
    kernel: int | None = None


@dataclass(frozen=True)
class Sketch:
    """A cell as people draw it.

    Attributes:
        places: Names of the inputs, the nodes and the output, numbered from 0 as texts of the family do.
        steps: The operations, by the place they lead to.
        is_joined: Whether the last place is the concatenation of others, its step's sources, and no operation.
        on_vertices: Whether each node is an operation; otherwise nodes are sums, and operations lead to them.
    """

    places: tuple[str, ...]
    steps: tuple[Step, ...]
    is_joined: bool
    on_vertices: bool


def cells_of(architecture: Any) -> tuple[tuple[str, Diagram], ...]:
    """Return name and diagram of every different cell of an architecture, in the order in which they come."""
    return tuple((name, _diagram(sketch)) for name, sketch in sketches_of(architecture))


def sketches_of(architecture: Any) -> tuple[tuple[str, Sketch], ...]:
    """Return name and sketch of every different cell of an architecture, in the order in which they come."""
    found: dict[Sketch, str] = {}
    for unit in describe(architecture).units:
        sketch = sketch_of(unit)
        if sketch is not None:
            found.setdefault(sketch, unit.label)
    return tuple((name, sketch) for sketch, name in list(found.items())[:_MOST])


def diagram_of(unit: Unit) -> Diagram | None:
    """Return the diagram of a cell; ``None`` for a unit that does not branch."""
    sketch = sketch_of(unit)
    return None if sketch is None else _diagram(sketch)


def sketch_of(unit: Unit) -> Sketch | None:
    """Return the sketch of a cell; ``None`` for a unit that does not branch."""
    if unit.vertices is not None:
        return _sketch_of_vertices(unit.vertices)
    graph = next((node for node in unit.expand() if isinstance(node, Graph)), None)
    return None if graph is None else _sketch_of_edges(graph, unit.inputs)


def _sketch_of_vertices(graph: VertexGraph) -> Sketch:
    last = len(graph.operations) + 1
    steps = []
    for vertex in range(1, last + 1):
        sources = tuple(start for start, end in graph.edges if end == vertex)
        words = operation_words(graph.operations[vertex - 1]) if vertex < last else ("side by side", None)
        steps.append(Step(sources, vertex, *words))
    return Sketch(("input", *map(str, range(1, last)), "output"), tuple(steps), True, True)


def _sketch_of_edges(graph: Graph, inputs: tuple[int, ...]) -> Sketch:
    """Return places as nodes and edges as steps; an edge without operation is none.

    What only prepares an input is not drawn: the place it leads to is the input.
    """
    number = {place: place for place in range(graph.inputs)}
    prepared = set()
    for place in graph.places():
        edges = graph.into(place)
        if len(edges) == 1 and not edges[0].drops and edges[0].source < graph.inputs:
            number[place] = edges[0].source
            prepared.add(place)
    nodes = [place for place in graph.places() if place not in prepared]
    number.update((place, graph.inputs + index) for index, place in enumerate(nodes))
    names = [_input_name(place, graph, inputs) for place in range(graph.inputs)]
    names += ["output" if graph.outputs == (place,) else f"node {number[place]}" for place in nodes]
    steps = [
        Step((number[edge.source],), number[edge.target], *operation_words(edge.nodes))
        for place in nodes
        for edge in graph.into(place)
        if not all(isinstance(node, Zero) for node in edge.nodes)
    ]
    is_joined = len(graph.outputs) > 1
    if is_joined:
        steps.append(Step(tuple(number[place] for place in graph.outputs), len(names), "side by side"))
        names.append("output")
    return Sketch(tuple(names), tuple(steps), is_joined, False)


def _input_name(place: int, graph: Graph, inputs: tuple[int, ...]) -> str:
    if len(inputs) != graph.inputs or graph.inputs == 1:
        return "input"
    back = -inputs[place]
    return "before" if back == 1 else f"{back} back"


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


def operation_words(nodes: tuple[Node, ...]) -> tuple[str, int | None]:
    """Return an operation in words, and the side of its kernel where it has weights."""
    flat = _flat(nodes)
    convs = [node for node in flat if isinstance(node, Conv)]
    if any(isinstance(node, Shift) for node in flat):
        return "skip, halved", 1
    pools = [node for node in flat if isinstance(node, Pool)]
    if convs:
        kernel = max(conv.kernel for conv in convs)
        kind = "conv"
        if any(conv.dilation > 1 for conv in convs):
            kind = "dilated"
        elif any(conv.groups > 1 for conv in convs):
            kind = "separable" if len(convs) > 1 else "depthwise"
        return f"{kind} {kernel}×{kernel}", kernel
    if pools:
        word = "avg" if pools[0].kind == "average" else "max"
        return f"{word} pool {pools[0].kernel}×{pools[0].kernel}", None
    choice = next((node for node in flat if isinstance(node, Choice)), None)
    if choice is not None:
        return f"{choice.name}?", None
    named = [type(node).__name__.lower() for node in flat if not isinstance(node, Identity)]
    return (named[0] if named else "identity"), None


def _flat(nodes: tuple[Node, ...]) -> list[Node]:
    found: list[Node] = []
    for node in nodes:
        if isinstance(node, Residual):
            found += _flat(node.body)
        elif isinstance(node, Branches):
            for path in node.paths:
                found += _flat(path)
        else:
            found.append(node)
    return found
