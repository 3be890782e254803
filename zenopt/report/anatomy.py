"""What a picture or a table says of each block of a network, derived from its layers alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from zenopt.core.lowering import Layer, lower
from zenopt.latency.parts import network_parts
from zenopt.latency.predict import part_latency_ms
from zenopt.latency.profile import DeviceProfile
from zenopt.report.graph import Graph, graph_of


@dataclass(frozen=True)
class Shortcut:
    """A residual link around some convolutions of a block.

    Attributes:
        start, end: It goes around ``convs[start:end]``.
        projection: The convolution on it; ``None`` where it is the identity.
    """

    start: int
    end: int
    projection: Layer | None


@dataclass(frozen=True)
class BlockFacts:
    """One block with its shapes and costs, for one image.

    Attributes:
        name: Short name of its type, e.g. ``K1K5K1``.
        stage: Stage counted from 1; ``None`` for stem and head.
        depth: Repetitions of the block's unit.
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
        graph: The cell of a network of cells; ``None`` for a chain of blocks.
    """

    structure: str
    resolution: int
    num_classes: int
    blocks: tuple[BlockFacts, ...]
    device: str | None
    graph: Graph | None = None

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
            A chain of super-blocks, or any architecture with a ``lower`` method that gives layers.
        resolution:
            Side of the square input image in pixels.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether squeeze-excite gates exist.
        device:
            Profile that predicts latencies of super-blocks.
    """
    expand = getattr(architecture, "lower", None)
    if expand is not None:
        layers = expand(resolution, num_classes=num_classes, use_se=use_se)
    else:
        layers = lower(architecture, resolution, num_classes=num_classes, use_se=use_se)
    groups: dict[int, list[Layer]] = {}
    for layer in layers:
        groups.setdefault(layer.block, []).append(layer)
    blocks = tuple(getattr(architecture, "blocks", ()))
    stages = _stages(blocks)
    parts = list(network_parts(architecture, resolution, num_classes, use_se)) if blocks else []
    facts = []
    for position, (index, own) in enumerate(groups.items()):
        block = blocks[index] if index < len(blocks) else None
        latency_ms = part_latency_ms(device, parts[index]) if device is not None and parts else None
        is_head = position == len(groups) - 1
        facts.append(_facts(own, block, stages[index] if block is not None else None, latency_ms, is_head))
    return Anatomy(
        structure=str(architecture),
        resolution=resolution,
        num_classes=num_classes,
        blocks=tuple(facts if blocks else _merged(facts)),
        device=device.name if device is not None else None,
        graph=graph_of(architecture),
    )


def short_name(type_name: str) -> str:
    """Return a block type's name without what all of them share: ``SuperResK1K5K1`` -> ``K1K5K1``."""
    if type_name.startswith("SuperConv"):
        return f"{type_name.removeprefix('SuperConv').removesuffix('BNRELU')} conv"
    return type_name.removeprefix("SuperRes")


def _facts(
    layers: list[Layer], block: Any, stage: int | None, latency_ms: float | None, is_head: bool
) -> BlockFacts:
    convs = tuple(layer for layer in layers if layer.kind == "conv" and layer.role == "body")
    # The additions of a cell are the cell itself, and its graph shows them.
    has_links = block is not None or any(layer.role == "projection" for layer in layers)
    shortcuts, gates = _links(layers) if has_links else ((), ())
    outputs = [layer for layer in layers if layer.role in ("body", "head")] or layers
    last = outputs[-1]
    if block is not None:
        name, depth = short_name(block.type_name), block.depth
    elif is_head:
        name, depth = "pool, linear", 1
    else:
        name, depth = (f"K{convs[0].kernel} conv" if len(convs) == 1 else "block"), 1
    return BlockFacts(
        name=name,
        stage=stage,
        depth=depth,
        convs=convs,
        shortcuts=shortcuts,
        gates=gates,
        in_channels=layers[0].in_channels,
        out_channels=last.out_channels,
        inner_channels=getattr(block, "bottleneck", None),
        kernel=max((conv.kernel for conv in convs), default=1),
        stride=1 if is_head else round(layers[0].in_size / last.out_size),
        in_size=layers[0].in_size,
        out_size=last.out_size,
        params=sum(layer.params for layer in layers),
        macs=sum(layer.macs for layer in layers),
        latency_ms=latency_ms,
    )


def _stages(blocks: tuple[Any, ...]) -> list[int | None]:
    """Stage of each block, counted as the spaces of super-block chains do: a stride opens the next one."""
    stages: list[int | None] = []
    stage = 0
    for block in blocks:
        if not block.is_residual:
            stages.append(None)
            continue
        if stage == 0 or block.stride > 1:
            stage += 1
        stages.append(stage)
    return stages


def _links(layers: list[Layer]) -> tuple[tuple[Shortcut, ...], tuple[int, ...]]:
    """Return the residual links of a block and the positions of its squeeze-excite gates."""
    shortcuts: list[Shortcut] = []
    gates: list[int] = []
    start = convs = 0
    projection: Layer | None = None
    for layer in layers:
        if layer.kind == "conv" and layer.role == "body":
            convs += 1
        elif layer.kind == "conv" and layer.role == "projection":
            projection = layer
        elif layer.kind == "multiply" and layer.role == "se":
            gates.append(convs - 1)
        elif layer.kind == "add":
            shortcuts.append(Shortcut(start, convs, projection))
            start, projection = convs, None
    return tuple(shortcuts), tuple(gates)


def _merged(facts: list[BlockFacts]) -> list[BlockFacts]:
    """Return the blocks of a network of cells, equal neighbours as one."""
    found: list[BlockFacts] = []
    for own in facts:
        if found and _look(found[-1]) == _look(own):
            params, macs = found[-1].params + own.params, found[-1].macs + own.macs
            found[-1] = replace(found[-1], name="cell", depth=found[-1].depth + 1, params=params, macs=macs)
        else:
            found.append(own)
    return found


def _look(block: BlockFacts) -> tuple[Any, ...]:
    """Return what equal blocks have in common, wherever they stand."""
    shapes = tuple((conv.kernel, conv.in_channels, conv.out_channels, conv.groups) for conv in block.convs)
    sizes = (block.in_channels, block.out_channels, block.in_size, block.out_size)
    return shapes, sizes, block.params // block.depth, block.macs // block.depth
