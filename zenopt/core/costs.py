"""Costs of an architecture: true counts, and ZenNAS's own counts beside them.

Budgets of published searches were written for ZenNAS's analytic counts, which differ from the truth in a few places;
both are computed from the same layers, so that either can be used knowingly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import exp, log
from typing import Any

from zenopt.core.lowering import Layer, block_out_size, check_positive, lower, lower_block
from zenopt.spaces.chain.architecture import Architecture, Block

BYTES_PER_NUMBER = 4


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

    def counted(self, counting: str) -> tuple[float, float]:
        """Returns (params, macs) under ``counting``: ``"true"`` or ``"zennas"``."""
        return (self.zennas_params, self.zennas_flops) if counting == "zennas" else (self.params, self.macs)


@dataclass(frozen=True, slots=True)
class _BlockCosts:
    params: int
    macs: int
    convs: int
    activations: int
    min_width: int
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
    """Counts the costs of an architecture.

    Args:
        architecture:
            A chain of super-blocks, or one of another family with a ``lower`` method; its ``layers`` are then its
            main-path convolutions, since it has no block depths.
        resolution:
            Side of the square input image in pixels.
        num_classes:
            Outputs of the classifier.
        use_se:
            Whether squeeze-excite gates are counted.
        residual:
            Whether shortcuts are counted (Zen-NAS budgets count them, its scored networks have none).

    Returns:
        The costs. Block costs are cached, so that a search pays microseconds.
    """
    check_positive(resolution=resolution, num_classes=num_classes)
    if not isinstance(architecture, Architecture):
        return _lowered_costs(architecture, resolution, num_classes, use_se, residual)
    size = floor_size = resolution
    parts = []
    for block in architecture.blocks:
        parts.append(_block_costs(block, size, floor_size, use_se, residual))
        size = block_out_size(block, size)
        floor_size = block_out_size(block, floor_size, True)
    width = architecture.out_channels
    classifier = width * num_classes
    convs = sum(part.convs for part in parts)
    zennas_flops = sum(part.zennas_flops for part in parts) + classifier
    return Costs(
        params=sum(part.params for part in parts) + classifier + num_classes,
        macs=sum(part.macs for part in parts) + classifier,
        layers=architecture.depth,
        convs=convs,
        activation_bytes=BYTES_PER_NUMBER * (sum(part.activations for part in parts) + num_classes),
        min_width=min(part.min_width for part in parts),
        depth_to_width=convs / exp(sum(part.log_fan_in for part in parts) / max(1, convs)),
        # ZenNAS counts the classifier's bias as one number.
        zennas_params=sum(part.zennas_params for part in parts) + classifier + 1,
        zennas_flops=int(zennas_flops) if zennas_flops == int(zennas_flops) else zennas_flops,
    )


@lru_cache(maxsize=16_384)
def _lowered_costs(
    architecture: Any, resolution: int, num_classes: int, use_se: bool, residual: bool
) -> Costs:
    """Counts a whole network from its layers; cached, because neighbouring candidates are met again and again."""
    layers = lower(architecture, resolution, num_classes=num_classes, use_se=use_se, residual=residual)
    body = [layer for layer in layers if layer.kind == "conv" and layer.role == "body"]
    log_fan_in = sum(log(layer.in_channels // layer.groups * layer.kernel**2) for layer in body)
    zennas_flops = _zennas_flops(layers) + sum(layer.macs for layer in layers if layer.kind == "linear")
    return Costs(
        params=sum(layer.params for layer in layers),
        macs=sum(layer.macs for layer in layers),
        layers=len(body),
        convs=len(body),
        activation_bytes=BYTES_PER_NUMBER
        * sum(layer.out_elements for layer in layers if layer.kind in ("conv", "linear")),
        min_width=min((layer.out_channels for layer in body), default=0),
        depth_to_width=len(body) / exp(log_fan_in / max(1, len(body))),
        zennas_params=sum(
            layer.in_channels * layer.out_channels + 1 if layer.kind == "linear" else _zennas_params(layer)
            for layer in layers
        ),
        zennas_flops=int(zennas_flops) if zennas_flops == int(zennas_flops) else zennas_flops,
    )


@lru_cache(maxsize=65_536)
def _block_costs(block: Block, size: int, floor_size: int, use_se: bool, residual: bool) -> _BlockCosts:
    layers = lower_block(block, size, use_se, residual)
    # ZenNAS's sizes differ only after a stride that leaves a remainder; lowering all twice would double the time.
    if floor_size != size or any(layer.in_size % layer.stride for layer in layers):
        floor_layers = lower_block(block, floor_size, use_se, residual, True)
    else:
        floor_layers = layers
    convs = [layer for layer in layers if layer.kind == "conv" and layer.role == "body"]
    return _BlockCosts(
        params=sum(layer.params for layer in layers),
        macs=sum(layer.macs for layer in layers),
        convs=len(convs),
        activations=sum(layer.out_elements for layer in layers if layer.kind == "conv"),
        min_width=min((layer.out_channels for layer in convs), default=block.out_channels),
        log_fan_in=sum(log(layer.in_channels // layer.groups * layer.kernel**2) for layer in convs),
        zennas_params=sum(_zennas_params(layer) for layer in layers),
        zennas_flops=_zennas_flops(floor_layers),
    )


def _zennas_params(layer: Layer) -> int:
    """ZenNAS counts C numbers per BN instead of 2C, and none for a shortcut's BN; SE is exact."""
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
        elif layer.kind == "conv" and layer.role == "se":
            total += layer.macs
        elif layer.kind == "multiply":
            total += layer.out_channels + layer.out_elements
    return total
