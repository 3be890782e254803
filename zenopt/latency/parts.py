"""What can be timed by itself: a whole network, one of its super-blocks at the map size it has there, its head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from zenopt.core.lowering import block_out_size
from zenopt.latency.operations import Operation, block_operations, head_operations
from zenopt.spaces.chain.architecture import Block

if TYPE_CHECKING:
    from torch import nn


class BlockPart(NamedTuple):
    """A super-block.

    Attributes:
        block: The block.
        in_size: Side of its input map in pixels.
        use_se: Whether it has squeeze-excite gates.
    """

    block: Block
    in_size: int
    use_se: bool = False

    @property
    def name(self) -> str:
        """Its name in a table, e.g. ``SuperResK3K3(8,16,1,8,1)@32``."""
        return f"{self.block}@{self.in_size}{'+se' if self.use_se else ''}"

    @property
    def identity(self) -> dict[str, Any]:
        """What a stored measurement of it must agree with."""
        return {"block": str(self.block), "in_size": self.in_size, "use_se": self.use_se}

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one input."""
        return (self.block.in_channels, self.in_size, self.in_size)

    def operations(self) -> tuple[Operation, ...]:
        """Returns what it computes for one image."""
        return block_operations(self.block, self.in_size, self.use_se)

    def build(self) -> nn.Module:
        """Builds it with its residual links."""
        from zenopt.nn.modules import build_nodes

        return build_nodes(self.block.expand(), use_se=self.use_se, residual=True)


class HeadPart(NamedTuple):
    """Global pooling and the classifier.

    Attributes:
        width: Input channels.
        size: Side of its input map in pixels.
        num_classes: Outputs of the classifier.
    """

    width: int
    size: int
    num_classes: int

    @property
    def name(self) -> str:
        """Its name in a table, e.g. ``head(512,10)@4``."""
        return f"head({self.width},{self.num_classes})@{self.size}"

    @property
    def identity(self) -> dict[str, Any]:
        """What a stored measurement of it must agree with."""
        return {"head": [self.width, self.size, self.num_classes]}

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one input."""
        return (self.width, self.size, self.size)

    def operations(self) -> tuple[Operation, ...]:
        """Returns what it computes for one image."""
        return head_operations(self.width, self.size, self.num_classes)

    def build(self) -> nn.Module:
        """Builds it."""
        from torch import nn

        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(self.width, self.num_classes))


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
        """Returns its blocks in order, the head last; only chains of super-blocks have parts."""
        return list(network_parts(self.architecture, self.resolution, self.num_classes, self.use_se))

    def operations(self) -> list[Operation]:
        """Returns what it computes for one image."""
        return [operation for part in self.parts() for operation in part.operations()]

    def build(self) -> nn.Module:
        """Builds it."""
        from zenopt.nn import build_network

        return build_network(self.architecture, num_classes=self.num_classes, use_se=self.use_se)


Subject = BlockPart | HeadPart | Network


def network_parts(
    architecture: Any, resolution: int, num_classes: int = 1000, use_se: bool = False
) -> Iterator[Part]:
    """Yields the blocks of a chain of super-blocks in order, then its head."""
    size = resolution
    for block in architecture.blocks:
        yield BlockPart(block, size, use_se)
        size = block_out_size(block, size)
    yield HeadPart(architecture.out_channels, size, num_classes)
