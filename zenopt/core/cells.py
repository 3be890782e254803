"""Cells as data: what a network that branches does between its inputs and its output, place by place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zenopt.core.description import Unit, VertexGraph, describe
from zenopt.core.primitives import Branches, Choice, Conv, Graph, Identity, Node, Pool, Residual, Shift, Zero

#: Different cells that are drawn; a network has one or two kinds.
_MOST = 4


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
        inputs: How many of the places are inputs; they come first.
        steps: The operations, by the place they lead to.
        is_joined: Whether the last place is the concatenation of others, its step's sources, and no operation.
        on_vertices: Whether each node is an operation; otherwise nodes are sums, and operations lead to them.
    """

    places: tuple[str, ...]
    inputs: int
    steps: tuple[Step, ...]
    is_joined: bool
    on_vertices: bool


def sketches_of(architecture: Any) -> tuple[tuple[str, Sketch], ...]:
    """Return name and sketch of every different cell of an architecture, in the order in which they come."""
    found: dict[Sketch, str] = {}
    for unit in describe(architecture).units:
        sketch = sketch_of(unit)
        if sketch is not None:
            found.setdefault(sketch, unit.label)
    return tuple((name, sketch) for sketch, name in list(found.items())[:_MOST])


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
    return Sketch(("input", *map(str, range(1, last)), "output"), 1, tuple(steps), True, True)


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
    return Sketch(tuple(names), graph.inputs, tuple(steps), is_joined, False)


def _input_name(place: int, graph: Graph, inputs: tuple[int, ...]) -> str:
    if len(inputs) != graph.inputs or graph.inputs == 1:
        return "input"
    back = -inputs[place]
    return "before" if back == 1 else f"{back} back"


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
