"""Costs of an architecture: true counts, and ZenNAS's own counts beside them.

Budgets of published searches were written for ZenNAS's analytic counts, which differ from the truth in a few places;
both are computed from the same layers, so that either can be used knowingly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from math import exp, inf, log, nan
from typing import Any

from zenopt.core.description import Unit, describe
from zenopt.core.lowering import Layer, lower_head, lower_unit, unit_out_size, walk_units

BYTES_PER_NUMBER = 4


@dataclass(frozen=True)
class CostKind:
    """What a cost is, for people and for whoever limits it.

    Attributes:
        title: Its name in tables and figures.
        limit: What a limit on it means, as documentation.
        is_lower: Whether a limit on it is a least value.
    """

    title: str
    limit: str
    is_lower: bool = False


#: Every cost that can be a budget, an objective, a class and a column: one line here, and a field of :class:`Costs`.
COST_KINDS = {
    "params": CostKind("params", "Most parameters."),
    "macs": CostKind("MACs", "Most multiply-adds for one image."),
    "layers": CostKind("layers", "Largest sum of block depths, the layer count of Zen-NAS."),
    "convs": CostKind("convolutions", "Most convolutions on the main path."),
    "min_width": CostKind(
        "narrowest width", "Fewest channels of any convolution on the main path (a lower limit).", True
    ),
    "depth_to_width": CostKind(
        "depth to width", "Largest ratio of convolutions to the geometric mean of their fan-in."
    ),
    "activation_bytes": CostKind(
        "activation bytes",
        "Most bytes of the fp32 outputs of all convolutions and linear layers for one image.",
    ),
}


@dataclass(frozen=True)
class Costs:
    """What a network costs, for one image.

    Attributes:
        params: Trainable numbers; equals the built network's.
        macs: Multiply-adds of convolutions and linear layers; equals half of torch's FlopCounterMode.
        layers: Sum of block depths, ZenNAS's count (a K1KXK1 unit counts 1 though it holds six convolutions).
        convs: Convolutions on the main path; no shortcuts, no squeeze-excite.
        activation_bytes: Bytes of the fp32 outputs of all convolutions and linear layers ("activations" of fvcore and
            of Radosavovic et al. 2020, times 4).
        min_width: Fewest output channels of any main-path convolution.
        depth_to_width: DeepMAD's ratio rho = L / w (Shen et al. 2023): L main-path convolutions, w the geometric mean
            of their fan-in (input channels per group times kernel squared).
        zennas_params, zennas_flops: What ZenNAS's ``get_model_size`` and ``get_FLOPs`` report. The latter counts
            multiply-adds, plus BN and parts of SE, and undercounts strided shortcuts.
    """

    params: int
    macs: int
    layers: int
    convs: int
    activation_bytes: int
    min_width: int
    depth_to_width: float
    zennas_params: int
    zennas_flops: float

    @classmethod
    def recorded(cls, known: Mapping[str, float]) -> Costs:
        """Return costs that were read somewhere instead of being counted; what is not known is NaN."""
        values: dict[str, Any] = {field.name: known.get(field.name, nan) for field in fields(cls)}
        return cls(**values)

    def counted(self, counting: str) -> tuple[float, float]:
        """Return (params, macs) under ``counting``: ``"true"`` or ``"zennas"``."""
        return (self.zennas_params, self.zennas_flops) if counting == "zennas" else (self.params, self.macs)


@dataclass(frozen=True, slots=True)
class PartCosts:
    """Costs of a unit or of the head."""

    params: int
    macs: int
    convs: int
    activations: int
    min_width: float
    log_fan_in: float
    zennas_params: int
    zennas_flops: float


def count(
    architecture: Any,
    resolution: int,
    num_classes: int = 1000,
    *,
    use_se: bool = False,
    residual: bool = True,
) -> Costs:
    """Count the costs of an architecture.

    Args:
        architecture:
            Anything with a :class:`~zenopt.core.description.Description`, or without a network but with
            ``recorded_costs``.
        resolution:
            Side of the square input image in pixels.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether squeeze-excite gates are counted.
        residual:
            Whether shortcuts are counted (Zen-NAS budgets count them, its scored networks have none).

    Returns:
        The costs. Those of units are cached, so that a search pays microseconds.

    Raises:
        StructureError: If a number is not positive, or an option does not fit the family.
    """
    recorded = getattr(architecture, "recorded_costs", None)
    if isinstance(recorded, Costs):
        return recorded
    units = walk_units(architecture, resolution, use_se, residual)
    floor_units = walk_units(architecture, resolution, use_se, residual, True)
    parts = [
        unit_costs(unit, sizes, floor_sizes, use_se, residual)
        for (unit, sizes), (_, floor_sizes) in zip(units, floor_units, strict=True)
    ]
    size = unit_out_size(*units[-1])
    parts.append(_part(lower_head(architecture, size, num_classes)))
    convs = sum(part.convs for part in parts)
    zennas_flops = sum(part.zennas_flops for part in parts)
    depth = describe(architecture).depth
    narrowest = min(part.min_width for part in parts)
    return Costs(
        params=sum(part.params for part in parts),
        macs=sum(part.macs for part in parts),
        layers=convs if depth is None else depth,
        convs=convs,
        activation_bytes=BYTES_PER_NUMBER * sum(part.activations for part in parts),
        min_width=0 if narrowest == inf else int(narrowest),
        depth_to_width=convs / exp(sum(part.log_fan_in for part in parts) / max(1, convs)),
        zennas_params=sum(part.zennas_params for part in parts),
        zennas_flops=int(zennas_flops) if zennas_flops == int(zennas_flops) else zennas_flops,
    )


@lru_cache(maxsize=65_536)
def unit_costs(
    unit: Unit,
    sizes: int | tuple[int, ...],
    floor_sizes: int | tuple[int, ...],
    use_se: bool,
    residual: bool,
) -> PartCosts:
    """Count a unit; ``floor_sizes`` are the sides of its inputs where every size is rounded down."""
    layers = lower_unit(unit, sizes, use_se, residual)
    return _part(layers, lower_unit(unit, floor_sizes, use_se, residual, True))


def _part(layers: Sequence[Layer], floor_layers: Sequence[Layer] | None = None) -> PartCosts:
    """Sum the costs of layers; ``floor_layers`` are the same on sizes rounded down, where they differ."""
    convs = [layer for layer in layers if layer.kind == "conv" and layer.role == "body"]
    weighted = [layer for layer in layers if layer.kind in ("conv", "linear")]
    return PartCosts(
        params=sum(layer.params for layer in layers),
        macs=sum(layer.macs for layer in layers),
        convs=len(convs),
        activations=sum(layer.out_elements for layer in weighted),
        min_width=min((layer.out_channels for layer in convs), default=inf),
        log_fan_in=sum(log(layer.in_channels // layer.groups * layer.kernel**2) for layer in convs),
        zennas_params=sum(_zennas_params(layer) for layer in layers),
        zennas_flops=_zennas_flops(layers if floor_layers is None else floor_layers),
    )


def _zennas_params(layer: Layer) -> int:
    """ZenNAS counts C numbers per BN instead of 2C, none for a shortcut's BN, and one for the classifier's bias."""
    if layer.kind == "linear":
        return layer.in_channels * layer.out_channels + 1
    if layer.kind == "norm" and layer.role == "body":
        return layer.out_channels
    if layer.kind == "norm" and layer.role == "projection":
        return 0
    return layer.params


def _zennas_flops(layers: Iterable[Layer]) -> float:
    """ZenNAS's get_FLOPs of one block, on sizes rounded down.

    Convolution: multiply-adds from the input side, floored. BN: one per element. Gate: 2ce + c + c r^2. Shortcut:
    ``(ci co + co) (r_out / s)^2``, which divides by the stride twice, so strided ones are undercounted fourfold.
    """
    total = 0.0
    for layer in layers:
        if layer.kind == "conv" and layer.role == "body":
            total += (
                layer.in_channels * layer.out_channels * layer.kernel**2 * layer.in_size**2
                // layer.stride**2
                // layer.groups
            )  # fmt: skip
        elif layer.kind == "norm" and layer.role == "body":
            total += layer.out_elements
        elif layer.kind == "conv" and layer.role == "projection":
            total += (layer.in_channels * layer.out_channels + layer.out_channels) * (
                layer.out_size / layer.stride
            ) ** 2
        elif layer.kind == "linear" or (layer.kind == "conv" and layer.role == "se"):
            total += layer.macs
        elif layer.kind == "multiply":
            total += layer.out_channels + layer.out_elements
    return total
