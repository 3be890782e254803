"""The search network of a family of cells: every operation on every edge at once, and how architectures come of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from zenopt.core.description import Description, replace_nodes
from zenopt.core.primitives import Node, Norm

#: Weight of every operation by the name of its choice.
Weights = Mapping[str, Sequence[float]]


class OpenNetwork(ABC):
    """A network whose operations are open; subclasses are frozen dataclasses.

    Attributes:
        family: As of an architecture.
        skip: Name of the operation that passes its input on.
        recipe: Name of the recipe by which its weights are trained unless somebody names another.
    """

    family: ClassVar[str]
    skip: ClassVar[str]
    recipe: ClassVar[str] = "cell-search"

    @property
    @abstractmethod
    def description(self) -> Description:
        """The network as data; its units hold choices, and choices of one name are one choice."""

    @property
    @abstractmethod
    def choices(self) -> dict[str, tuple[str, ...]]:
        """The operations of every choice by its name, in the order of the alternatives."""

    @abstractmethod
    def derive(self, weights: Weights) -> Any:
        """Return the architecture that weights of operations stand for."""

    @abstractmethod
    def only(self, choice: str | None = None, operation: str = "") -> Any:
        """Return the architecture in which nothing but an operation is on the edges of a choice; by default nothing."""

    def skips(self, architecture: Any) -> int:
        """Return how many edges of a derived cell pass their input on; of several cells, of the one with most."""
        return max(cell.count(self.skip) for cell in self.operations_of(architecture))

    @abstractmethod
    def operations_of(self, architecture: Any) -> tuple[tuple[str, ...], ...]:
        """Return the operations of each of an architecture's cells."""


def without_affine(nodes: tuple[Node, ...], *, tracks: bool) -> tuple[Node, ...]:
    """Return nodes whose normalisations have no scale and shift, as in search networks.

    A scale would let an operation make up for its weight in the mixture.

    Args:
        nodes:
            The nodes.
        tracks:
            Whether running statistics are kept.
    """

    def plain(node: Node) -> tuple[Node, ...] | None:
        return (replace(node, affine=False, tracks=tracks),) if isinstance(node, Norm) else None

    return replace_nodes(nodes, plain)
