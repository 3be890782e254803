"""What a picture or a table says of each block of a network, derived from its layers alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from zenopt.core.description import Unit, describe
from zenopt.core.lowering import Layer, lower, unit_out_size, walk_units
from zenopt.latency.parts import network_parts
from zenopt.latency.predict import part_latency_ms
from zenopt.latency.profile import DeviceProfile
from zenopt.report.cells import cells_of, diagram_of
from zenopt.report.graph import Diagram
from zenopt.report.links import Links, Shortcut, links_of


@dataclass(frozen=True)
class BlockFacts:
    """One block with its shapes and costs, for one image.

    Attributes:
        name: Short name of its type, e.g. ``K1K5K1``.
        stage: Stage counted from 1; ``None`` for stem and head.
        depth: Repetitions of the block's unit; of a cell, how many equal ones follow each other.
        convs: Convolutions of its main path in order.
        shortcuts: Residual links, in order.
        gates: Positions of the convolutions that a squeeze-excite gate follows.
        inner_channels: Bottleneck width, where the type has one.
        stride: Side of the input map over side of the output map, rounded.
        latency_ms: Predicted milliseconds per image, where a device is known.
    """

    name: str
    stage: int | None
    depth: int
    convs: tuple[Layer, ...]
    shortcuts: tuple[Shortcut, ...]
    gates: tuple[int, ...]
    in_channels: int
    out_channels: int
    inner_channels: int | None
    kernel: int
    stride: int
    in_size: int
    out_size: int
    params: int
    macs: int
    latency_ms: float | None


@dataclass(frozen=True)
class Anatomy:
    """A network block by block; the last entry is pooling and the classifier.

    Attributes:
        structure: Canonical text of the architecture.
        resolution: Side of the input image in pixels.
        num_classes: Outputs of the classifier.
        blocks: The blocks in order.
        device: Name of the profile behind the latencies, or ``None``.
        cells: Name and diagram of every different cell; nothing for a chain of blocks.
    """

    structure: str
    resolution: int
    num_classes: int
    blocks: tuple[BlockFacts, ...]
    device: str | None
    cells: tuple[tuple[str, Diagram], ...] = ()

    @property
    def params(self) -> int:
        """Parameters of the network."""
        return sum(block.params for block in self.blocks)

    @property
    def macs(self) -> int:
        """Multiply-adds of the network for one image."""
        return sum(block.macs for block in self.blocks)

    @property
    def latency_ms(self) -> float | None:
        """Sum of the blocks' latencies; a device's constant share belongs to no block and is left out."""
        if any(block.latency_ms is None for block in self.blocks):
            return None
        return sum(block.latency_ms or 0.0 for block in self.blocks)


def dissect(
    architecture: Any,
    resolution: int,
    num_classes: int,
    *,
    use_se: bool = False,
    device: DeviceProfile | None = None,
) -> Anatomy:
    """Take a network apart.

    Args:
        architecture:
            An architecture of any family.
        resolution:
            Side of the square input image in pixels.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether squeeze-excite gates exist.
        device:
            Profile that predicts latencies of super-blocks.
    """
    layers = lower(architecture, resolution, num_classes=num_classes, use_se=use_se)
    description = describe(architecture)
    groups: dict[int, list[Layer]] = {}
    for layer in layers:
        groups.setdefault(layer.block, []).append(layer)
    stages = _stages(architecture, resolution)
    times: dict[int, float] = {}
    if device is not None:
        for place, part in enumerate(network_parts(architecture, resolution, num_classes, use_se)):
            index = min(place, description.head_index)
            times[index] = times.get(index, 0.0) + part_latency_ms(device, part)
    facts: list[BlockFacts] = []
    before: Unit | None = None
    for index, own in groups.items():
        unit = description.units[index] if index < description.head_index else None
        found = _facts(own, unit, stages[index] if unit is not None else None, times.get(index), use_se)
        # Equal cells that follow each other are one row; the shape of a chain is its blocks, one by one.
        if unit is not None and unit == before and diagram_of(unit) is not None:
            facts[-1] = _joined(facts[-1], found)
        else:
            facts.append(found)
        before = unit
    return Anatomy(
        structure=str(architecture),
        resolution=resolution,
        num_classes=num_classes,
        blocks=tuple(facts),
        device=device.name if device is not None else None,
        cells=cells_of(architecture),
    )


def _facts(
    layers: list[Layer], unit: Unit | None, stage: int | None, latency_ms: float | None, use_se: bool
) -> BlockFacts:
    convs = tuple(layer for layer in layers if layer.kind == "conv" and layer.role == "body")
    links = Links(use_se) if unit is None else links_of(unit.expand(), use_se)
    outputs = [layer for layer in layers if layer.role in ("body", "head")] or layers
    last = outputs[-1]
    return BlockFacts(
        name="pool, linear" if unit is None else unit.label,
        stage=stage,
        depth=1 if unit is None else unit.repeats,
        convs=convs,
        shortcuts=tuple(links.shortcuts),
        gates=tuple(links.gates),
        in_channels=layers[0].in_channels,
        out_channels=last.out_channels,
        inner_channels=None if unit is None else unit.inner_channels,
        kernel=max((conv.kernel for conv in convs), default=1),
        stride=1 if unit is None else round(layers[0].in_size / last.out_size),
        in_size=layers[0].in_size,
        out_size=last.out_size,
        params=sum(layer.params for layer in layers),
        macs=sum(layer.macs for layer in layers),
        latency_ms=latency_ms,
    )


def _joined(first: BlockFacts, second: BlockFacts) -> BlockFacts:
    """Return a block and an equal one after it as one."""
    times = (first.latency_ms, second.latency_ms)
    return replace(
        first,
        depth=first.depth + second.depth,
        params=first.params + second.params,
        macs=first.macs + second.macs,
        latency_ms=None if None in times else sum(time or 0.0 for time in times),
    )


def _stages(architecture: Any, resolution: int) -> list[int | None]:
    """Stage of each unit: a smaller map opens the next one."""
    stages: list[int | None] = []
    stage = 0
    for unit, size in walk_units(architecture, resolution):
        if not unit.in_stage:
            stages.append(None)
            continue
        in_size = size if isinstance(size, int) else size[-1]
        if stage == 0 or unit_out_size(unit, size) < in_size:
            stage += 1
        stages.append(stage)
    return stages
