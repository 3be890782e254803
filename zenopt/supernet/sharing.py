"""Curricula of sharing: layers that share weights at first, and part while the training goes on.

Early, few weights that are trained often; later more of them, which disturb each other less (after Zhou et al., "CLOSE:
Curriculum Learning on the Sharing Extent", ECCV 2022, who learn which edges of a cell share). Every layer of a supernet
is there from the start; while some share, all of them stand for their leader, the first one, which alone is trained.
Where they part, the others begin as copies of it, with the moments of the optimiser and of a moving average.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from zenopt.core.errors import SpecError
from zenopt.supernet.layers import Shapes
from zenopt.supernet.shared import union
from zenopt.supernet.splits import Split

if TYPE_CHECKING:
    from zenopt.train.optim import MovingAverage

#: What shares: all parts of a split supernet; all edges of a cell by their operation; those that lead to one place.
Extent = Literal["parts", "edges", "targets"]
#: Layer -> the one whose weights it has.
Leaders = Mapping[str, str]
#: Name of each phase of a training with what shares weights in it.
Shares = Sequence[tuple[str, Sequence[Extent]]]

_EDGE = re.compile(r"/[0-9]+to([0-9]+)_([^/.]+?)(_[0-9]+)?(?=/|$)", re.ASCII)


def leaders_of(layers: Iterable[str], extents: Sequence[Extent], split: Split, phase: str) -> dict[str, str]:
    """Return the leader of every layer of a supernet.

    Args:
        layers:
            Their names, in order.
        extents:
            What shares.
        split:
            What splits the supernet into parts.
        phase:
            Name of the phase of a schedule, for messages.

    Raises:
        SpecError: If there is nothing that could share so.
    """
    wholes: dict[Extent, Callable[[str], str]] = {
        "parts": split.whole,
        "edges": lambda name: _EDGE.sub(r"/edges_\2", name),
        "targets": lambda name: _EDGE.sub(r"/to\1_\2", name),
    }
    remedies: dict[Extent, str] = {
        "parts": "this supernet is not split; name the parameters that split it (--split)",
        "edges": "this space has no cells with an operation on several edges",
        "targets": "this space has no cells with an operation on several edges to one place",
    }
    own = list(layers)
    shared = own
    for extent in extents:
        merged = [wholes[extent](name) for name in shared]
        if len(set(merged)) == len(set(shared)):
            raise SpecError(f"Phase {phase!r} of the schedule shares {extent}, but {remedies[extent]}.")
        shared = merged
    first: dict[str, str] = {}
    return {name: first.setdefault(group, name) for name, group in zip(own, shared, strict=True)}


def curriculum(shapes: Shapes, shares: Shares, split: Split) -> list[Leaders]:
    """Return the leaders of all layers in each phase of a training; nothing where no phase shares anything.

    Args:
        shapes:
            Of all tensors.
        shares:
            Name of each phase with what shares weights in it.
        split:
            What splits the supernet into parts.

    Raises:
        SpecError: If a phase shares what cannot, or what has parted before.
    """
    if not any(extents for _, extents in shares):
        return []
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in shapes))
    found: list[Leaders] = []
    for phase, extents in shares:
        own = leaders_of(layers, extents, split, phase)
        if found and any(found[-1][layer] != found[-1][leader] for layer, leader in own.items()):
            raise SpecError(
                f"Phase {phase!r} of the schedule shares what has parted before; a phase may share only what the one "
                "before it shares."
            )
        found.append(own)
    return found


def widened(shapes: Shapes, leaders: Leaders) -> Shapes:
    """Return shapes of which those of layers that share are equal: as large as any of them needs."""
    led: dict[str, str] = {}
    for name in shapes:
        layer, _, tensor = name.rpartition(".")
        led[name] = f"{leaders[layer]}.{tensor}"
    wide = union({led[name]: shape} for name, shape in shapes.items())
    return {name: wide[leader] for name, leader in led.items()}


@torch.no_grad()
def part_ways(
    layers: nn.ModuleDict,
    before: Leaders,
    after: Leaders,
    optimizer: torch.optim.Optimizer,
    average: MovingAverage | None,
    prefix: str,
) -> None:
    """Let layers begin as copies of those that led them, with what the optimiser and a moving average know.

    Args:
        layers:
            All of a supernet.
        before, after:
            Their leaders until now, and from now on.
        optimizer, average:
            What trains them; changed in place.
        prefix:
            What stands before the names of layers in those of the average's tensors.
    """
    for layer, leader in after.items():
        old = before[layer]
        if layer != leader or layer == old:
            continue
        theirs = dict(layers[old].named_parameters())
        for name, own in layers[layer].named_parameters():
            own.copy_(theirs[name])
            known = optimizer.state.get(theirs[name], {})
            optimizer.state[own] = {
                item: value.clone() if isinstance(value, torch.Tensor) else value
                for item, value in known.items()
            }
            if average is not None:
                average.state[f"{prefix}{layer}.{name}"].copy_(average.state[f"{prefix}{old}.{name}"])
