"""A table of measured blocks with one scale factor: the best predictor of a device at hand.

A network's time is the sum of its blocks' times, each measured by itself, times one factor that says what running them
together saves or costs. Blocks that are not in the table get the additive model's time until somebody measures them;
a search fills the table as it goes (:func:`fill_block_table`), because a mutation brings only one new block or two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zenopt.architecture import Block
from zenopt.errors import DeviceError
from zenopt.latency.models import AdditiveModel, LatencyModel, read_coefficients, register_model
from zenopt.latency.operations import Operation
from zenopt.latency.profile import DeviceProfile
from zenopt.lowering import block_out_size

if TYPE_CHECKING:
    from zenopt.latency.cache import MeasurementCache


class TableModel(LatencyModel):
    """Measured blocks times a scale factor, an additive model for the others.

    Args:
        blocks:
            Milliseconds per image of each block measured by itself, by :func:`block_key` and :func:`head_key`.
        scale:
            Time of a whole network over the sum of its blocks.
        additive:
            Model of what is not in the table.
    """

    def __init__(self, blocks: Mapping[str, float], scale: float, additive: AdditiveModel) -> None:
        self.blocks = dict(blocks)
        self.scale = scale
        self.additive = additive

    def operation_times(self, operations: Sequence[Operation]) -> list[float]:
        return self.additive.operation_times(operations)

    def block_ms(self, block: Block, in_size: int, use_se: bool) -> float:
        known = self.blocks.get(block_key(block, in_size, use_se))
        return self.scale * known if known is not None else super().block_ms(block, in_size, use_se)

    def head_ms(self, width: int, size: int, num_classes: int) -> float:
        known = self.blocks.get(head_key(width, size, num_classes))
        return self.scale * known if known is not None else super().head_ms(width, size, num_classes)


def block_key(block: Block, in_size: int, use_se: bool) -> str:
    """Returns the name of a block in a table, e.g. ``SuperResK3K3(8,16,1,8,1)@32``."""
    return f"{block}@{in_size}{'+se' if use_se else ''}"


def head_key(width: int, size: int, num_classes: int) -> str:
    """Returns the name of pooling and classifier in a table, e.g. ``head(512,10)@4``."""
    return f"head({width},{num_classes})@{size}"


def architecture_parts(architecture: Any, resolution: int) -> Iterator[tuple[Block | None, int]]:
    """Yields each block with its input size, then ``None`` with the head's."""
    size = resolution
    for block in architecture.blocks:
        yield block, size
        size = block_out_size(block, size)
    yield None, size


def fill_block_table(
    profile: DeviceProfile,
    architecture: Any,
    resolution: int,
    num_classes: int = 1000,
    use_se: bool = False,
    *,
    cache: MeasurementCache | None = None,
    max_seconds: float = 0.5,
) -> int:
    """Measures the blocks of an architecture that a calibrated profile does not know yet, and adds them.

    Args:
        profile:
            A profile with a block table, calibrated on this device.
        architecture:
            Whose blocks are needed.
        resolution:
            Side of the square input image in pixels.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether squeeze-excite gates are built.
        cache:
            Where measured blocks are looked up and kept, for other processes and later runs.
        max_seconds:
            Time limit of one block.

    Returns:
        How many blocks were added.

    Raises:
        DeviceError: If the profile has no table, or was calibrated on other hardware or versions.
    """
    from zenopt.latency.measure import MeasureOptions, environment, measure_block, measure_head

    model = profile.predictor
    if not isinstance(model, TableModel):
        raise DeviceError(
            f"Device profile {profile.name} has no block table; only calibrated profiles have one."
        )
    options = MeasureOptions(**{**profile.environment["options"], "max_seconds": max_seconds})
    here = environment(options)
    for name in ("device_name", "torch", "threads"):
        if here[name] != profile.environment.get(name):
            raise DeviceError(
                f"Device profile {profile.name} was calibrated with {name} {profile.environment.get(name)!r}, "
                f"here it is {here[name]!r}: calibrate again."
            )
    statistic = str(profile.environment.get("statistic", "median"))
    added = 0
    for block, size in architecture_parts(architecture, resolution):
        if block is None:
            key = head_key(architecture.out_channels, size, num_classes)
            cached: tuple[Any, ...] = (architecture.out_channels, size, num_classes)
        else:
            key = block_key(block, size, use_se)
            cached = (block, size, use_se)
        if key in model.blocks:
            continue
        if block is None:
            measured = measure_head(architecture.out_channels, size, num_classes, options, cache=cache)
        else:
            measured = measure_block(block, size, options, use_se=use_se, cache=cache)
        model.blocks[key] = measured.per_image_ms(statistic)
        profile.cache.pop(cached, None)
        added += 1
    return added


@register_model("table")
def _load_table(model: Mapping[str, Any], batch: int, bytes_per_number: float) -> LatencyModel:
    blocks = {str(name): float(value) for name, value in dict(model["blocks"]).items()}
    scale = float(model["scale"])
    if not 0 < scale < float("inf") or not all(0 <= value < float("inf") for value in blocks.values()):
        raise DeviceError("model.scale must be positive and model.blocks non-negative numbers")
    additive = AdditiveModel(read_coefficients(model), batch, bytes_per_number)
    return TableModel(blocks, scale, additive)
