"""Residual links and gates of a unit, by the convolutions they go around or follow."""

from __future__ import annotations

from dataclasses import dataclass, field

from zenopt.core.primitives import Branches, Conv, Graph, Node, Residual, SqueezeExcite


@dataclass(frozen=True)
class Shortcut:
    """A residual link around some convolutions of a unit's main path.

    Attributes:
        start, end: It goes around the convolutions ``start`` to ``end - 1``.
        projection: The convolution on it; ``None`` where it has none.
    """

    start: int
    end: int
    projection: Conv | None


@dataclass
class Links:
    """What is found while a unit is walked.

    Attributes:
        use_se: Whether optional gates exist.
        convs: Convolutions of the main path so far.
        shortcuts: Residual links.
        gates: Positions of the convolutions that a squeeze-excite gate follows.
    """

    use_se: bool
    convs: int = 0
    shortcuts: list[Shortcut] = field(default_factory=list)
    gates: list[int] = field(default_factory=list)

    def walk(self, nodes: tuple[Node, ...]) -> None:
        """Walk nodes in the order in which the lowering lists their convolutions."""
        for node in nodes:
            if isinstance(node, Conv):
                self.convs += 1
            elif isinstance(node, SqueezeExcite) and (self.use_se or not node.optional):
                self.gates.append(max(0, self.convs - 1))
            elif isinstance(node, Residual):
                self._around((node.body,), node.projection)
            elif isinstance(node, Branches):
                main = [path for index, path in enumerate(node.paths) if index != node.shortcut]
                if node.shortcut is None:
                    for path in main:
                        self.walk(path)
                else:
                    self._around(tuple(main), node.paths[node.shortcut])
            elif isinstance(node, Graph):
                # The sums of a cell are the cell itself: a diagram shows them.
                for place in node.places():
                    for edge in node.into(place):
                        self.walk(edge.nodes)

    def _around(self, main: tuple[tuple[Node, ...], ...], shortcut: tuple[Node, ...]) -> None:
        start = self.convs
        for path in main:
            self.walk(path)
        projection = next((node for node in shortcut if isinstance(node, Conv)), None)
        self.shortcuts.append(Shortcut(start, self.convs, projection))


def links_of(nodes: tuple[Node, ...], use_se: bool) -> Links:
    """Return the residual links and gates of a unit's nodes."""
    found = Links(use_se)
    found.walk(nodes)
    return found
