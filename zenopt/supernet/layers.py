"""The layers of a network by name: equal names are what networks of a family share in a supernet.

A name is the place of the unit (:attr:`zenopt.spaces.base.BaseArchitecture.places`) and, inside the unit, which layer
of its kind it is: ``stage2_block1_KXKX/residual0/body/conv1``. Layers that only some networks have (gates, expansions,
further repetitions) thus leave the names of the others as they are. On an edge of a cell the operation is part of the
name, because operations are alternatives: ``blocks_3/0to2_relu-conv3-norm/conv0``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from zenopt.core.description import Unit, describe
from zenopt.core.errors import StructureError
from zenopt.nn.modules import (
    BranchesModule,
    GraphModule,
    ResidualModule,
    SqueezeExciteModule,
    build_nodes,
    build_unit,
)

#: What has weights, and what names call it.
KINDS: tuple[tuple[type[nn.Module], str], ...] = (
    (nn.Conv2d, "conv"),
    (nn.BatchNorm2d, "norm"),
    (nn.Linear, "linear"),
    (ResidualModule, "residual"),
    (SqueezeExciteModule, "gate"),
    (BranchesModule, "branches"),
    (GraphModule, "cell"),
    (nn.Sequential, "sequence"),
)
LAYERS = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
CLASSIFIER, NECK = "classifier", "neck"

#: Shapes of the tensors of layers: ``layer.weight`` -> shape.
Shapes = dict[str, tuple[int, ...]]


def named_layers(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers of a module that have weights, with their names.

    Args:
        module:
            A unit, or a part of one.
        prefix:
            Name of its place.
    """
    if isinstance(module, LAYERS):
        yield prefix, module
        return
    for name, child in named_children(module, prefix):
        yield from named_layers(child, name)


def named_children(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the children of a module with their names."""
    if isinstance(module, GraphModule):
        seen: Counter[str] = Counter()
        for (source, target), edge in zip(module.route, module.edges, strict=True):
            name = f"{source}to{target}_{_operation(edge)}"
            seen[name] += 1
            # Two edges of one cell may join the same places by the same operation.
            yield f"{prefix}/{name}{f'_{seen[name]}' if seen[name] > 1 else ''}", edge
    elif isinstance(module, nn.Sequential):
        counts: Counter[str] = Counter()
        for child in module:
            kind = _kind(child)
            yield f"{prefix}/{kind}{counts[kind]}", child
            counts[kind] += 1
    else:
        for name, child in module.named_children():
            yield f"{prefix}/{name}", child


def layers_of(network: Any) -> dict[str, nn.Module]:
    """Return the layers of a :class:`~zenopt.nn.network.Network` by name.

    Raises:
        StructureError: If two layers of the network have one name: its family's places are not different ones.
    """
    found: dict[str, nn.Module] = {}

    def add(module: nn.Module, place: str) -> None:
        for name, layer in named_layers(module, place):
            if name in found:
                raise StructureError(f"Two layers of {network.architecture} are called {name} in a supernet.")
            found[name] = layer

    for place, unit in zip(network.architecture.places, network.units(), strict=True):
        add(unit, key(place))
    if network.description.neck:
        add(network.neck, NECK)
    add(network.classifier, CLASSIFIER)
    return found


def key(place: str) -> str:
    """Return a place as it stands in names: modules and files of tensors keep dots for themselves."""
    return place.replace(".", "_")


def shapes_of(architecture: Any, num_classes: int, use_se: bool) -> Shapes:
    """Return the shapes of all tensors of an architecture's layers; no network is built where its units are known."""
    found: Shapes = {}
    description = describe(architecture)
    for place, unit in zip(architecture.places, description.units, strict=True):
        found.update((f"{key(place)}{name}", shape) for name, shape in _unit_shapes(unit, use_se).items())
    if description.neck:
        with torch.device("meta"):
            found.update(_tensors(build_nodes(description.neck, use_se=use_se, residual=True), NECK))
    found[f"{CLASSIFIER}.weight"] = (num_classes, description.features)
    found[f"{CLASSIFIER}.bias"] = (num_classes,)
    return found


@lru_cache(maxsize=100_000)
def _unit_shapes(unit: Unit, use_se: bool) -> Shapes:
    return _tensors(_meta_unit(unit, use_se), "")


@lru_cache(maxsize=64)
def _meta_unit(unit: Unit, use_se: bool) -> nn.Module:
    """Return the module of a unit without numbers; the last ones are kept, because several questions follow."""
    with torch.device("meta"):
        return build_unit(unit.expand(), use_se=use_se, residual=True)


def closing_norms(architecture: Any, use_se: bool) -> set[str]:
    """Return the layers of an architecture that end bodies of residuals: with weights of 0, the body adds nothing."""
    units = zip(architecture.places, describe(architecture).units, strict=True)
    return {f"{key(place)}{name}" for place, unit in units for name in _unit_closing_norms(unit, use_se)}


@lru_cache(maxsize=100_000)
def _unit_closing_norms(unit: Unit, use_se: bool) -> frozenset[str]:
    module = _meta_unit(unit, use_se)
    bodies = [inner.body for inner in module.modules() if isinstance(inner, ResidualModule)]
    norms = [
        [inner for inner in body if isinstance(inner, nn.BatchNorm2d) and inner.affine] for body in bodies
    ]
    last = {id(own[-1]) for own in norms if own}
    return frozenset(name for name, layer in named_layers(module, "") if id(layer) in last)


def _tensors(module: nn.Module, prefix: str) -> Shapes:
    return {
        f"{name}.{tensor}": tuple(value.shape)
        for name, layer in named_layers(module, prefix)
        for tensor, value in layer.named_parameters()
    }


def _kind(module: nn.Module) -> str:
    return next((name for kind, name in KINDS if isinstance(module, kind)), type(module).__name__.lower())


def _operation(edge: nn.Module) -> str:
    """Return what an edge computes: everything but the widths."""
    words = []
    for module in edge.modules():
        if isinstance(module, nn.Conv2d):
            grouped = f"g{module.groups}" if module.groups not in (1, module.in_channels) else ""
            depthwise = "dw" if module.groups == module.in_channels > 1 else ""
            dilated = f"d{module.dilation[0]}" if module.dilation[0] > 1 else ""
            words.append(f"{depthwise}conv{module.kernel_size[0]}{dilated}{grouped}")
        elif not isinstance(module, nn.Sequential) and not list(module.children()):
            words.append(_kind(module).removesuffix("module"))
    return "-".join(words)
