"""A block of one's own, and a space that searches it: residual units of grouped convolutions.

The block says which primitive operations it is made of. Counts, closed form, predicted latency, the torch module and
the structure string follow from that. ``examples/grouped.yaml`` names the space as ``custom_block:GroupedSpace``; every
command takes the file, or the module where it is installed, as ``--import``::

    zenopt optimize --import examples/custom_block.py --study examples/grouped.yaml --trials 50
    zenopt export-best --import examples/custom_block.py --study grouped --output grouped-bundle
    zenopt train --import examples/custom_block.py --bundle grouped-bundle --data imagefolder:PATH --output runs/grouped
"""

from __future__ import annotations

from dataclasses import dataclass

from zenopt.core.primitives import Conv, Node, Norm, Relu, Residual, conv_norm, project
from zenopt.spaces.chain.architecture import ResidualBlock, register_block
from zenopt.spaces.chain.space import ChainSpace


@register_block("GroupedW{group_width}K{kernel}", group_width=(4, 8), kernel=(3, 5))
@dataclass(frozen=True)
class Grouped(ResidualBlock):
    """``depth`` residual units: 1x1, grouped k x k of ``group_width`` channels per group, 1x1.

    The name's fields are fields of the class; a structure reads ``GroupedW8K3(16,32,2,16,1)``.
    """

    group_width: int
    kernel: int

    def expand(self) -> tuple[Node, ...]:
        """Return the operations in order; the first unit has the stride."""
        nodes: list[Node] = []
        channels, stride, middle = self.in_channels, self.stride, self.bottleneck
        for unit in range(self.depth):
            body = (
                *conv_norm(channels, middle, 1),
                Relu(middle),
                Conv(middle, middle, self.kernel, stride, groups=middle // self.group_width),
                Norm(middle),
                Relu(middle),
                *conv_norm(middle, self.out_channels, 1),
            )
            shortcut = project(channels, self.out_channels, stride, always=unit == 0)
            nodes += [Residual(body, shortcut), Relu(self.out_channels)]
            channels, stride = self.out_channels, 1
        return tuple(nodes)


@dataclass(frozen=True)
class GroupedSpace(ChainSpace):
    """Chains of grouped blocks; the fields of :class:`~zenopt.spaces.chain.space.ChainSpace` are options of a study
    file.
    """

    blocks: tuple[str, ...] = ("GroupedW4K3", "GroupedW4K5", "GroupedW8K3", "GroupedW8K5")
    stage_strides: tuple[int, ...] = (1, 2, 2)
    slots: int = 3
    max_width: int = 256
    max_bottleneck: int = 128
    max_head: int = 512
