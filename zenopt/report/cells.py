"""Cells as diagrams: what a network that branches does between its inputs and its output."""

from __future__ import annotations

from typing import Any

from zenopt.core.description import Unit, describe
from zenopt.core.primitives import Branches, Choice, Conv, Graph, Identity, Node, Pool, Residual, Zero
from zenopt.report.graph import Box, Diagram

#: Different cells that are drawn; a network has one or two kinds.
_MOST = 4


def cells_of(architecture: Any) -> tuple[tuple[str, Diagram], ...]:
    """Return name and diagram of every different cell of an architecture, in the order in which they come."""
    found: dict[Diagram, str] = {}
    for unit in describe(architecture).units:
        diagram = diagram_of(unit)
        if diagram is not None:
            found.setdefault(diagram, unit.label)
    return tuple((name, diagram) for diagram, name in list(found.items())[:_MOST])


def diagram_of(unit: Unit) -> Diagram | None:
    """Return the diagram of a cell; ``None`` for a unit that does not branch."""
    nodes = unit.expand()
    graph = next((node for node in nodes if isinstance(node, Graph)), None)
    return None if graph is None else _diagram(graph, unit.inputs)


def _diagram(graph: Graph, inputs: tuple[int, ...]) -> Diagram:
    """Return places and operations as boxes; an edge without operation is none."""
    places = [*range(graph.inputs), *graph.places()]
    boxes = [Box(f"place{place}", _place(place, graph, inputs), "state") for place in places]
    arrows: list[tuple[str, str]] = []
    for edge in graph.edges:
        if all(isinstance(node, Zero) for node in edge.nodes):
            continue
        key = f"edge{edge.source}-{edge.target}-{len(arrows)}"
        label, kernel = operation_words(edge.nodes)
        boxes.append(Box(key, label, "operation", kernel))
        arrows += [(f"place{edge.source}", key), (key, f"place{edge.target}")]
    if len(graph.outputs) > 1:
        boxes.append(Box("output", "output: all side by side", "state"))
        arrows += [(f"place{place}", "output") for place in graph.outputs]
    return Diagram(tuple(boxes), tuple(arrows))


def _place(place: int, graph: Graph, inputs: tuple[int, ...]) -> str:
    if place < graph.inputs:
        back = inputs[place] if len(inputs) == graph.inputs > 1 else None
        return "input" if back is None else f"{-back} back" if back < -1 else "the one before"
    if graph.outputs == (place,):
        return "output"
    return f"sum {place - graph.inputs + 1}"


def operation_words(nodes: tuple[Node, ...]) -> tuple[str, int | None]:
    """Return an operation in words, and the side of its kernel where it has weights."""
    flat = _flat(nodes)
    convs = [node for node in flat if isinstance(node, Conv)]
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
