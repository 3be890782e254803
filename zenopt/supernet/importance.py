"""Which channels a narrower block keeps: the most important ones, as once-for-all sorts them (Cai et al., ICLR 2020).

Channels that one convolution makes and another takes, with nothing but element-wise operations, depthwise convolutions
and gates between them, may change places in all of these without changing what the network computes. A channel is as
important as the weights that take it are large: the sum of their absolute values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from zenopt.core.description import Unit, describe
from zenopt.nn.modules import FUNCTIONS, SqueezeExciteModule, build_unit
from zenopt.supernet.covering import covering
from zenopt.supernet.layers import key, named_children, named_layers

#: Modules that treat every channel by itself and have no weights.
_CHANNELWISE = (*FUNCTIONS.values(), nn.Identity, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)


@dataclass(frozen=True)
class Group:
    """Channels that may change places.

    Attributes:
        made, taken: The layers that make and take them.
        parts: Where they stand: tensors, each with the dimension.
    """

    made: str
    taken: str
    parts: tuple[tuple[str, int], ...]

    def below(self, place: str) -> Group:
        """Return the group of a unit as that of the unit's place."""
        parts = tuple((f"{place}{name}", dimension) for name, dimension in self.parts)
        return replace(self, made=f"{place}{self.made}", taken=f"{place}{self.taken}", parts=parts)


def groups_of(space: Any, use_se: bool) -> dict[Group, int]:
    """Return the groups whose number of channels differs between networks of a space, with the smallest numbers.

    Channels that another layer takes in another network are in no group.
    """
    found: dict[str, Group] = {}
    sizes: dict[str, set[int]] = {}
    mixed: set[str] = set()
    for architecture in covering(space):
        for place, unit in zip(architecture.places, describe(architecture).units, strict=True):
            for one, size in _unit_groups(unit, use_se):
                own = one.below(key(place))
                known = found.setdefault(own.made, own)
                # A gate may stand between the two in some networks.
                parts = tuple(dict.fromkeys((*known.parts, *own.parts)))
                found[own.made] = replace(known, parts=parts)
                sizes.setdefault(own.made, set()).add(size)
                if not one.taken or own.taken != known.taken:
                    mixed.add(own.made)
    return {
        group: min(sizes[made]) for made, group in found.items() if made not in mixed and len(sizes[made]) > 1
    }


@lru_cache(maxsize=65_536)
def _unit_groups(unit: Unit, use_se: bool) -> tuple[tuple[Group, int], ...]:
    with torch.device("meta"):
        return tuple(_groups(build_unit(unit.expand(), use_se=use_se, residual=True), ""))


def _groups(module: nn.Module, prefix: str) -> Iterator[tuple[Group, int]]:
    """Yield the groups inside a module, with their numbers of channels; what leaves a sequence is taken by nobody."""
    made, parts, channels = "", list[tuple[str, int]](), 0
    for name, child in named_children(module, prefix):
        own = [(f"{name}.{tensor}", 0) for tensor, _ in child.named_parameters(recurse=False)]
        if isinstance(child, nn.Conv2d) and child.groups == 1:
            if made:
                yield Group(made, name, (*parts, (f"{name}.weight", 1))), channels
            made, parts, channels = name, own, child.out_channels
        elif isinstance(child, nn.BatchNorm2d) or _is_depthwise(child):
            parts += own
        elif isinstance(child, SqueezeExciteModule):
            parts += _of_gate(child, name)
        elif not isinstance(child, _CHANNELWISE):
            if made:
                yield Group(made, "", ()), channels
            made = ""
        if not isinstance(module, nn.Sequential):
            made = ""
        yield from _groups(child, name)
    if made:
        yield Group(made, "", ()), channels


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels == module.out_channels


def _of_gate(gate: SqueezeExciteModule, name: str) -> list[tuple[str, int]]:
    """Return where the channels of a map stand in its gate: the first convolution takes them, the last makes them."""
    layers = list(named_layers(gate, name))
    places = [index for index, (_, layer) in enumerate(layers) if isinstance(layer, nn.Conv2d)]
    (first, _), behind = layers[places[0]], layers[places[-1] :]
    made = [(f"{own}.{tensor}", 0) for own, layer in behind for tensor, _ in layer.named_parameters()]
    return [(f"{first}.weight", 1), *made]


def resorted(order: torch.Tensor, taken: torch.Tensor, ahead: int) -> torch.Tensor:
    """Return an order of channels with the most important ones first.

    Args:
        order:
            The order so far: places of channels in the tensors.
        taken:
            Weights that take the channels, ``out x channels [x height x width]``.
        ahead:
            How many stay before the others, because narrower blocks were trained with them.
    """
    importance = taken.detach().abs().sum(tuple(d for d in range(taken.ndim) if d != 1))[order]
    ends = (importance[:ahead], importance[ahead:])
    places = (part.argsort(descending=True, stable=True) for part in ends)
    return torch.cat([own[place] for own, place in zip((order[:ahead], order[ahead:]), places, strict=True)])
