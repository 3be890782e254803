"""What can be timed by itself: a whole network, one of its units at the map size it has there, its head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from zenopt.core.description import Unit, describe
from zenopt.core.lowering import unit_out_size, walk_units
from zenopt.core.primitives import Node
from zenopt.latency.operations import Operation, head_operations, unit_operations

if TYPE_CHECKING:
    from torch import nn


class BlockPart(NamedTuple):
    """A unit of a network: a super-block, a cell, a stem.

    Attributes:
        block: The unit.
        in_size: Side of its input map in pixels; of each of them, where it takes several.
        use_se: Whether it has squeeze-excite gates.
    """

    block: Unit
    in_size: int | tuple[int, ...]
    use_se: bool = False

    @property
    def name(self) -> str:
        """Its name in a table, e.g. ``SuperResK3K3(8,16,1,8,1)@32``."""
        sizes = self.in_size if isinstance(self.in_size, int) else ",".join(map(str, self.in_size))
        return f"{self.block}@{sizes}{'+se' if self.use_se else ''}"

    @property
    def identity(self) -> dict[str, Any]:
        """What a stored measurement of it must agree with."""
        return {"block": str(self.block), "in_size": self.in_size, "use_se": self.use_se}

    @property
    def input_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """Channels, height and width of every input."""
        sizes = (self.in_size,) if isinstance(self.in_size, int) else self.in_size
        return tuple(
            (channels, size, size) for channels, size in zip(self.block.input_channels, sizes, strict=True)
        )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the one input that varies: of several the last, the unit before."""
        return self.input_shapes[-1]

    def operations(self) -> tuple[Operation, ...]:
        """Return what it computes for one image."""
        return unit_operations(self.block, self.in_size, self.use_se)

    def build(self) -> nn.Module:
        """Build it with its residual links, as a module of one input; the others are zeros."""
        from zenopt.nn.modules import OneInput, build_unit

        module = build_unit(self.block.expand(), use_se=self.use_se, residual=True)
        return OneInput(module, self.input_shapes[:-1]) if len(self.input_shapes) > 1 else module


class HeadPart(NamedTuple):
    """Global pooling, the neck and the classifier.

    Attributes:
        width: Input channels.
        size: Side of its input map in pixels.
        num_classes: Outputs of the classifier.
        neck: Nodes between pooling and classifier.
        features: Channels that enter the classifier; 0 for ``width``.
    """

    width: int
    size: int
    num_classes: int
    neck: tuple[Node, ...] = ()
    features: int = 0

    @property
    def name(self) -> str:
        """Its name in a table, e.g. ``head(512,10)@4``."""
        through = f",{self.features}" if self.neck else ""
        return f"head({self.width}{through},{self.num_classes})@{self.size}"

    @property
    def identity(self) -> dict[str, Any]:
        """What a stored measurement of it must agree with."""
        neck = [str(self.neck)] if self.neck else []
        return {"head": [self.width, self.size, self.num_classes, *neck]}

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one input."""
        return (self.width, self.size, self.size)

    def operations(self) -> tuple[Operation, ...]:
        """Return what it computes for one image."""
        return head_operations(*self)

    def build(self) -> nn.Module:
        """Build it."""
        from torch import nn

        from zenopt.nn.modules import build_nodes

        return nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            *build_nodes(self.neck, use_se=True, residual=True),
            nn.Flatten(),
            nn.Linear(self.features or self.width, self.num_classes),
        )


Part = BlockPart | HeadPart


class Network(NamedTuple):
    """A whole network, with its residual links.

    Attributes:
        architecture: Its architecture.
        resolution: Side of the square input image in pixels.
        num_classes: Outputs of the classifier.
        use_se: Whether it has squeeze-excite gates.
    """

    architecture: Any
    resolution: int
    num_classes: int = 1000
    use_se: bool = False

    @property
    def identity(self) -> dict[str, Any]:
        """What a stored measurement of it must agree with; the resolution is among the options of a run."""
        return {
            "structure": str(self.architecture),
            "num_classes": self.num_classes,
            "use_se": self.use_se,
        }

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one input."""
        return (3, self.resolution, self.resolution)

    def parts(self) -> list[Part]:
        """Return its units in order, the head last."""
        return list(network_parts(self.architecture, self.resolution, self.num_classes, self.use_se))

    def operations(self) -> list[Operation]:
        """Return what it computes for one image."""
        return [operation for part in self.parts() for operation in part.operations()]

    def build(self) -> nn.Module:
        """Build it."""
        from zenopt.nn import build_network

        return build_network(self.architecture, num_classes=self.num_classes, use_se=self.use_se)


Subject = BlockPart | HeadPart | Network


def network_parts(
    architecture: Any, resolution: int, num_classes: int = 1000, use_se: bool = False
) -> Iterator[Part]:
    """Yield the units of a network in order, then its head."""
    units = walk_units(architecture, resolution, use_se)
    for unit, size in units:
        yield BlockPart(unit, size, use_se)
    description = describe(architecture)
    features = description.features if description.neck else 0
    last = description.units[-1].out_channels
    yield HeadPart(last, unit_out_size(*units[-1]), num_classes, description.neck, features)
