"""A network as data: its units in order, and what follows them.

Whatever can be described so is counted, built, timed, drawn and exported by the same code. A *unit* is what networks
are made of: a super-block, a cell, a stem. It is hashable, so that counts and times of units are remembered; a search
meets the same ones again and again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from zenopt.core.errors import StructureError
from zenopt.core.primitives import Branches, Choice, Graph, Node, Residual


@dataclass(frozen=True)
class VertexGraph:
    """A cell as a graph of operations: vertex 0 is its input, the last one its output.

    Attributes:
        operations: Of the vertices between.
        edges: Pairs of vertices, from an earlier to a later one.
    """

    operations: tuple[tuple[Node, ...], ...]
    edges: tuple[tuple[int, int], ...]


class Unit(ABC):
    """A part of a network that takes the output of the part before it. Subclasses are frozen dataclasses.

    Attributes:
        in_channels, out_channels: Channels that enter (see :attr:`input_channels` where there are several inputs) and
            leave.
        inputs: Which earlier outputs it takes, counted back from itself: ``(-1,)`` is the one before. With several, its
            only node is a :class:`~zenopt.core.primitives.Graph`.
        role: ``"head"`` for a unit that belongs to the classifier.
        in_stage: Whether it belongs to a stage; stems and heads do not.
    """

    in_channels: int
    out_channels: int
    inputs: ClassVar[tuple[int, ...]] = (-1,)
    role: ClassVar[Literal["body", "head"]] = "body"
    in_stage: ClassVar[bool] = True

    @property
    def input_channels(self) -> tuple[int, ...]:
        """Channels of each input; where they differ, :attr:`in_channels` are those of the last."""
        return (self.in_channels,) * len(self.inputs)

    @property
    def label(self) -> str:
        """Short name for pictures and tables."""
        return type(self).__name__

    @property
    def repeats(self) -> int:
        """Repetitions of whatever it repeats."""
        return 1

    @property
    def inner_channels(self) -> int | None:
        """Width inside, where it has one of its own."""
        return None

    @property
    def vertices(self) -> VertexGraph | None:
        """A cell whose operations are on its vertices, as pictures show it; ``None`` where they are on edges."""
        return None

    @abstractmethod
    def expand(self) -> tuple[Node, ...]:
        """Return the unit as primitive nodes, in the order of execution."""

    @abstractmethod
    def __str__(self) -> str:
        """Return a text that names it; equal texts are equal units."""


@dataclass(frozen=True)
class Stack(Unit):
    """A unit given by its nodes, for the stems and heads of families whose other units have a type of their own.

    Args:
        name:
            ``"stem"``, ``"head"``, ...
        nodes:
            What it computes.
        in_channels, out_channels:
            As for every unit.
        family:
            Whose it is: stems of different families may have equal widths and nothing else in common.
    """

    name: str
    nodes: tuple[Node, ...]
    in_channels: int
    out_channels: int
    family: str = ""

    in_stage: ClassVar[bool] = False

    @property
    def role(self) -> Literal["body", "head"]:  # type: ignore[override]
        """``"head"`` for the stack of this name."""
        return "head" if self.name == "head" else "body"

    @property
    def label(self) -> str:
        return self.name

    def expand(self) -> tuple[Node, ...]:
        return self.nodes

    def __str__(self) -> str:
        owner = f"{self.family}." if self.family else ""
        return f"{owner}{self.name}({self.in_channels},{self.out_channels})"


@dataclass(frozen=True)
class Auxiliary:
    """A second classifier that only training has: nodes on the output of a unit, their mean, a linear layer with bias.

    Args:
        unit:
            Index of the unit.
        nodes:
            What comes before the mean.
        features:
            Channels that enter the linear layer.
        least_size:
            Side of the smallest output of the unit that the nodes can take, in pixels.
    """

    unit: int
    nodes: tuple[Node, ...]
    features: int
    least_size: int = 1


@dataclass(frozen=True)
class Description:
    """A network before a resolution and a number of classes are known.

    It is the units in order, global average pooling, ``neck`` and a linear classifier with bias.

    Args:
        units:
            The units; the first takes the image's 3 channels.
        names:
            Module names of the units, e.g. ``("stem", "blocks.0", "head")``; by default ``blocks.0``, ``blocks.1``, ...
        neck:
            Nodes between pooling and classifier, on maps of one pixel.
        features:
            Channels that enter the classifier; by default those of the last unit.
        dropout:
            Probability of dropout before the classifier.
        depth:
            Layers in the family's own count; by default its main-path convolutions.
        has_gates:
            Whether ``use_se`` has a meaning.
        has_links:
            Whether residual links can be taken away.
        divisor:
            Resolutions must be multiples of this.
        auxiliary:
            A second classifier for training; it is never counted.
    """

    units: tuple[Unit, ...]
    names: tuple[str, ...] = ()
    neck: tuple[Node, ...] = ()
    features: int = 0
    dropout: float = 0.0
    depth: int | None = None
    has_gates: bool = False
    has_links: bool = False
    divisor: int = 1
    auxiliary: Auxiliary | None = None

    def __post_init__(self) -> None:
        if not self.names:
            object.__setattr__(self, "names", tuple(f"blocks.{index}" for index in range(len(self.units))))
        if not self.features:
            object.__setattr__(self, "features", self.units[-1].out_channels)

    @property
    def head_index(self) -> int:
        """Index of pooling and classifier among the units: that of the unit they share a role with, or the next."""
        return len(self.units) - (self.units[-1].role == "head")

    def check_options(self, what: str, *, use_se: bool = False, residual: bool = True) -> None:
        """Refuse options the network does not have.

        Args:
            what:
                The family in words.
            use_se, residual:
                The options.

        Raises:
            StructureError: If gates are asked for or links are to be taken away, and there are none.
        """
        if use_se and not self.has_gates:
            raise StructureError(
                f"{what} networks have no optional squeeze-excite gates: use_se must be false."
            )
        if not residual and not self.has_links:
            raise StructureError(f"The links of {what} networks are part of them: residual must be true.")


def unit_names(architecture: Any) -> list[str]:
    """Return the texts of the units in order, and ``"head"`` at the index of pooling and classifier."""
    description = describe(architecture)
    return [*map(str, description.units[: description.head_index]), "head"]


def choose(nodes: tuple[Node, ...], picks: Mapping[str, str]) -> tuple[Node, ...]:
    """Replace every :class:`~zenopt.core.primitives.Choice` by the alternative that is picked.

    Args:
        nodes:
            Nodes with choices.
        picks:
            Name of a choice -> value.

    Raises:
        StructureError: If a choice is not picked, or has no such alternative.
    """

    def pick(choice: Choice) -> tuple[Node, ...]:
        allowed = ", ".join(value for value, _ in choice.alternatives)
        if choice.name not in picks:
            raise StructureError(f"The choice {choice.name} is open; pick one of {allowed}.")
        try:
            return choice.pick(picks[choice.name])
        except KeyError:
            raise StructureError(
                f"The choice {choice.name} has no alternative {picks[choice.name]!r}; allowed: {allowed}."
            ) from None

    return replace_choices(nodes, pick)


def replace_choices(nodes: tuple[Node, ...], pick: Callable[[Choice], tuple[Node, ...]]) -> tuple[Node, ...]:
    """Replace every choice, wherever it stands, by the nodes that ``pick`` returns."""
    return replace_nodes(
        nodes, lambda node: replace_choices(pick(node), pick) if isinstance(node, Choice) else None
    )


def replace_nodes(
    nodes: tuple[Node, ...], change: Callable[[Node], tuple[Node, ...] | None]
) -> tuple[Node, ...]:
    """Replace nodes, wherever they stand, by those that ``change`` returns; where it returns ``None`` they stay."""
    found: list[Node] = []
    inner: Callable[[tuple[Node, ...]], tuple[Node, ...]] = lambda part: replace_nodes(part, change)  # noqa: E731
    for node in nodes:
        new = change(node)
        if new is not None:
            found += new
        elif isinstance(node, Choice):
            alternatives = tuple((value, inner(part)) for value, part in node.alternatives)
            found.append(replace(node, alternatives=alternatives))
        elif isinstance(node, Residual):
            found.append(Residual(inner(node.body), inner(node.projection)))
        elif isinstance(node, Branches):
            found.append(replace(node, paths=tuple(map(inner, node.paths))))
        elif isinstance(node, Graph):
            edges = tuple(replace(edge, nodes=inner(edge.nodes)) for edge in node.edges)
            found.append(replace(node, edges=edges))
        else:
            found.append(node)
    return tuple(found)


def describe(architecture: Any) -> Description:
    """Return the description of an architecture.

    Raises:
        StructureError: If it has none.
    """
    found = getattr(architecture, "description", None)
    if not isinstance(found, Description):
        raise StructureError(f"{type(architecture).__name__} has no description, so it is no network.")
    return found
